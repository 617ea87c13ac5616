//! One connection: request after request, until either side closes; and, when asked, a line for each step.

use crate::answer::{self, After};
use crate::request::{Gone, Head, Reader};
use crate::serve::App;
use crate::settings::{EarlyAnswer, LogRequests, Speak};
use crate::{log, websocket};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For the first request of a connection, and for the rest of one that has begun, where idle connections have a shorter life.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const RANDOM_REQUESTS_MAX: u64 = 50;
const RANDOM_IDLE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Service,
    Management,
    Echo,
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const TUNNEL: u8 = 2;
const CLOSING: u8 = 3;

/// A connection as the rest of the app knows it.
pub struct Peer {
    pub number: u64,
    pub stream: TcpStream,
    pub from: SocketAddr,
    pub role: Role,
    state: AtomicU8,
    /// Held for a WebSocket frame, so that a drain's goodbye never lands inside one.
    pub frame: Mutex<()>,
}

impl Peer {
    pub fn new(number: u64, stream: TcpStream, from: SocketAddr, role: Role) -> Self {
        Self { number, stream, from, role, state: AtomicU8::new(IDLE), frame: Mutex::new(()) }
    }

    pub fn close_if_idle(&self) {
        if self.change(IDLE, CLOSING) {
            let _ = self.stream.shutdown(Shutdown::Both);
        } else if self.state.load(Ordering::SeqCst) == TUNNEL {
            let _frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = (&self.stream).write_all(&websocket::GOING_AWAY);
        }
    }

    /// False: it is closing, and what just came is too late.
    pub fn begin(&self) -> bool {
        self.change(IDLE, BUSY)
    }

    pub fn end(&self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

const RESET: &str = "rude-reset";

/// Who ended a connection, and why.
type Ending = (&'static str, &'static str);

pub fn serve(app: &App, peer: &Peer) {
    let logged = app.settings.log_requests == LogRequests::Steps;
    if logged {
        log::line(&format!("conn={} opened peer={}", peer.number, peer.from));
    }
    let mut exchanges = Exchanges::new(app, peer);
    let (by, why) = match app.settings.speak {
        Speak::Http => exchanges.run(),
        Speak::Garbage => speak_garbage(&peer.stream),
        Speak::Silent => keep_silent(&peer.stream),
    };
    if logged {
        log::line(&format!("conn={} closed by={by} why={why} requests={}", peer.number, exchanges.count));
    }
    if why != RESET {
        let _ = peer.stream.shutdown(Shutdown::Both);
    }
}

struct Exchanges<'a> {
    app: &'a App,
    peer: &'a Peer,
    reader: Reader<'a>,
    count: u64,
    /// Requests after which a moody connection closes.
    enough: u64,
    idle: Option<Duration>,
    out: Vec<u8>,
}

impl<'a> Exchanges<'a> {
    fn new(app: &'a App, peer: &'a Peer) -> Self {
        let settings = &app.settings;
        let mut idle = settings.keep_alive.filter(|_| peer.role == Role::Service);
        let mut enough = u64::MAX;
        if settings.keep_alive_random && peer.role == Role::Service {
            let dice = scatter(peer.number ^ app.started.elapsed().as_nanos() as u64);
            enough = 1 + dice % RANDOM_REQUESTS_MAX;
            let most = idle.unwrap_or(RANDOM_IDLE).as_millis() as u64;
            idle = Some(Duration::from_millis(1 + (dice >> 32) % most.max(1)));
        }
        let exact = settings.early_answer != EarlyAnswer::No;
        let reader = Reader::new(&peer.stream, exact);
        // Keep-alive is for connections that were used: the first request of a new one gets the time that servers give it.
        reader.set_timeout(idle.map(|_| BODY_TIMEOUT));
        Self { app, peer, reader, count: 0, enough, idle, out: Vec::with_capacity(1024) }
    }

    fn run(&mut self) -> Ending {
        loop {
            let head = match self.reader.head() {
                Ok(head) => head,
                Err(gone) => return self.gone(gone),
            };
            if !self.peer.begin() {
                return ("app", "drain");
            }
            self.count += 1;
            if let Some(ending) = self.exchange(&head) {
                return ending;
            }
            self.peer.end();
            if self.app.draining.load(Ordering::SeqCst) {
                return ("app", "drain");
            }
            if self.count >= self.enough {
                return ("app", "random");
            }
        }
    }

    fn exchange(&mut self, head: &Head) -> Option<Ending> {
        let started = Instant::now();
        let mut exchange = answer::Exchange {
            app: self.app,
            peer: self.peer,
            reader: &mut self.reader,
            head,
            out: &mut self.out,
            number: self.count,
            read: false,
            status: 0,
        };
        if self.idle.is_some() {
            exchange.reader.set_timeout(Some(BODY_TIMEOUT));
        }
        let after = exchange.answer();
        let (read, status) = (exchange.read, exchange.status);
        if self.idle.is_some() {
            self.reader.set_timeout(self.idle);
        }
        if self.app.settings.log_requests == LogRequests::End {
            log::line(&format!(
                "{} {} {} read={} answered={status} us={}",
                tag(self.peer, self.count, head),
                head.method,
                head.path,
                u8::from(read),
                started.elapsed().as_micros()
            ));
        }
        match after {
            Ok(After::KeepOpen) => None,
            Ok(After::Close(why)) => Some(("app", why)),
            Ok(After::Reset) => {
                // A linger time of 0 turns the close into a reset.
                let _ = rustix::net::sockopt::set_socket_linger(&self.peer.stream, Some(Duration::ZERO));
                Some(("app", RESET))
            }
            Ok(After::Silence) => Some(keep_silent(&self.peer.stream)),
            Ok(After::WebSocket) => {
                self.peer.state.store(TUNNEL, Ordering::SeqCst);
                if self.app.draining.load(Ordering::SeqCst) {
                    self.peer.close_if_idle();
                }
                self.reader.set_timeout(None);
                Some(websocket::echo(self.peer, &mut self.reader))
            }
            Err(gone) => Some(self.gone(gone)),
        }
    }

    fn gone(&self, gone: Gone) -> Ending {
        match gone {
            _ if self.peer.state.load(Ordering::SeqCst) == CLOSING => ("app", "drain"),
            Gone::PeerClosed => ("peer", "eof"),
            Gone::PeerReset => ("peer", "reset"),
            Gone::Idle => ("app", "idle"),
            Gone::Malformed => {
                let _ = (&self.peer.stream)
                    .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                ("app", "malformed")
            }
        }
    }
}

/// How the log names a request.
pub fn tag(peer: &Peer, number: u64, head: &Head) -> String {
    format!("conn={} req={number} id={}", peer.number, head.request_id.as_deref().unwrap_or("-"))
}

fn speak_garbage(mut stream: &TcpStream) -> Ending {
    let mut waste = [0; 1024];
    match stream.read(&mut waste) {
        Ok(0) | Err(_) => ("peer", "eof"),
        Ok(_) => {
            let _ = stream.write_all(b"\x15\x03\x01\x00\x02\x02\x0a this is not HTTP\r\n\r\n");
            ("app", "garbage")
        }
    }
}

fn keep_silent(mut stream: &TcpStream) -> Ending {
    let mut waste = [0; 1024];
    while matches!(stream.read(&mut waste), Ok(length) if length > 0) {}
    ("peer", "eof")
}

/// Spreads a number's bits (splitmix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
