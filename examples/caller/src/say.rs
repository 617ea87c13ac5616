//! How the counts leave the container: lines on stdout, and an answer on a port.

use crate::counts::Counts;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A line on stdout, in one write. A reader that went away is no reason to end.
pub fn line(counts: &Counts) {
    let mut text = serde_json::to_string(counts).unwrap_or_default();
    text.push('\n');
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "caller: {text}");
}

/// Answers every request with the counts, for as long as the process lives.
pub fn on_request(listener: &TcpListener, counts: impl Fn() -> Counts) {
    for stream in listener.incoming() {
        if let Err(error) = stream.and_then(|stream| answer(&stream, &counts())) {
            complain(&format!("somebody asked for the counts: {error}"));
        }
    }
}

fn answer(mut stream: &TcpStream, counts: &Counts) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < 16 * 1024 {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..length]);
    }
    let body = serde_json::to_string(counts)?;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

/// Prints what the caller on this port has counted.
pub fn ask(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /counts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("not an answer of a caller"))?;
    let counts: Counts = serde_json::from_str(body)?;
    line(&counts);
    Ok(())
}
