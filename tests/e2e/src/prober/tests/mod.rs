//! Rude servers, and proof that the prober sees each of their ways: a check that cannot fail is worth nothing.

mod failures;
mod manners;
mod questions;
mod websockets;

use super::{Clients, Config, Handle, Pace, Prober, Report, Snapshot};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
pub const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nX-Version: v1\r\nContent-Length: 2\r\n\r\nok";

/// A server with one behaviour, in threads of this process.
pub struct Rude {
    pub address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Rude {
    /// `behave` gets each connection and its number, from 0.
    pub fn start(behave: impl Fn(Visitor, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ended, behave) = (Arc::new(AtomicBool::new(false)), Arc::new(behave));
        let flag = Arc::clone(&ended);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                let (behave, stream) = (Arc::clone(&behave), stream.unwrap());
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || behave(Visitor { stream, buffer: Vec::new() }, number));
            }
        });
        Self { address, ended }
    }

    /// Answers every request with these bytes, and stays open.
    pub fn answering(bytes: &'static [u8]) -> Self {
        Self::start(move |mut visitor, _| while visitor.request().is_some() && visitor.say(bytes) {})
    }

    pub fn config(&self, clients: Clients) -> Config {
        Config { timeout: Duration::from_millis(500), ..Config::new(self.address).with(clients) }
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// The server's side of a connection.
pub struct Visitor {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Visitor {
    /// Head and body of the next request; None when the client left.
    pub fn request(&mut self) -> Option<(String, Vec<u8>)> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if self.buffer.len() >= end + 4 + length {
                    let body = self.buffer[end + 4..end + 4 + length].to_vec();
                    self.buffer.drain(..end + 4 + length);
                    return Some((head, body));
                }
            }
            if !self.more() {
                return None;
            }
        }
    }

    pub fn more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(length) if length > 0 => {
                self.buffer.extend_from_slice(&bytes[..length]);
                true
            }
            _ => false,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Waits until the next request has begun to arrive, and leaves it unread.
    pub fn wait_for_bytes(&self) -> bool {
        matches!(self.stream.peek(&mut [0]), Ok(length) if length > 0)
    }

    /// Closes with a reset.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}

/// A client that waits a little between requests, so that idle connections are really idle.
pub fn calm() -> Clients {
    Clients::steady(1).pace(Pace::Think(Duration::from_millis(5)))
}

/// Runs until the counts are as wanted.
pub fn run_until(config: Config, wanted: impl Fn(&Snapshot) -> bool) -> Report {
    let handle = Prober::start(config).unwrap();
    wait(&handle, wanted);
    handle.stop().unwrap()
}

pub fn wait(handle: &Handle, wanted: impl Fn(&Snapshot) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(&handle.snapshot()) {
        assert!(Instant::now() < deadline, "never came true: {:?}", handle.snapshot());
        std::thread::sleep(Duration::from_millis(2));
    }
}
