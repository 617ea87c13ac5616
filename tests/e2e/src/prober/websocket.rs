//! A user with a WebSocket: sends a message, wants to hear the same, waits, sends the next (RFC 6455).

use super::client::{Next, micros, saturated};
use super::drive::Shared;
use super::link::{Came, Link};
use super::random::Random;
use super::record::{Cause, Failure, Kind, Record};
use crate::clock::monotonic_us;
use rustix::io::Errno;

/// The example of RFC 6455 section 1.3: a key whose answer is known needs no SHA-1.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const REST_US: u64 = 10_000;
const HEADERS_MAX: usize = 64;

#[derive(Debug)]
pub struct WebSocket {
    member: u32,
    number: u16,
    group: usize,
    random: Random,
    link: Option<Link>,
    phase: Phase,
    out: Vec<u8>,
    written: usize,
    heard: Vec<u8>,
    message: Vec<u8>,
    sequence: u64,
    version: u16,
    status: u16,
    due_us: u64,
    sent_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Connecting,
    Handshake,
    Open,
    /// A message is sent, its echo not yet heard.
    Talking,
}

impl WebSocket {
    pub fn new(member: u32, number: u16, group: usize, shared: &Shared) -> (Self, u64) {
        let mut random = Random::new(shared.config.seed ^ (u64::from(number) << 32));
        let begin_us = monotonic_us() + random.below(micros(shared.config.websockets[group].every));
        let websocket = Self {
            member,
            number,
            group,
            random,
            link: None,
            phase: Phase::Closed,
            out: Vec::new(),
            written: 0,
            heard: Vec::new(),
            message: Vec::new(),
            sequence: 0,
            version: 0,
            status: 0,
            due_us: 0,
            sent_us: 0,
        };
        (websocket, begin_us)
    }

    pub fn in_flight(&self) -> bool {
        !matches!(self.phase, Phase::Closed | Phase::Open)
    }

    pub fn due(&mut self, shared: &mut Shared) -> Next {
        match self.phase {
            Phase::Closed => self.open(shared),
            Phase::Open => self.talk(shared),
            _ => Next::Event,
        }
    }

    pub fn ready(&mut self, shared: &mut Shared) -> Next {
        if self.phase == Phase::Connecting {
            let Some(link) = &mut self.link else {
                return Next::Event;
            };
            if let Err(error) = link.finish_connect() {
                return self.no_connection(shared, error);
            }
            self.sent_us = monotonic_us();
            self.phase = Phase::Handshake;
        }
        if self.written < self.out.len() {
            self.write(shared);
        }
        self.read(shared)
    }

    pub fn overdue(&mut self, shared: &mut Shared, now_us: u64) -> Next {
        if !self.in_flight() || now_us < self.sent_us + micros(shared.config.timeout) {
            return Next::Event;
        }
        let detail = format!("{:?}", self.phase);
        self.fail(shared, Cause::Timeout, detail)
    }

    fn open(&mut self, shared: &mut Shared) -> Next {
        self.due_us = monotonic_us();
        self.sent_us = self.due_us;
        self.sequence += 1;
        self.status = 0;
        self.version = 0;
        self.written = 0;
        self.heard.clear();
        self.out.clear();
        let path = &shared.config.websockets[self.group].path;
        self.out.extend_from_slice(
            format!("GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n").as_bytes(),
        );
        self.out.extend_from_slice(&shared.common_headers);
        self.out.extend_from_slice(format!("X-Request-Id: {}\r\n\r\n", self.id(shared)).as_bytes());
        match Link::open(shared, self.member) {
            Ok(link) => {
                self.link = Some(link);
                self.phase = Phase::Connecting;
                Next::Event
            }
            Err(error) => self.no_connection(shared, error),
        }
    }

    fn talk(&mut self, shared: &mut Shared) -> Next {
        self.sequence += 1;
        let bytes = shared.config.websockets[self.group].bytes;
        self.message = format!("{} ", self.id(shared)).into_bytes().into_iter().cycle().take(bytes).collect();
        let mask = (self.random.number() as u32).to_be_bytes();
        self.out = frame(0x81, &self.message, mask);
        self.written = 0;
        self.due_us = monotonic_us();
        self.sent_us = self.due_us;
        self.phase = Phase::Talking;
        if self.write(shared) { Next::Event } else { self.read(shared) }
    }

    fn write(&mut self, shared: &mut Shared) -> bool {
        self.link.as_mut().is_some_and(|link| link.send(&shared.epoll, &self.out, &mut self.written))
    }

    fn read(&mut self, shared: &mut Shared) -> Next {
        loop {
            let Some(link) = &self.link else {
                return Next::Event;
            };
            match link.receive(&mut shared.scratch) {
                Came::Nothing => return Next::Event,
                Came::Bytes(length) => {
                    self.heard.extend_from_slice(&shared.scratch[..length]);
                    let next = self.understand(shared);
                    if next != Next::Event || self.link.is_none() {
                        return next;
                    }
                }
                came => return self.broken(shared, came),
            }
        }
    }

    /// Takes every frame that is whole; a close frame may come in one piece with an echo.
    fn understand(&mut self, shared: &mut Shared) -> Next {
        let mut next = Next::Event;
        if self.phase == Phase::Handshake {
            match self.greet(shared) {
                Ok(true) => next = self.succeeded(shared, Kind::WebSocketOpen),
                Ok(false) => return Next::Event,
                Err((cause, detail)) => return self.fail(shared, cause, detail),
            }
        }
        while let Some((first, payload, length)) = take_frame(&self.heard) {
            self.heard.drain(..length);
            match first {
                0x88 => return self.goodbye(shared),
                0x89 => {
                    let pong = frame(0x8a, &payload, [0; 4]);
                    let mut written = 0;
                    if let Some(link) = &mut self.link {
                        link.send(&shared.epoll, &pong, &mut written);
                    }
                }
                0x81 if self.phase == Phase::Talking && payload == self.message => {
                    next = self.succeeded(shared, Kind::WebSocketMessage);
                }
                0x81 => {
                    return self.fail(shared, Cause::WrongBody, format!("{} bytes that are no echo", payload.len()));
                }
                _ => {
                    return self.fail(shared, Cause::Malformed, format!("a frame that begins with {first:#x}"));
                }
            }
        }
        next
    }

    /// True when the handshake is over.
    fn greet(&mut self, shared: &mut Shared) -> Result<bool, (Cause, String)> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&self.heard) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(false),
            Err(error) => return Err((Cause::Malformed, error.to_string())),
        };
        self.status = response.code.unwrap_or(0);
        let value = |name: &str| {
            response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
        };
        self.version = value("x-version").map_or(0, |version| shared.recorder.intern(version));
        if self.status != 101 {
            let cause = Cause::of_status(self.status).unwrap_or(Cause::OtherStatus);
            return Err((cause, format!("status {} instead of 101", self.status)));
        }
        if value("sec-websocket-accept") != Some(ACCEPT) {
            return Err((Cause::Malformed, "a wrong Sec-WebSocket-Accept".to_owned()));
        }
        self.heard.drain(..length);
        Ok(true)
    }

    fn succeeded(&mut self, shared: &mut Shared, kind: Kind) -> Next {
        let now_us = monotonic_us();
        let record = self.as_record(now_us, kind, None);
        shared.recorder.add(record);
        self.phase = Phase::Open;
        Next::At(now_us + micros(shared.config.websockets[self.group].every))
    }

    /// A close frame: orderly, unless a message waits for its echo.
    fn goodbye(&mut self, shared: &mut Shared) -> Next {
        if self.phase == Phase::Talking {
            return self.fail(shared, Cause::WebSocketLost, "a close frame before the echo".to_owned());
        }
        if let Some(link) = &mut self.link {
            link.send(&shared.epoll, &frame(0x88, &[3, 0xe8], [0; 4]), &mut 0);
        }
        shared.recorder.live.websockets_closed += 1;
        self.link = None;
        self.phase = Phase::Closed;
        Next::At(monotonic_us() + REST_US)
    }

    fn broken(&mut self, shared: &mut Shared, came: Came) -> Next {
        let cause = match (self.phase, came) {
            (Phase::Open | Phase::Talking, _) => Cause::WebSocketLost,
            (_, Came::Reset) if self.heard.is_empty() => Cause::Reset,
            (_, Came::Reset) => Cause::ResetInAnswer,
            _ if self.heard.is_empty() => Cause::Closed,
            _ => Cause::Truncated,
        };
        if self.phase == Phase::Open {
            self.due_us = monotonic_us();
            self.sent_us = self.due_us;
        }
        let detail = format!("{came:?} while {:?}", self.phase);
        self.fail(shared, cause, detail)
    }

    fn no_connection(&mut self, shared: &mut Shared, error: Errno) -> Next {
        let cause = if error == Errno::CONNREFUSED { Cause::Refused } else { Cause::NoConnection };
        self.fail(shared, cause, error.to_string())
    }

    fn fail(&mut self, shared: &mut Shared, cause: Cause, detail: String) -> Next {
        let now_us = monotonic_us();
        let kind = match self.phase {
            Phase::Open | Phase::Talking => Kind::WebSocketMessage,
            _ => Kind::WebSocketOpen,
        };
        let record = self.as_record(now_us, kind, Some(cause));
        shared.recorder.add(record);
        let request_id = self.id(shared);
        shared.recorder.explain(|| Failure {
            cause,
            kind,
            client: self.number,
            request_id,
            sent_us: self.sent_us,
            failed_us: now_us,
            on_connection: 1,
            idle_us: 0,
            from: self.link.as_ref().and_then(Link::local),
            detail,
        });
        self.link = None;
        self.phase = Phase::Closed;
        Next::At(now_us + REST_US)
    }

    fn as_record(&self, now_us: u64, kind: Kind, cause: Option<Cause>) -> Record {
        Record {
            due_us: self.due_us,
            late_us: saturated(self.sent_us.saturating_sub(self.due_us)),
            took_us: saturated(now_us.saturating_sub(self.sent_us)),
            client: self.number,
            version: self.version,
            status: self.status,
            kind,
            cause,
        }
    }

    fn id(&self, shared: &Shared) -> String {
        format!("{}w{}-{}", shared.config.tag, self.number, self.sequence)
    }
}

/// A client's frame, masked as the protocol wants it.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

/// First byte, payload and whole length of a server's frame, when it is all there.
fn take_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        length => (usize::from(length), 2),
    };
    let end = usize::checked_add(at, length)?;
    Some((first, bytes.get(at..end)?.to_vec(), end))
}
