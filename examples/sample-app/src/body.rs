//! Reads a request's body by its framing (RFC 9112 section 6), without keeping more than a buffer of it.

use crate::request::{Framing, Gone, Reader};

/// Length and FNV-1a hash of a body, and the body itself when it is wanted.
#[derive(Debug)]
pub struct Body {
    pub length: u64,
    pub hash: u64,
    pub kept: Option<Vec<u8>>,
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
const CHUNK_LINE_MAX_BYTES: usize = 4096;

impl Body {
    pub fn read(reader: &mut Reader<'_>, framing: Framing, keep: bool) -> Result<Self, Gone> {
        let mut body = Self { length: 0, hash: FNV_START, kept: keep.then(Vec::new) };
        match framing {
            Framing::Empty => {}
            Framing::Length(length) => body.take(reader, length)?,
            Framing::Chunked => body.take_chunks(reader)?,
        }
        Ok(body)
    }

    fn take(&mut self, reader: &mut Reader<'_>, mut left: u64) -> Result<(), Gone> {
        while left > 0 {
            if reader.buffered().is_empty() {
                reader.fill()?;
            }
            let here = reader.buffered().len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.add(&reader.buffered()[..here]);
            reader.consume(here);
            left -= here as u64;
        }
        Ok(())
    }

    fn take_chunks(&mut self, reader: &mut Reader<'_>) -> Result<(), Gone> {
        loop {
            let line = take_line(reader)?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size).map_err(|_| Gone::Malformed)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| Gone::Malformed)?;
            if size == 0 {
                while !take_line(reader)?.is_empty() {}
                return Ok(());
            }
            self.take(reader, size)?;
            if !take_line(reader)?.is_empty() {
                return Err(Gone::Malformed);
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        } else {
            self.hash = bytes.iter().fold(self.hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME));
        }
    }
}

/// A line without its CRLF.
fn take_line(reader: &mut Reader<'_>) -> Result<Vec<u8>, Gone> {
    loop {
        if let Some(end) = reader.buffered().windows(2).position(|window| window == b"\r\n") {
            let line = reader.buffered()[..end].to_vec();
            reader.consume(end + 2);
            return Ok(line);
        }
        if reader.buffered().len() > CHUNK_LINE_MAX_BYTES {
            return Err(Gone::Malformed);
        }
        reader.fill()?;
    }
}
