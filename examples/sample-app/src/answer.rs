//! What each path answers, and how it misbehaves.

use crate::body::Body;
use crate::connection::{Peer, Role, tag};
use crate::request::{Framing, Gone, Head, Reader};
use crate::serve::App;
use crate::settings::{EarlyAnswer, LogRequests};
use crate::trouble::Fate;
use crate::{log, sha1};
use std::io::Write;
use std::time::Duration;

/// Bodies that `/echo` keeps; longer ones get 413, or `?hash=1`.
const ECHO_MAX_BYTES: u64 = 16 << 20;
const BLOCK: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// One request, and the connection it is answered on.
pub struct Exchange<'a, 'r> {
    pub app: &'a App,
    pub peer: &'a Peer,
    pub reader: &'a mut Reader<'r>,
    pub head: &'a Head,
    pub out: &'a mut Vec<u8>,
    pub number: u64,
    /// The request is read to its last byte.
    pub read: bool,
    /// 0 until the answer is written whole.
    pub status: u16,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    KeepOpen,
    Close(&'static str),
    /// Closed so that the peer gets a reset.
    Reset,
    /// Open, without a word, until the peer gives up.
    Silence,
    WebSocket,
}

impl Exchange<'_, '_> {
    pub fn answer(&mut self) -> Result<After, Gone> {
        let head = self.head;
        if self.peer.role == Role::Management {
            return self.management();
        }
        if let Some(rude) = self.answers_early() {
            self.wait();
            self.send_text(200, b"early\n", !rude)?;
            return Ok(After::Close("early"));
        }
        let keep = head.path == "/echo" && head.word("hash").is_none();
        if keep && matches!(head.framing, Framing::Length(length) if length > ECHO_MAX_BYTES) {
            self.send_text(413, b"too long for /echo; try ?hash=1\n", true)?;
            return Ok(After::Close("too-long"));
        }
        if head.expects_continue {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = Body::read(self.reader, head.framing, keep)?;
        self.read = true;
        if self.app.settings.log_requests == LogRequests::Steps {
            log::line(&format!("{} read {} {}", tag(self.peer, self.number, head), head.method, head.path));
        }
        let doomed = self.app.settings.crash_on.as_deref() == Some(head.path.as_str());
        if doomed || head.path == "/crash" {
            log::line("crashing, as asked");
            std::process::exit(self.app.settings.exit_code);
        }
        self.wait();
        if !self.app.booted() {
            self.send_text(503, b"booting\n", false)?;
            return Ok(self.after());
        }
        // What asks whether anybody is there at all is answered, too.
        let well = head.path == "/health" || head.method == "HEAD";
        let fate = if well { Fate::Good } else { self.app.trouble.next() };
        match fate {
            Fate::Good => self.route(&body),
            Fate::Fails => {
                self.send_text(500, b"failing, as asked\n", false)?;
                Ok(self.after())
            }
            Fate::Hangs => Ok(After::Silence),
        }
    }

    fn route(&mut self, body: &Body) -> Result<After, Gone> {
        let head = self.head;
        if let Some(status) = head.status {
            self.send_text(status, b"as the header asked\n", false)?;
            return Ok(self.after());
        }
        match head.path.as_str() {
            "/" | "/slow" => {
                let text = format!("teal sample app, version {}\n", self.app.settings.version);
                self.send_text(200, text.as_bytes(), false)?;
            }
            "/health" if self.app.settings.management_port.is_none() => self.send_health()?,
            "/echo" => match &body.kept {
                Some(bytes) => self.send_text(200, bytes, false)?,
                None => self.send_text(200, format!("{} {:016x}\n", body.length, body.hash).as_bytes(), false)?,
            },
            "/orders" => self.order()?,
            "/headers" => self.send_text(200, &head.raw, false)?,
            "/bytes" => self.send_bytes(head.number("n").unwrap_or(1024))?,
            "/stream" => {
                let (chunks, pause) = (head.number("chunks").unwrap_or(10), head.number("ms").unwrap_or(0));
                self.send_stream("text/plain", chunks, pause, |chunk| format!("chunk {chunk}\n"))?;
            }
            "/sse" => {
                let (events, pause) = (head.number("n").unwrap_or(u64::MAX), head.number("ms").unwrap_or(1000));
                self.send_stream("text/event-stream", events, pause, |event| {
                    format!("id: {event}\ndata: {event}\n\n")
                })?;
            }
            "/ws" => return self.upgrade(),
            "/rude" => return self.be_rude(),
            path if self.is_own_asset(path) => {
                let text = format!("// version {}\n", self.app.settings.version);
                self.send_text(200, text.as_bytes(), false)?;
            }
            path => match path.strip_prefix("/status/").and_then(|status| status.parse().ok()) {
                Some(status @ 200..=599) => self.send_text(status, b"as the path asked\n", false)?,
                _ => self.send_text(404, b"no such path\n", false)?,
            },
        }
        Ok(self.after())
    }

    /// As a bundler writes them: each version has its own, and none of another's.
    fn is_own_asset(&self, path: &str) -> bool {
        let name = path.strip_prefix("/assets/").and_then(|file| file.strip_suffix(".js"));
        name == Some(self.app.settings.version.as_str())
    }

    /// Some(rude) when this request is answered with its body unread.
    fn answers_early(&self) -> Option<bool> {
        let setting = self.app.settings.early_answer;
        if self.head.path == "/early" {
            return Some(self.head.word("rude").is_some() || setting == EarlyAnswer::Rude);
        }
        match setting {
            EarlyAnswer::No => None,
            _ if self.head.method != "POST" => None,
            setting => Some(setting == EarlyAnswer::Rude),
        }
    }

    /// Takes an order, or says how many there are.
    fn order(&mut self) -> Result<(), Gone> {
        let Some(orders) = &self.app.orders else {
            return self.send_text(404, b"no database is set\n", false);
        };
        let done = match self.head.method.as_str() {
            "POST" => orders.take(self.head.request_id.as_deref().unwrap_or("-"), &self.app.settings.version),
            _ => orders.count(),
        };
        match done {
            Ok(text) => self.send_text(200, format!("{text}\n").as_bytes(), false),
            Err(error) => {
                log::complain(&format!("an order: {error}"));
                self.send_text(500, b"the order was not taken\n", false)
            }
        }
    }

    fn wait(&self) {
        let asked = if self.head.path == "/slow" { self.head.number("ms").unwrap_or(1000) } else { 0 };
        let millis = asked.max(self.head.delay_ms);
        if millis > 0 {
            std::thread::sleep(Duration::from_millis(millis));
        }
    }

    fn management(&mut self) -> Result<After, Gone> {
        Body::read(self.reader, self.head.framing, false)?;
        match self.head.path.as_str() {
            "/health" | "/actuator/health" | "/actuator/health/readiness" => self.send_health()?,
            "/actuator/health/liveness" => self.send(200, "application/json", b"{\"status\":\"UP\"}", false)?,
            _ => self.send_text(404, b"no such path\n", false)?,
        }
        Ok(self.after())
    }

    fn send_health(&mut self) -> Result<(), Gone> {
        if self.app.healthy() {
            self.send(200, "application/json", b"{\"status\":\"UP\"}", false)
        } else {
            self.send(503, "application/json", b"{\"status\":\"DOWN\"}", false)
        }
    }

    fn after(&self) -> After {
        if self.head.rude_close {
            After::Close("rude")
        } else if self.head.wants_close {
            After::Close("asked")
        } else {
            After::KeepOpen
        }
    }

    fn send_text(&mut self, status: u16, body: &[u8], close: bool) -> Result<(), Gone> {
        self.send(status, "text/plain", body, close)
    }

    fn send(&mut self, status: u16, kind: &str, body: &[u8], close: bool) -> Result<(), Gone> {
        self.start_head(status, kind, close);
        let _ = write!(self.out, "Content-Length: {}\r\n\r\n", body.len());
        if self.head.method != "HEAD" {
            self.out.extend_from_slice(body);
        }
        self.flush()?;
        self.answered(status);
        Ok(())
    }

    fn send_bytes(&mut self, length: u64) -> Result<(), Gone> {
        self.start_head(200, "application/octet-stream", false);
        let _ = write!(self.out, "Content-Length: {length}\r\n\r\n");
        self.flush()?;
        let mut left = length;
        while left > 0 && self.head.method != "HEAD" {
            let here = left.min(BLOCK.len() as u64);
            self.write(&BLOCK[..here as usize])?;
            left -= here;
        }
        self.answered(200);
        Ok(())
    }

    /// Chunked for HTTP/1.1; an HTTP/1.0 client reads until the close.
    fn send_stream(&mut self, kind: &str, count: u64, pause: u64, text: impl Fn(u64) -> String) -> Result<(), Gone> {
        self.start_head(200, kind, false);
        let chunked = !self.head.http_1_0;
        self.out.extend_from_slice(if chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"\r\n" });
        for part in 1..=count {
            let text = text(part);
            if chunked {
                let _ = write!(self.out, "{:x}\r\n{text}\r\n", text.len());
            } else {
                self.out.extend_from_slice(text.as_bytes());
            }
            self.flush()?;
            if part < count {
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
        if chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush()?;
        self.answered(200);
        Ok(())
    }

    fn upgrade(&mut self) -> Result<After, Gone> {
        let Some(key) = &self.head.websocket_key else {
            self.send_text(426, b"this path speaks WebSocket\n", false)?;
            return Ok(self.after());
        };
        let accept = sha1::accept_key(key.as_bytes());
        self.out.clear();
        let _ = write!(
            self.out,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nX-Version: {}\r\nX-Instance: {}\r\n\r\n",
            self.app.settings.version, self.app.instance
        );
        self.flush()?;
        self.answered(101);
        Ok(After::WebSocket)
    }

    /// Breaks the connection in the way that `?how=` names, with the request read.
    fn be_rude(&mut self) -> Result<After, Gone> {
        match self.head.word("how").unwrap_or("close") {
            "half" => {
                self.start_head(200, "text/plain", false);
                self.out.extend_from_slice(b"Content-Length: 1000\r\n\r\nonly this much");
            }
            "half-chunk" => {
                self.start_head(200, "text/plain", false);
                self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n100\r\nonly this much");
            }
            "half-head" => self.out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "garbage" => self.out.extend_from_slice(b"\x15\x03\x01\x00\x02\x02\x0a not HTTP\r\n\r\n"),
            "stall" => std::thread::sleep(Duration::from_millis(self.head.number("ms").unwrap_or(3_600_000))),
            "reset" => return Ok(After::Reset),
            _ => self.out.clear(),
        }
        self.flush()?;
        Ok(After::Close("rude"))
    }

    fn start_head(&mut self, status: u16, kind: &str, close: bool) {
        let settings = &self.app.settings;
        self.out.clear();
        let _ = write!(
            self.out,
            "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nX-Version: {}\r\nX-Instance: {}\r\n",
            reason(status),
            settings.version,
            self.app.instance
        );
        if let Some(id) = &self.head.request_id {
            let _ = write!(self.out, "X-Request-Id: {id}\r\n");
        }
        if close || self.head.wants_close {
            self.out.extend_from_slice(b"Connection: close\r\n");
        } else if settings.advertise_keep_alive {
            let seconds = settings.keep_alive.map_or(5, |idle| idle.as_secs().max(1));
            let _ = write!(self.out, "Keep-Alive: timeout={seconds}\r\n");
        }
    }

    fn answered(&mut self, status: u16) {
        self.status = status;
        if self.app.settings.log_requests == LogRequests::Steps {
            log::line(&format!("{} answered {status}", tag(self.peer, self.number, self.head)));
        }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        (&self.peer.stream).write_all(self.out).map_err(|_| Gone::PeerReset)?;
        self.out.clear();
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Gone> {
        (&self.peer.stream).write_all(bytes).map_err(|_| Gone::PeerReset)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        404 => "Not Found",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
