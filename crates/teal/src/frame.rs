//! The frames of `exec`: one byte of kind, a u32 length (little-endian), the bytes.

use std::io;
use teal_model::fault::{Code, Fault};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// More in one frame is no frame of ours.
const LONGEST: u32 = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Input,
    Output,
    EndOfInput,
    Exit,
    Fault,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub bytes: Vec<u8>,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Kind::Input, Kind::Output, Kind::EndOfInput, Kind::Exit, Kind::Fault].get(usize::from(byte)).copied()
    }
}

pub async fn write(to: &mut (impl AsyncWrite + Unpin), kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(bytes.len() + 5);
    frame.push(kind as u8);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(bytes);
    to.write_all(&frame).await?;
    to.flush().await
}

/// None: the other side has closed, between two frames or within one.
pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, Fault> {
    let mut head = [0; 5];
    if from.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let [kind, length @ ..] = head;
    let length = u32::from_le_bytes(length);
    let (Some(kind), true) = (Kind::of(kind), length <= LONGEST) else {
        return Err(Fault::new(Code::Internal, format!("the agent sent a frame of kind {kind} with {length} bytes")));
    };
    let mut bytes = vec![0; length as usize];
    Ok(from.read_exact(&mut bytes).await.ok().map(|_| Frame { kind, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent_and_a_cut_one_is_an_end() {
        let mut wire = Vec::new();
        write(&mut wire, Kind::Output, b"hello").await.unwrap();
        write(&mut wire, Kind::Exit, b"3").await.unwrap();
        assert_eq!(wire[..5], [1, 5, 0, 0, 0]);
        wire.extend([1, 9, 0, 0, 0, b'x']);
        let mut from = &wire[..];
        assert_eq!(read(&mut from).await.unwrap(), Some(Frame { kind: Kind::Output, bytes: b"hello".to_vec() }));
        assert_eq!(read(&mut from).await.unwrap(), Some(Frame { kind: Kind::Exit, bytes: b"3".to_vec() }));
        assert_eq!(read(&mut from).await.unwrap(), None);
        assert!(read(&mut &[9u8, 0, 0, 0, 0][..]).await.is_err());
    }
}
