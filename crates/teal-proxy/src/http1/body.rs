//! Where a message's body ends (RFC 9112 section 6 and 7), and how its pieces are written again.

use super::buffer::Buffer;
use super::field::{self, Known};

/// Longest line that announces a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 1024;
/// The trailer section, whole.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_FIELDS: usize = 64;

/// How a message says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// The end of the connection (answers only).
    UntilClose,
}

impl Framing {
    pub(crate) const NONE: Framing = Framing::Length(0);
}

/// The next thing in a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// So many bytes at the front of the buffer; the caller consumes them.
    Data(usize),
    /// The body is over. Trailer lines that may pass, each with its line end.
    End(Vec<u8>),
    /// More bytes must be read.
    Starved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("a chunk is framed wrongly")]
    Chunk,
    #[error("the trailers are malformed or too long")]
    Trailers,
}

#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
}

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::NONE => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkLine,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether an end of the stream now is the end of the body.
    pub(crate) fn ends_with_stream(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Done)
    }

    /// The stream ended where it may.
    pub(crate) fn end(&mut self) {
        self.state = State::Done;
    }

    /// Bytes that are known to come still.
    pub(crate) fn at_least(&self) -> u64 {
        match self.state {
            State::Length(n) | State::ChunkData(n) => n,
            _ => 0,
        }
    }

    /// Uses the framing at the front of the buffer and says what is there.
    pub(crate) fn next(&mut self, buffer: &mut Buffer) -> Result<Piece, BodyError> {
        loop {
            match &mut self.state {
                State::Done => return Ok(Piece::End(Vec::new())),
                _ if buffer.is_empty() => return Ok(Piece::Starved),
                State::UntilClose => return Ok(Piece::Data(buffer.len())),
                State::Length(left) => {
                    let n = take(left, buffer.len());
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(Piece::Data(n));
                }
                State::ChunkData(left) => {
                    let n = take(left, buffer.len());
                    if *left == 0 {
                        self.state = State::ChunkEnd;
                    }
                    return Ok(Piece::Data(n));
                }
                State::ChunkLine => {
                    let Some(line) = line(buffer, MAX_CHUNK_LINE, BodyError::Chunk)? else { return Ok(Piece::Starved) };
                    let size = chunk_size(&buffer.bytes()[..line]).ok_or(BodyError::Chunk)?;
                    buffer.consume(line + 2);
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                }
                State::ChunkEnd => match buffer.bytes() {
                    [b'\r', b'\n', ..] => {
                        buffer.consume(2);
                        self.state = State::ChunkLine;
                    }
                    [b'\r'] => return Ok(Piece::Starved),
                    _ => return Err(BodyError::Chunk),
                },
                State::Trailers => {
                    let Some((used, trailers)) = trailers(buffer.bytes())? else { return Ok(Piece::Starved) };
                    buffer.consume(used);
                    self.state = State::Done;
                    return Ok(Piece::End(trailers));
                }
            }
        }
    }
}

fn take(left: &mut u64, there: usize) -> usize {
    // Cannot fail: the smaller of the two is at most `there`, which is a usize.
    let n = (*left).min(there as u64);
    *left -= n;
    n as usize
}

/// The length of the line at the front, without its CRLF; a bare LF or CR ends nothing.
fn line(buffer: &Buffer, longest: usize, error: BodyError) -> Result<Option<usize>, BodyError> {
    let bytes = buffer.bytes();
    match bytes.iter().position(|b| matches!(b, b'\r' | b'\n')) {
        Some(at) if at > longest => Err(error),
        Some(at) => match &bytes[at..] {
            [b'\r', b'\n', ..] => Ok(Some(at)),
            [b'\r'] => Ok(None),
            _ => Err(error),
        },
        None if bytes.len() > longest => Err(error),
        None => Ok(None),
    }
}

/// `1*HEXDIG` and perhaps extensions, which are dropped (RFC 9112 7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    if digits == 0 || digits > 15 {
        return None;
    }
    let rest = &line[digits..];
    // White space behind the size is what old servers pad it with; nothing of this line is passed on.
    let extension = rest.iter().find(|b| !matches!(b, b' ' | b'\t'));
    if !matches!(extension, None | Some(b';')) || rest.iter().any(|b| *b < b' ' && *b != b'\t') {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

fn trailers(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, BodyError> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Some((2, Vec::new())));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((used, fields))) => {
            let mut lines = Vec::new();
            for header in fields.iter().filter(|header| may_trail(header.name.as_bytes())) {
                field::write(&mut lines, header.name.as_bytes(), header.value);
            }
            Ok(Some((used, lines)))
        }
        Ok(httparse::Status::Partial) if bytes.len() < MAX_TRAILERS => Ok(None),
        _ => Err(BodyError::Trailers),
    }
}

/// Framing, routing and credentials must not come behind the body (RFC 9110 6.5.1).
fn may_trail(name: &[u8]) -> bool {
    matches!(field::known(name), Known::Other) && !field::is_end_to_end(name)
}

/// Appends `data` as the body's next piece.
pub(crate) fn encode(out: &mut Vec<u8>, chunked: bool, data: &[u8]) {
    if chunked {
        chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(data);
    }
}

fn chunk_head(out: &mut Vec<u8>, len: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - len.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(HEX[(len >> (digit * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body.
pub(crate) fn encode_end(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, the trailers once it is over, and how much of the input was used.
    type Decoded = Result<(Vec<u8>, Option<Vec<u8>>, usize), BodyError>;

    /// Decodes `input`, handed over in parts of `step` bytes.
    fn decode(framing: Framing, input: &[u8], step: usize) -> Decoded {
        let (mut decoder, mut buffer, mut body, mut fed) = (Decoder::new(framing), Buffer::default(), Vec::new(), 0);
        loop {
            match decoder.next(&mut buffer)? {
                Piece::Data(n) => {
                    body.extend_from_slice(&buffer.bytes()[..n]);
                    buffer.consume(n);
                }
                Piece::End(trailers) => return Ok((body, Some(trailers), fed - buffer.len())),
                Piece::Starved if fed == input.len() => return Ok((body, None, fed)),
                Piece::Starved => {
                    let n = step.min(input.len() - fed);
                    buffer.append(&input[fed..fed + n]);
                    fed += n;
                }
            }
        }
    }

    #[test]
    fn chunks_are_read_wherever_the_stream_is_cut() {
        let input = b"5\r\nhello\r\nA;ext=\"1\"\r\n0123456789\r\n0\r\nX-Sum: 9\r\nHost: evil\r\n\r\nGET";
        for step in 1..input.len() {
            let (body, trailers, used) = decode(Framing::Chunked, input, step).expect("decoded");
            assert_eq!(body, b"hello0123456789");
            assert_eq!(trailers.as_deref(), Some(&b"X-Sum: 9\r\n"[..]));
            assert_eq!(&input[used..], b"GET");
        }
    }

    #[test]
    fn a_chunk_framed_wrongly_is_refused() {
        for bad in [
            &b"5\nhello\r\n"[..],
            b"5\rhello\r\n",
            b"\r\n",
            b"g\r\n",
            b"0x5\r\nhello\r\n",
            b"-1\r\n",
            b"+5\r\nhello\r\n",
            b"5 5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5\x0b\r\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nbad header\r\n\r\n",
            b"0\r\nX : y\r\n\r\n",
        ] {
            for step in [1, bad.len()] {
                assert!(decode(Framing::Chunked, bad, step).is_err(), "{:?}", String::from_utf8_lossy(bad));
            }
        }
        let endless = vec![b'1'; MAX_CHUNK_LINE + 2];
        assert!(decode(Framing::Chunked, &endless, 100).is_err());
    }

    #[test]
    fn a_length_ends_the_body_and_leaves_what_follows() {
        let (body, trailers, used) = decode(Framing::Length(3), b"abcdef", 2).expect("decoded");
        assert_eq!((body.as_slice(), trailers, used), (&b"abc"[..], Some(Vec::new()), 4 - 1));
        assert_eq!(decode(Framing::NONE, b"abc", 1), Ok((Vec::new(), Some(Vec::new()), 0)));
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for len in [1, 15, 16, 255, 4096, 70_000] {
            let data = vec![b'x'; len];
            let mut out = Vec::new();
            encode(&mut out, true, &data);
            encode_end(&mut out, b"A: b\r\n");
            let (body, trailers, used) = decode(Framing::Chunked, &out, 1000).expect("decoded");
            assert_eq!((body, trailers, used), (data, Some(b"A: b\r\n".to_vec()), out.len()));
        }
    }
}
