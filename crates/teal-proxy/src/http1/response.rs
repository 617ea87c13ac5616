//! An answer's head: parsed, and written anew for the client.

use super::body::Framing;
use super::field::{self, ConnectionOptions, Known};
use super::request::{MAX_FIELDS, MAX_HEAD, Request};
use httparse::Header;
use std::mem::MaybeUninit;
use std::time::Duration;

/// The head cannot be understood; the backend's connection is useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What the proxy must know of an answer once its head is written for the client.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// Bytes of the backend's head.
    pub(crate) used: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The body is written as chunks, whatever it came in.
    pub(crate) chunked: bool,
    /// The backend's connection may serve another request.
    pub(crate) reusable: bool,
    /// What the backend grants an idle connection (`Keep-Alive: timeout`).
    pub(crate) idle: Option<Duration>,
    /// The client's connection stays.
    pub(crate) keep_alive: bool,
}

impl Response {
    /// 1xx other than the switch of protocols: another head follows.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

struct Facts<'a> {
    connection: ConnectionOptions<'a>,
    length: Option<u64>,
    encoded: Option<bool>,
    idle: Option<Duration>,
    upgrade: Option<&'a [u8]>,
}

/// Reads an answer's head from the front of `bytes` and appends the one for the client to `out`. None: more bytes are needed.
/// `keep_alive`: this side wants to keep the client's connection. `told`: fields that are added, each with its line end.
pub(crate) fn translate(
    bytes: &[u8],
    request: &Request,
    keep_alive: bool,
    told: &str,
    out: &mut Vec<u8>,
) -> Result<Option<Response>, Malformed> {
    let mut headers = [MaybeUninit::<Header<'_>>::uninit(); MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let used = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers) {
        Ok(httparse::Status::Complete(used)) if used <= MAX_HEAD => used,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        _ => return Err(Malformed),
    };
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else { return Err(Malformed) };
    if status < 100 || status == 101 && !request.upgrade {
        return Err(Malformed);
    }
    let facts = read_fields(parsed.headers)?;
    let framing = framing(status, request, &facts)?;
    let interim = status < 200;
    // HTTP/1.0 knows no chunks: there the end of the connection ends the body.
    let chunked = !interim && request.http11 && matches!(framing, Framing::Chunked | Framing::UntilClose);
    let keep_alive = keep_alive && (request.http11 || matches!(framing, Framing::Length(_)));

    write_head(out, status, parsed.reason.unwrap_or_default(), parsed.headers, &facts, request);
    if status == 101 || !interim {
        out.extend_from_slice(told.as_bytes());
    }
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match (status, keep_alive) {
        (101, _) => {
            field::write(out, b"Upgrade", facts.upgrade.unwrap_or_default());
            out.extend_from_slice(b"Connection: Upgrade\r\n");
        }
        (100..=199, _) => {}
        (_, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (_, true) if !request.http11 => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (_, true) => {}
    }
    out.extend_from_slice(b"\r\n");

    let stays = if version == 1 { !facts.connection.close } else { facts.connection.keep_alive };
    Ok(Some(Response {
        used,
        status,
        framing,
        chunked,
        // Both framings at once are an error of the backend that a second answer might hide in (RFC 9112 6.3).
        reusable: stays && framing != Framing::UntilClose && !(facts.encoded.is_some() && facts.length.is_some()),
        idle: facts.idle,
        keep_alive,
    }))
}

fn read_fields<'a>(headers: &[Header<'a>]) -> Result<Facts<'a>, Malformed> {
    let mut facts =
        Facts { connection: ConnectionOptions::default(), length: None, encoded: None, idle: None, upgrade: None };
    for header in headers {
        match field::known(header.name.as_bytes()) {
            Known::Connection => facts.connection.read(header.value),
            Known::ContentLength => {
                let length = field::length(header.value).ok_or(Malformed)?;
                if facts.length.is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
                facts.length = Some(length);
            }
            Known::TransferEncoding => {
                let chunked = header.value.eq_ignore_ascii_case(b"chunked");
                facts.encoded = Some(chunked && facts.encoded.is_none());
            }
            Known::KeepAlive => facts.idle = granted(header.value),
            Known::Upgrade => facts.upgrade = Some(header.value),
            _ => {}
        }
    }
    Ok(facts)
}

/// `timeout=5, max=100`
fn granted(value: &[u8]) -> Option<Duration> {
    let timeout = field::elements(value).find_map(|element| {
        let (name, value) = std::str::from_utf8(element).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    });
    timeout.map(Duration::from_secs)
}

/// RFC 9112 6.3.
fn framing(status: u16, request: &Request, facts: &Facts<'_>) -> Result<Framing, Malformed> {
    if request.head || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::NONE);
    }
    match (facts.encoded, facts.length) {
        (Some(true), _) => Ok(Framing::Chunked),
        // Some other coding: its bytes cannot be told from the body's.
        (Some(false), _) => Err(Malformed),
        (None, Some(n)) => Ok(Framing::Length(n)),
        (None, None) => Ok(Framing::UntilClose),
    }
}

fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    reason: &str,
    headers: &[Header<'_>],
    facts: &Facts<'_>,
    request: &Request,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    // Three digits: the parser took no more, and fewer were refused.
    out.extend_from_slice(&[b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8]);
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    // RFC 9110 8.6: no length with 1xx and 204. With HEAD and 304 it describes the answer that was not sent.
    let length_passes = facts.encoded.is_none() && status >= 200 && status != 204;
    let mut length_written = false;
    for header in headers {
        let name = header.name.as_bytes();
        let passes = match field::known(name) {
            Known::Connection | Known::KeepAlive | Known::Te | Known::TransferEncoding | Known::Upgrade => false,
            Known::HopByHop => false,
            Known::ContentLength => length_passes && !std::mem::replace(&mut length_written, true),
            _ => !facts.connection.nominates(name),
        };
        if passes {
            field::write(out, name, header.value);
        }
    }
    if request.head && facts.encoded == Some(true) && request.http11 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
}

/// Appends an answer of the proxy's own.
pub(crate) fn write_own(out: &mut Vec<u8>, status: &str, text: &str, extra: &str, keep_alive: bool, head: bool) {
    let connection = if keep_alive { "" } else { "Connection: close\r\n" };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{extra}{connection}\r\n",
        text.len() + 1
    );
    out.extend_from_slice(answer.as_bytes());
    if !head {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::{self, Peer};

    fn request(text: &str) -> Request {
        let peer = Peer::new([192, 0, 2, 1].into(), false, false, "x".into());
        request::translate(text.as_bytes(), &peer, &mut Vec::new()).expect("accepted").expect("whole")
    }

    fn answer(asked: &str, text: &str) -> Result<(Response, String), Malformed> {
        let mut out = Vec::new();
        let request = request(asked);
        let response = translate(text.as_bytes(), &request, request.keep_alive, "", &mut out)?.expect("whole");
        Ok((response, String::from_utf8(out).expect("text")))
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const GET_1_0: &str = "GET / HTTP/1.0\r\n\r\n";

    #[test]
    fn an_answer_passes_without_its_hop_by_hop_fields() {
        let text = "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: close, x-mine\r\nX-Mine: 1\r\n\
                    Keep-Alive: timeout=5, max=3\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok";
        let (response, out) = answer(GET, text).expect("understood");
        assert_eq!(out, "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n");
        assert_eq!((response.framing, response.reusable, response.keep_alive), (Framing::Length(2), false, true));
        assert_eq!(response.idle, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_end_of_a_body_is_known_for_every_kind_of_answer() {
        for (asked, text, framing, chunked, keep_alive) in [
            (GET, "200 OK\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, true, true),
            (GET, "200 OK\r\n", Framing::UntilClose, true, true),
            (GET_1_0, "200 OK\r\n", Framing::UntilClose, false, false),
            (HEAD, "200 OK\r\nContent-Length: 9\r\n", Framing::NONE, false, true),
            (GET, "204 No Content\r\nContent-Length: 9\r\n", Framing::NONE, false, true),
            (GET, "304 Not Modified\r\nContent-Length: 9\r\n", Framing::NONE, false, true),
            (GET, "200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, true, true),
        ] {
            let (response, out) = answer(asked, &format!("HTTP/1.1 {text}\r\n")).expect("understood");
            assert_eq!((response.framing, response.chunked, response.keep_alive), (framing, chunked, keep_alive));
            assert_eq!(out.contains("Transfer-Encoding: chunked"), chunked, "{out}");
            assert!(!(out.contains("Content-Length") && chunked), "{out}");
        }
    }

    #[test]
    fn an_answer_framed_wrongly_is_not_passed_on() {
        for text in [
            "200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "200 OK\r\nContent-Length: x\r\n",
            "200 OK\r\nTransfer-Encoding: gzip\r\n",
            "101 Switching Protocols\r\nUpgrade: x\r\n",
            "099 Less\r\n",
            "200 OK\r\nX : y\r\n",
            "200 OK\r\nX: y\r\n folded\r\n",
        ] {
            assert!(answer(GET, &format!("HTTP/1.1 {text}\r\n")).is_err(), "{text}");
        }
    }
}
