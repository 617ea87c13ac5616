//! One call after the other over one connection, none of them made twice.

use crate::counts::{Calls, Cause, Failure};
use crate::monotonic_us;
use crate::settings::Settings;
use crate::target::{Resolve, Scheme, Target};
use neighbours::dns;
use neighbours::link::Link;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// A connection's place, and what it is used for.
#[derive(Debug)]
pub struct Line {
    target: Target,
    resolve: Resolve,
    timeout: Duration,
    /// Calls a connection.
    enough: u64,
    /// Unlike that of every other line, so that no answer can be taken for another's.
    name: String,
    number: u64,
    address: Option<SocketAddr>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    link: Link,
    to: SocketAddr,
    opened_us: u64,
    used: u64,
}

/// What a call has brought, apart from its success.
#[derive(Debug, Default)]
struct Beside {
    opened: bool,
    closed_idle: bool,
}

struct Answer {
    version: String,
    chosen_us: u64,
}

type Fault = (Cause, String);

impl Line {
    pub fn new(target: &Target, resolve: Resolve, settings: &Settings, name: String) -> Self {
        let enough = if target.scheme == Scheme::Http { settings.http_calls } else { settings.tcp_lines };
        Self {
            target: target.clone(),
            resolve,
            timeout: settings.timeout,
            enough,
            name,
            number: 0,
            address: None,
            open: None,
        }
    }

    /// Makes one call; the counts are held for a moment, not while it waits.
    pub fn call(&mut self, counted: impl FnOnce(&mut dyn FnMut(&mut Calls))) {
        let at_us = monotonic_us();
        let mut beside = Beside::default();
        let done = self.attempt(&mut beside);
        if done.is_err() {
            self.open = None;
        }
        counted(&mut |calls| {
            calls.connections += u64::from(beside.opened);
            calls.closed_idle += u64::from(beside.closed_idle);
            match &done {
                Ok(answer) => calls.answered(&answer.version, answer.chosen_us),
                Err((cause, detail)) => calls.failed(Failure { cause: *cause, at_us, detail: detail.clone() }),
            }
        });
    }

    fn attempt(&mut self, beside: &mut Beside) -> Result<Answer, Fault> {
        self.number += 1;
        if self.target.scheme == Scheme::Absent {
            return self.not_found();
        }
        if self.open.as_ref().is_some_and(|open| !open.link.is_quiet()) {
            beside.closed_idle = true;
            self.open = None;
        }
        let to = self.where_to()?;
        if self.open.as_ref().is_some_and(|open| open.used >= self.enough || !to.contains(&open.to)) {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let open = Open::new(to[0], self.timeout)?;
                beside.opened = true;
                none.insert(open)
            }
        };
        open.used += 1;
        let id = format!("{}-{}", self.name, self.number);
        let answer = match self.target.scheme {
            Scheme::Http => http(open, &self.target, &id, self.number.is_multiple_of(2))?,
            _ => echo(open, &id)?,
        };
        if !answer.version.starts_with(&self.target.version) {
            return Err((Cause::WrongService, format!("{id}: version {:?} answered", answer.version)));
        }
        Ok(answer)
    }

    /// Addresses that are as good as each other, the first to be taken for a new connection.
    fn where_to(&mut self) -> Result<Vec<SocketAddr>, Fault> {
        if let (Resolve::Once, Some(address)) = (self.resolve, self.address) {
            return Ok(vec![address]);
        }
        let (host, port) = self.target.host.rsplit_once(':').unwrap_or((&self.target.host, ""));
        let port = port.parse().map_err(|_| (Cause::NoName, format!("{}: no port", self.target.host)))?;
        let found = dns::lookup(host).map_err(|error| (Cause::NoName, format!("{host}: {error}")))?;
        let found: Vec<SocketAddr> = found.into_iter().map(|address| (address, port).into()).collect();
        self.address = Some(found[0]);
        Ok(found)
    }

    fn not_found(&self) -> Result<Answer, Fault> {
        match dns::lookup(&self.target.host) {
            // Why it was not found is the network's business: Docker asks the host's nameserver for what it does not know.
            Err(_) => Ok(Answer { version: "none".into(), chosen_us: monotonic_us() }),
            Ok(addresses) => Err((Cause::Found, format!("{} is {addresses:?}", self.target.host))),
        }
    }
}

impl Open {
    fn new(to: SocketAddr, timeout: Duration) -> Result<Self, Fault> {
        let opened_us = monotonic_us();
        let link = Link::open(to, timeout).map_err(|error| {
            let cause = match error.kind() {
                ErrorKind::ConnectionRefused => Cause::Refused,
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Cause::Timeout,
                _ => Cause::NoConnection,
            };
            (cause, format!("connecting to {to}: {error}"))
        })?;
        Ok(Self { link, to, opened_us, used: 0 })
    }

    fn fault(&self, error: &io::Error, id: &str, at_end: Cause) -> Fault {
        let cause = match error.kind() {
            ErrorKind::UnexpectedEof => at_end,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Cause::Reset,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Cause::Timeout,
            _ => Cause::WrongAnswer,
        };
        (cause, format!("{id} at {}, call {} of its connection: {error}", self.to, self.used))
    }
}

fn echo(open: &mut Open, id: &str) -> Result<Answer, Fault> {
    let line = open.link.write(format!("{id}\n").as_bytes()).and_then(|()| open.link.line());
    let line = line.map_err(|error| open.fault(&error, id, Cause::Closed))?;
    match line.split_once(' ') {
        Some((version, back)) if back == id => Ok(Answer { version: version.to_owned(), chosen_us: open.opened_us }),
        _ => Err((Cause::WrongAnswer, format!("{id}: {line:?}"))),
    }
}

fn http(open: &mut Open, target: &Target, id: &str, post: bool) -> Result<Answer, Fault> {
    let (line, body) = if post { ("POST /echo".to_owned(), id) } else { (format!("GET {}", target.path), "") };
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n\r\n{body}",
        target.host,
        body.len()
    );
    let chosen_us = monotonic_us();
    let status = open.link.write(request.as_bytes()).and_then(|()| open.link.line());
    let status = status.map_err(|error| open.fault(&error, id, Cause::Closed))?;
    let mut head = Head::default();
    loop {
        let line = open.link.line().map_err(|error| open.fault(&error, id, Cause::Cut))?;
        if line.is_empty() {
            break;
        }
        head.note(&line);
    }
    let length = head.length.ok_or_else(|| (Cause::WrongAnswer, format!("{id}: {status}, without a length")))?;
    let answer = open.link.exactly(length).map_err(|error| open.fault(&error, id, Cause::Cut))?;
    if head.closes {
        open.used = u64::MAX;
    }
    if !status.starts_with("HTTP/1.1 2") {
        return Err((Cause::Status, format!("{id}: {status}")));
    }
    if head.request_id != id || (post && answer != id.as_bytes()) {
        return Err((Cause::WrongAnswer, format!("{id}: an answer to {:?}", head.request_id)));
    }
    Ok(Answer { version: head.version, chosen_us })
}

#[derive(Debug, Default)]
struct Head {
    length: Option<usize>,
    closes: bool,
    request_id: String,
    version: String,
}

impl Head {
    fn note(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => self.length = value.parse().ok().filter(|length| *length <= 1 << 20),
            "connection" => self.closes = value.eq_ignore_ascii_case("close"),
            "x-request-id" => value.clone_into(&mut self.request_id),
            "x-version" => value.clone_into(&mut self.version),
            _ => {}
        }
    }
}
