//! Reads requests from a connection: the head here, the body in [`crate::body`].

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

const BUFFER_BYTES: usize = 8 * 1024;
const HEAD_MAX_BYTES: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// What the app wants to know of a request's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    pub path: String,
    pub query: String,
    pub http_1_0: bool,
    pub framing: Framing,
    pub expects_continue: bool,
    pub wants_close: bool,
    pub websocket_key: Option<String>,
    pub request_id: Option<String>,
    /// `X-Sample-Delay-Ms`.
    pub delay_ms: u64,
    /// `X-Sample-Status`.
    pub status: Option<u16>,
    /// `X-Sample-Close`: closes after the answer without having said so.
    pub rude_close: bool,
    /// The head as it came, for `/headers` alone.
    pub raw: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Empty,
    Length(u64),
    Chunked,
}

/// Why no (whole) request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// End of stream.
    PeerClosed,
    PeerReset,
    /// Nothing came for as long as the connection may idle.
    Idle,
    /// Not HTTP, or too long.
    Malformed,
}

impl Head {
    /// A number from the query: `n` of `?n=5`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.word(name).and_then(|value| value.parse().ok())
    }

    pub fn word(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Bytes of a connection that are read but not yet used.
pub struct Reader<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
    used: usize,
    /// Reads a head and not one byte more, so that an unread body stays in the socket.
    exact: bool,
}

impl<'a> Reader<'a> {
    pub fn new(stream: &'a TcpStream, exact: bool) -> Self {
        Self { stream, buffer: Vec::with_capacity(BUFFER_BYTES), used: 0, exact }
    }

    pub fn set_timeout(&self, timeout: Option<Duration>) {
        // Fails only for a zero duration, which the settings never give.
        let _ = self.stream.set_read_timeout(timeout);
    }

    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    pub fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
    }

    /// Waits for more bytes.
    pub fn fill(&mut self) -> Result<(), Gone> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let before = self.buffer.len();
        self.buffer.resize(before + BUFFER_BYTES, 0);
        let outcome = loop {
            match self.stream.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => Err(Gone::PeerClosed),
            Ok(_) => Ok(()),
            Err(error) => Err(gone(&error)),
        }
    }

    /// The next request's head; waits for it.
    pub fn head(&mut self) -> Result<Head, Gone> {
        loop {
            if !self.buffered().is_empty() {
                if let Some((head, length)) = parse(self.buffered())? {
                    self.consume(length);
                    return Ok(head);
                }
                if self.buffered().len() > HEAD_MAX_BYTES {
                    return Err(Gone::Malformed);
                }
            }
            if self.exact { self.fill_head_only()? } else { self.fill()? }
        }
    }

    fn fill_head_only(&mut self) -> Result<(), Gone> {
        let mut peeked = [0; BUFFER_BYTES];
        let length = self.stream.peek(&mut peeked).map_err(|error| gone(&error))?;
        if length == 0 {
            return Err(Gone::PeerClosed);
        }
        let end = peeked[..length].windows(4).position(|window| window == b"\r\n\r\n").map_or(length, |at| at + 4);
        (&mut &*self.stream).read_exact(&mut peeked[..end]).map_err(|error| gone(&error))?;
        self.buffer.extend_from_slice(&peeked[..end]);
        Ok(())
    }
}

fn gone(error: &std::io::Error) -> Gone {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Gone::Idle,
        ErrorKind::UnexpectedEof => Gone::PeerClosed,
        _ => Gone::PeerReset,
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Gone> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Gone::Malformed),
    };
    let target = request.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        http_1_0: request.version == Some(0),
        ..Head::default()
    };
    head.wants_close = head.http_1_0;
    for header in request.headers.iter() {
        note(&mut head, header)?;
    }
    if path == "/headers" {
        head.raw = bytes[..length].to_vec();
    }
    Ok(Some((head, length)))
}

fn note(head: &mut Head, header: &httparse::Header<'_>) -> Result<(), Gone> {
    let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    if is("content-length") {
        if head.framing != Framing::Chunked {
            head.framing = Framing::Length(value.parse().map_err(|_| Gone::Malformed)?);
        }
    } else if is("transfer-encoding") {
        head.framing = Framing::Chunked;
    } else if is("connection") {
        head.wants_close |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
        if value.eq_ignore_ascii_case("keep-alive") {
            head.wants_close = false;
        }
    } else if is("expect") {
        head.expects_continue = value.eq_ignore_ascii_case("100-continue");
    } else if is("sec-websocket-key") {
        head.websocket_key = Some(value.to_owned());
    } else if is("x-request-id") {
        head.request_id = Some(value.to_owned());
    } else if is("x-sample-delay-ms") {
        head.delay_ms = value.parse().unwrap_or(0);
    } else if is("x-sample-status") {
        head.status = value.parse().ok();
    } else if is("x-sample-close") {
        head.rude_close = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_its_body_is_framed() {
        let (head, length) =
            parse(b"POST /echo?hash=1&n=7 HTTP/1.1\r\ncontent-length: 5\r\nX-Request-ID: c1-2\r\n\r\nhello")
                .unwrap()
                .unwrap();
        assert_eq!((head.path.as_str(), head.framing, length), ("/echo", Framing::Length(5), 73));
        assert_eq!((head.number("n"), head.word("hash"), head.number("ms")), (Some(7), Some("1"), None));
        assert_eq!(head.request_id.as_deref(), Some("c1-2"));
        let (head, _) = parse(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.framing, Framing::Chunked);
    }

    #[test]
    fn http_1_0_closes_unless_it_asks_to_stay() {
        assert!(parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.wants_close);
        assert!(!parse(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().unwrap().0.wants_close);
        assert!(parse(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap().unwrap().0.wants_close);
    }

    #[test]
    fn half_a_head_waits_and_garbage_does_not() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHo"), Ok(None));
        assert_eq!(parse(b"\x16\x03\x01\x02\x00"), Err(Gone::Malformed));
    }
}
