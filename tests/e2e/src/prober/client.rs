//! A user with one keep-alive connection: sends a request, waits for the answer, sends the next. Never sends one twice.
//!
//! ```text
//!   Waiting ──due──▶ Connecting ──▶ Asking ──answer or failure──▶ Waiting
//!      └────── connection at hand ────▲
//! ```

use super::answer::{Answer, Expected, Progress};
use super::config::{Clients, Pace};
use super::drive::Shared;
use super::link::{Came, Link};
use super::random::Random;
use super::record::{Cause, Failure, Kind, Record};
use crate::clock::monotonic_us;
use rustix::io::Errno;
use std::io::Write;
use std::time::Duration;

/// After a failure a client rests, so that a refused connection does not become a storm of them.
const REST_US: u64 = 10_000;
/// How exact the loop's timers are: a request sent no later than this counts as sent in time.
const TIMER_SLACK_US: u64 = 1_500;

#[derive(Debug)]
pub struct Client {
    member: u32,
    number: u16,
    group: usize,
    random: Random,
    link: Option<Link>,
    phase: Phase,
    /// The request, head and body.
    out: Vec<u8>,
    written: usize,
    body_at: usize,
    request_id: Vec<u8>,
    kind: Kind,
    answer: Answer,
    sequence: u64,
    /// The next slot of an open loop.
    slot_us: u64,
    due_us: u64,
    sent_us: u64,
    idle_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Connecting,
    Asking,
}

/// When a member wants to be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When its socket is ready.
    Event,
    At(u64),
}

impl Client {
    pub fn new(member: u32, number: u16, group: usize, shared: &Shared) -> (Self, u64) {
        let mut random = Random::new(shared.config.seed ^ (u64::from(number) << 32));
        // Clients that begin together would stay together.
        let apart_us = match shared.config.clients[group].pace {
            Pace::Closed => 0,
            Pace::Think(time) | Pace::Every(time) => random.below(micros(time)),
            Pace::Gap { around, .. } => random.below(micros(around)),
        };
        let slot_us = monotonic_us() + apart_us;
        let client = Self {
            member,
            number,
            group,
            random,
            link: None,
            phase: Phase::Waiting,
            out: Vec::new(),
            written: 0,
            body_at: 0,
            request_id: Vec::new(),
            kind: Kind::Get,
            answer: Answer::default(),
            sequence: 0,
            slot_us,
            due_us: 0,
            sent_us: 0,
            idle_us: 0,
        };
        (client, slot_us)
    }

    pub fn in_flight(&self) -> bool {
        self.phase != Phase::Waiting
    }

    /// The time for the next request has come.
    pub fn due(&mut self, shared: &mut Shared) -> Next {
        loop {
            match self.begin(shared) {
                // An answer at once: the loop keeps a fast server from growing the stack.
                Next::At(0) if !shared.stopping => {}
                next => return next,
            }
        }
    }

    /// The socket is readable, writable or broken.
    pub fn ready(&mut self, shared: &mut Shared) -> Next {
        let next = match self.phase {
            Phase::Waiting => {
                self.look_before_sending(shared);
                return Next::Event;
            }
            Phase::Connecting => self.connected(shared),
            Phase::Asking => {
                if self.written < self.out.len() {
                    self.write(shared);
                }
                self.read(shared)
            }
        };
        if next == Next::At(0) && !shared.stopping { self.due(shared) } else { next }
    }

    pub fn overdue(&mut self, shared: &mut Shared, now_us: u64) -> Next {
        if !self.in_flight() || now_us < self.sent_us + micros(shared.config.timeout) {
            return Next::Event;
        }
        let detail = match self.phase {
            Phase::Connecting => "still connecting".to_owned(),
            _ => format!("{} of {} bytes sent, {}", self.written, self.out.len(), self.answer.describe()),
        };
        self.fail(shared, Cause::Timeout, detail)
    }

    fn begin(&mut self, shared: &mut Shared) -> Next {
        let now_us = monotonic_us();
        self.due_us = now_us;
        if let Pace::Every(interval) = shared.config.clients[self.group].pace {
            if now_us > self.slot_us + TIMER_SLACK_US {
                self.due_us = self.slot_us;
            }
            self.slot_us += micros(interval).max(1);
        }
        self.compose(shared);
        self.answer.reset();
        self.written = 0;
        self.look_before_sending(shared);
        self.sent_us = now_us;
        self.idle_us = 0;
        if let Some(link) = &mut self.link {
            link.requests += 1;
            self.idle_us = now_us.saturating_sub(link.used_us);
            self.phase = Phase::Asking;
            return self.ask(shared);
        }
        match Link::open(shared, self.member) {
            Ok(link) => {
                self.link = Some(link);
                self.phase = Phase::Connecting;
                Next::Event
            }
            Err(error) => self.no_connection(shared, error),
        }
    }

    /// What a careful client does with an idle connection: a close that has arrived costs no request.
    fn look_before_sending(&mut self, shared: &mut Shared) {
        let Some(link) = &self.link else { return };
        match link.receive(&mut shared.scratch) {
            Came::Nothing => {}
            Came::End | Came::Reset => {
                shared.recorder.live.closed_by_server += 1;
                self.link = None;
            }
            // What servers say when they close an idle connection.
            Came::Bytes(length) if shared.scratch[..length].starts_with(b"HTTP/1.1 408") => {
                shared.recorder.live.closed_by_server += 1;
                self.link = None;
            }
            Came::Bytes(length) => self.unsolicited(shared, length),
        }
    }

    fn connected(&mut self, shared: &mut Shared) -> Next {
        let Some(link) = &mut self.link else {
            return Next::Event;
        };
        if let Err(error) = link.finish_connect() {
            return self.no_connection(shared, error);
        }
        link.requests = 1;
        self.phase = Phase::Asking;
        self.sent_us = monotonic_us();
        self.ask(shared)
    }

    fn ask(&mut self, shared: &mut Shared) -> Next {
        if self.write(shared) {
            return Next::Event;
        }
        // The other side is gone, but an answer given early may lie in the socket.
        self.read(shared)
    }

    fn write(&mut self, shared: &mut Shared) -> bool {
        self.link.as_mut().is_some_and(|link| link.send(&shared.epoll, &self.out, &mut self.written))
    }

    fn read(&mut self, shared: &mut Shared) -> Next {
        loop {
            let Some(link) = &self.link else {
                return Next::Event;
            };
            let came = link.receive(&mut shared.scratch);
            match came {
                Came::Nothing => return Next::Event,
                Came::Bytes(length) => {
                    let all = length < shared.scratch.len();
                    match self.feed(shared, length) {
                        Progress::Done { extra } => return self.answered(shared, extra),
                        Progress::Malformed(what) => {
                            return self.fail(shared, Cause::Malformed, what.to_owned());
                        }
                        Progress::More if all => return Next::Event,
                        Progress::More => {}
                    }
                }
                Came::End if self.answer.end_of_stream() => return self.answered(shared, 0),
                Came::End | Came::Reset => return self.broken(shared, came),
            }
        }
    }

    fn feed(&mut self, shared: &mut Shared, length: usize) -> Progress {
        let group = &shared.config.clients[self.group];
        let expected = expected(group, self.kind, &self.out[self.body_at..]);
        let recorder = &mut shared.recorder;
        self.answer.feed(&shared.scratch[..length], &self.request_id, expected, &mut |version| recorder.intern(version))
    }

    fn answered(&mut self, shared: &mut Shared, extra: usize) -> Next {
        let expected = expected(&shared.config.clients[self.group], self.kind, &self.out[self.body_at..]);
        self.answer.check_length(expected);
        let cause = Cause::of_status(self.answer.status)
            .or(self.answer.wrong_request.then_some(Cause::WrongRequest))
            .or(self.answer.wrong_body.then_some(Cause::WrongBody));
        if let Some(cause) = cause {
            return self.fail(shared, cause, format!("status {}", self.answer.status));
        }
        let now_us = monotonic_us();
        self.record(shared, now_us, None);
        if let Some(link) = &mut self.link {
            link.used_us = now_us;
        }
        if self.answer.closes {
            shared.recorder.live.closed_as_announced += 1;
            self.link = None;
        } else if self.written < self.out.len() {
            // Answered before it was read: the rest of the body would be taken for a request.
            self.link = None;
        } else if extra > 0 {
            self.unsolicited(shared, extra);
        }
        self.rest(shared, now_us, 0)
    }

    fn broken(&mut self, shared: &mut Shared, came: Came) -> Next {
        let cause = match (came, self.answer.begun) {
            (Came::Reset, false) => Cause::Reset,
            (Came::Reset, true) => Cause::ResetInAnswer,
            (_, false) => Cause::Closed,
            (_, true) => Cause::Truncated,
        };
        let detail = format!("{} of {} bytes sent, {}", self.written, self.out.len(), self.answer.describe());
        self.fail(shared, cause, detail)
    }

    fn no_connection(&mut self, shared: &mut Shared, error: Errno) -> Next {
        let cause = if error == Errno::CONNREFUSED { Cause::Refused } else { Cause::NoConnection };
        self.fail(shared, cause, error.to_string())
    }

    fn fail(&mut self, shared: &mut Shared, cause: Cause, detail: String) -> Next {
        let now_us = monotonic_us();
        self.record(shared, now_us, Some(cause));
        self.explain(shared, now_us, cause, detail);
        // An answer with an error status leaves the connection as good as any.
        let whole = cause.is_status() && !self.answer.closes && self.written == self.out.len();
        match &mut self.link {
            Some(link) if whole => link.used_us = now_us,
            _ => self.link = None,
        }
        self.rest(shared, now_us, REST_US)
    }

    /// The connection spoke without being asked. A failure of its own: the next client might have believed it.
    fn unsolicited(&mut self, shared: &mut Shared, length: usize) {
        let now_us = monotonic_us();
        let record =
            Record { due_us: now_us, late_us: 0, took_us: 0, ..self.as_record(now_us, Some(Cause::Unsolicited)) };
        shared.recorder.add(record);
        let start = String::from_utf8_lossy(&shared.scratch[..length.min(64)]).into_owned();
        self.explain(shared, now_us, Cause::Unsolicited, format!("{length} bytes, after {start:?}"));
        self.link = None;
    }

    fn rest(&mut self, shared: &Shared, now_us: u64, at_least_us: u64) -> Next {
        self.phase = Phase::Waiting;
        let pause_us = match shared.config.clients[self.group].pace {
            Pace::Closed => 0,
            Pace::Think(time) => micros(time),
            Pace::Every(_) => self.slot_us.saturating_sub(now_us),
            Pace::Gap { around, spread } => {
                micros(around).saturating_sub(micros(spread)) + self.random.below(2 * micros(spread) + 1)
            }
        };
        match pause_us.max(at_least_us) {
            0 => Next::At(0),
            pause_us => Next::At(now_us + pause_us),
        }
    }

    fn record(&self, shared: &mut Shared, now_us: u64, cause: Option<Cause>) {
        shared.recorder.add(self.as_record(now_us, cause));
    }

    fn as_record(&self, now_us: u64, cause: Option<Cause>) -> Record {
        Record {
            due_us: self.due_us,
            late_us: saturated(self.sent_us.saturating_sub(self.due_us)),
            took_us: saturated(now_us.saturating_sub(self.sent_us)),
            client: self.number,
            version: self.answer.version,
            status: self.answer.status,
            kind: self.kind,
            cause,
        }
    }

    fn explain(&self, shared: &mut Shared, now_us: u64, cause: Cause, detail: String) {
        shared.recorder.explain(|| Failure {
            cause,
            kind: self.kind,
            client: self.number,
            request_id: String::from_utf8_lossy(&self.request_id).into_owned(),
            sent_us: self.sent_us,
            failed_us: now_us,
            on_connection: self.link.as_ref().map_or(0, |link| link.requests),
            idle_us: self.idle_us,
            from: self.link.as_ref().and_then(Link::local),
            detail,
        });
    }

    /// Writes the next request into `out`.
    fn compose(&mut self, shared: &Shared) {
        let group = &shared.config.clients[self.group];
        self.sequence += 1;
        self.request_id.clear();
        let _ = write!(self.request_id, "{}c{}-{}", shared.config.tag, self.number, self.sequence);
        self.kind = if self.random.chance(group.post_share) {
            Kind::Post
        } else if self.random.chance(group.slow_share) {
            Kind::Slow
        } else {
            Kind::Get
        };
        let out = &mut self.out;
        out.clear();
        match self.kind {
            Kind::Post => {
                let _ = write!(out, "POST {} HTTP/1.1\r\nContent-Length: {}\r\n", group.post_path, group.post_bytes);
            }
            Kind::Slow => {
                let millis = self.random.below(group.slow_max.as_millis() as u64 + 1);
                let _ = write!(out, "GET {}{millis} HTTP/1.1\r\n", group.slow_path);
            }
            _ => {
                let _ = write!(out, "GET {} HTTP/1.1\r\n", group.get_path);
            }
        }
        out.extend_from_slice(&shared.common_headers);
        out.extend_from_slice(b"X-Request-Id: ");
        out.extend_from_slice(&self.request_id);
        out.extend_from_slice(b"\r\n\r\n");
        self.body_at = out.len();
        if self.kind == Kind::Post {
            fill(out, &self.request_id, self.body_at + group.post_bytes);
        }
    }
}

fn expected<'a>(group: &'a Clients, kind: Kind, sent_body: &'a [u8]) -> Expected<'a> {
    match kind {
        Kind::Post if group.post_echoes => Expected::Exactly(sent_body),
        Kind::Get => Expected::StartsWith(&group.get_starts_with),
        _ => Expected::StartsWith(b""),
    }
}

/// A body that no other request has.
fn fill(out: &mut Vec<u8>, id: &[u8], end: usize) {
    while out.len() < end {
        let left = end - out.len();
        out.extend_from_slice(&id[..id.len().min(left)]);
        if out.len() < end {
            out.push(b' ');
        }
    }
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub fn saturated(us: u64) -> u32 {
    u32::try_from(us).unwrap_or(u32::MAX)
}
