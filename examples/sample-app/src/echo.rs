//! The plain TCP port: for every line the version and the same line, for as long as both sides want.

use crate::connection::Peer;
use crate::request::Reader;
use crate::serve::App;
use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::Ordering;

const LINE_MAX_BYTES: usize = 64 * 1024;

pub fn serve(app: &App, peer: &Peer) {
    let mut reader = Reader::new(&peer.stream, false);
    let mut answer = Vec::new();
    while let Some(line) = line(&mut reader) {
        if !peer.begin() {
            break;
        }
        answer.clear();
        answer.extend_from_slice(app.settings.version.as_bytes());
        answer.push(b' ');
        answer.extend_from_slice(&line);
        if (&peer.stream).write_all(&answer).is_err() {
            break;
        }
        peer.end();
        if app.draining.load(Ordering::SeqCst) {
            break;
        }
    }
    let _ = peer.stream.shutdown(Shutdown::Both);
}

/// With its LF. None: the connection ended, or the line does not.
fn line(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = reader.buffered().iter().position(|byte| *byte == b'\n') {
            let line = reader.buffered()[..=end].to_vec();
            reader.consume(line.len());
            return Some(line);
        }
        if reader.buffered().len() > LINE_MAX_BYTES {
            return None;
        }
        reader.fill().ok()?;
    }
}
