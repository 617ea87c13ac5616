//! A WebSocket that says back what it hears (RFC 6455), frame by frame.

use crate::connection::Peer;
use crate::request::{Gone, Reader};
use std::io::Write;
use std::sync::PoisonError;

const FRAME_MAX_BYTES: u64 = 1 << 20;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xa;
/// A close frame with status 1001, what a draining server says.
pub const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
const PROTOCOL_ERROR: [u8; 4] = [0x88, 0x02, 0x03, 0xea];

/// Echoes until either side closes; says who did, and why.
pub fn echo(peer: &Peer, reader: &mut Reader<'_>) -> (&'static str, &'static str) {
    let mut out = Vec::new();
    loop {
        let frame = match Frame::read(reader) {
            Ok(frame) => frame,
            Err(Gone::Malformed) => {
                let _ = send(peer, &PROTOCOL_ERROR);
                return ("app", "malformed");
            }
            Err(Gone::PeerReset) => return ("peer", "reset"),
            Err(Gone::PeerClosed | Gone::Idle) => return ("peer", "eof"),
        };
        let first = match frame.first & 0x0f {
            OPCODE_PONG => continue,
            OPCODE_PING => 0x80 | OPCODE_PONG,
            _ => frame.first,
        };
        out.clear();
        encode(&mut out, first, &frame.payload);
        if send(peer, &out).is_err() {
            return ("peer", "reset");
        }
        if frame.first & 0x0f == OPCODE_CLOSE {
            return ("peer", "websocket-close");
        }
    }
}

fn send(peer: &Peer, bytes: &[u8]) -> std::io::Result<()> {
    let _frame = peer.frame.lock().unwrap_or_else(PoisonError::into_inner);
    (&peer.stream).write_all(bytes)
}

struct Frame {
    /// Final flag and opcode, as they came.
    first: u8,
    payload: Vec<u8>,
}

impl Frame {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Gone> {
        let head = need(reader, 2)?;
        let (first, second) = (head[0], head[1]);
        reader.consume(2);
        let length = match second & 0x7f {
            126 => take_number(reader, 2)?,
            127 => take_number(reader, 8)?,
            length => u64::from(length),
        };
        // A client's frame is masked; a reserved bit means an extension that nobody agreed to.
        if second & 0x80 == 0 || first & 0x70 != 0 || length > FRAME_MAX_BYTES {
            return Err(Gone::Malformed);
        }
        let mask: [u8; 4] = need(reader, 4)?[..4].try_into().map_err(|_| Gone::Malformed)?;
        reader.consume(4);
        let length = length as usize;
        let mut payload = need(reader, length)?[..length].to_vec();
        reader.consume(length);
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        Ok(Self { first, payload })
    }
}

fn need<'r>(reader: &'r mut Reader<'_>, bytes: usize) -> Result<&'r [u8], Gone> {
    while reader.buffered().len() < bytes {
        reader.fill()?;
    }
    Ok(reader.buffered())
}

fn take_number(reader: &mut Reader<'_>, bytes: usize) -> Result<u64, Gone> {
    let number = need(reader, bytes)?[..bytes].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    reader.consume(bytes);
    Ok(number)
}

fn encode(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
