//! A request's head: parsed strictly, and written anew for the backend.

use super::body::Framing;
use super::field::{self, ConnectionOptions, Known};
use httparse::Header;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ops::Range;

pub(crate) const MAX_FIELDS: usize = 100;
/// A head longer than this is answered with 431.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// A request refused before it is routed; the connection is closed after the answer, since where the next request
/// starts is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequest(&'static str),
    MethodNotAllowed,
    TooLarge,
    Expectation,
    Version,
}

/// Who sent it, in the words of the forwarding fields.
#[derive(Debug)]
pub(crate) struct Peer {
    /// `192.0.2.1`, `2001:db8::1`; empty for a process of this host that came by a socket with a path.
    address: String,
    /// As in `Forwarded: for=`
    node: String,
    pub(crate) trusted: bool,
    /// It calls by a service's name: what it says of earlier clients is passed on as it is, and nothing is added.
    pub(crate) inside: bool,
    /// What a request without Host (HTTP/1.0) is said to be for: the listener's address.
    local: String,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, trusted: bool, inside: bool, local: String) -> Self {
        let address = address.to_canonical();
        let node = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        Self { address: address.to_string(), node, trusted, inside, local }
    }

    /// By a socket with a path: a process of this host that was permitted to connect, so it is believed. RFC 7239 section
    /// 6.2 has a word for a node without an address.
    pub(crate) fn of_this_host(local: String) -> Self {
        Self { address: String::new(), node: "unknown".to_owned(), trusted: true, inside: false, local }
    }
}

/// What the proxy must know of a request once its head is written for the backend.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Bytes of the client's head.
    pub(crate) used: usize,
    /// Safe to repeat (RFC 9110 9.2.2).
    pub(crate) idempotent: bool,
    pub(crate) head: bool,
    pub(crate) framing: Framing,
    pub(crate) http11: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) accepts_trailers: bool,
    pub(crate) upgrade: bool,
    /// It speaks of earlier clients, as only proxies do.
    pub(crate) relayed: bool,
    /// In the written head.
    pub(crate) path: Range<usize>,
    pub(crate) host: Range<usize>,
}

impl Request {
    /// In `head`, which is the written one or begins as it does.
    pub(crate) fn method<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        &head[..self.path.start - 1]
    }

    /// Without its query.
    pub(crate) fn bare_path<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        let path = &head[self.path.clone()];
        &path[..path.iter().position(|b| *b == b'?').unwrap_or(path.len())]
    }
}

/// The fields of the head that are not simply passed on.
struct Facts<'a> {
    host: Option<&'a [u8]>,
    framing: Framing,
    connection: ConnectionOptions<'a>,
    upgrade: Option<&'a [u8]>,
    expects_continue: bool,
    accepts_trailers: bool,
    relayed: bool,
}

/// Reads a request head from the front of `bytes` and writes the one for the backend to `out`. None: more bytes are needed.
pub(crate) fn translate(bytes: &[u8], peer: &Peer, out: &mut Vec<u8>) -> Result<Option<Request>, Refusal> {
    let mut headers = [MaybeUninit::<Header<'_>>::uninit(); MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let used = match parsed.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(used)) if used <= MAX_HEAD => used,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        Err(httparse::Error::Version) => return Err(Refusal::Version),
        Err(_) => return Err(Refusal::BadRequest("the head is malformed")),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::BadRequest("the head is malformed"));
    };
    let http11 = version == 1;
    let facts = read_fields(parsed.headers, http11)?;
    if method == "CONNECT" {
        return Err(Refusal::MethodNotAllowed);
    }
    let (path, host) = resolve_target(method, target, facts.host)?;

    out.clear();
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let path = put(out, path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    let host = put(out, if host.is_empty() && !http11 { peer.local.as_bytes() } else { host });
    out.extend_from_slice(b"\r\n");

    // h2c would let a client speak past every check behind the upgrade; upgrades with a body have no clear order.
    let upgrade = facts
        .upgrade
        .filter(|_| http11 && facts.connection.upgrade && facts.framing == Framing::NONE)
        .filter(|protocols| !field::elements(protocols).any(|p| p.eq_ignore_ascii_case(b"h2c")));
    write_fields(out, parsed.headers, &facts, peer);
    if !peer.inside {
        write_forwarding(out, parsed.headers, host.clone(), peer);
    }
    match facts.framing {
        Framing::Length(0) if !body_is_usual(method) => {}
        Framing::Length(n) => field::write(out, b"Content-Length", n.to_string().as_bytes()),
        Framing::Chunked | Framing::UntilClose => field::write(out, b"Transfer-Encoding", b"chunked"),
    }
    if let Some(protocols) = upgrade {
        field::write(out, b"Upgrade", protocols);
    }
    match (upgrade.is_some(), facts.accepts_trailers) {
        (true, true) => out.extend_from_slice(b"TE: trailers\r\nConnection: Upgrade, TE\r\n"),
        (true, false) => out.extend_from_slice(b"Connection: Upgrade\r\n"),
        (false, true) => out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n"),
        (false, false) => {}
    }
    out.extend_from_slice(b"\r\n");

    Ok(Some(Request {
        used,
        idempotent: matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE"),
        head: method == "HEAD",
        framing: facts.framing,
        http11,
        keep_alive: !facts.connection.close && (http11 || facts.connection.keep_alive),
        expects_continue: http11 && facts.expects_continue && facts.framing != Framing::NONE,
        accepts_trailers: facts.accepts_trailers,
        upgrade: upgrade.is_some(),
        relayed: facts.relayed,
        path,
        host,
    }))
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(bytes);
    start..out.len()
}

/// Methods for which "no body" is said aloud (RFC 9110 8.6).
fn body_is_usual(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

fn read_fields<'a>(headers: &[Header<'a>], http11: bool) -> Result<Facts<'a>, Refusal> {
    let bad = |why| Err(Refusal::BadRequest(why));
    let (mut host, mut length, mut chunked, mut upgrade) = (None, None, false, None);
    let (mut expects_continue, mut accepts_trailers, mut relayed) = (false, false, false);
    let mut connection = ConnectionOptions::default();
    for header in headers {
        match field::known(header.name.as_bytes()) {
            Known::Host if host.is_some() => return bad("there are several Host fields"),
            Known::Host => host = Some(header.value),
            // Equal copies are allowed by RFC 9112 6.3, but nobody sends them in good faith.
            Known::ContentLength if length.is_some() => return bad("there are several Content-Length fields"),
            Known::ContentLength => match field::length(header.value) {
                Some(n) => length = Some(n),
                None => return bad("Content-Length is not a number"),
            },
            Known::TransferEncoding if chunked => return bad("there are several Transfer-Encoding fields"),
            Known::TransferEncoding if !http11 => return bad("Transfer-Encoding is not part of HTTP/1.0"),
            Known::TransferEncoding if header.value.eq_ignore_ascii_case(b"chunked") => chunked = true,
            Known::TransferEncoding => return bad("Transfer-Encoding is not chunked"),
            Known::Connection => connection.read(header.value),
            Known::Upgrade => upgrade = Some(header.value),
            Known::Te => {
                accepts_trailers |= field::elements(header.value).any(|te| te.eq_ignore_ascii_case(b"trailers"));
            }
            Known::Expect if header.value.eq_ignore_ascii_case(b"100-continue") => expects_continue = true,
            Known::Expect => return Err(Refusal::Expectation),
            Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedOther
            | Known::Forwarded => relayed = true,
            _ => {}
        }
    }
    if host.is_none() && http11 {
        return bad("Host is missing");
    }
    let framing = match (length, chunked) {
        (Some(_), true) => return bad("both Content-Length and Transfer-Encoding"),
        (Some(n), false) => Framing::Length(n),
        (None, true) => Framing::Chunked,
        (None, false) => Framing::NONE,
    };
    Ok(Facts { host, framing, connection, upgrade, expects_continue, accepts_trailers, relayed })
}

/// The path to send, and the host it is for (RFC 9112 3.2, 3.3).
fn resolve_target<'a>(method: &str, target: &'a str, host: Option<&'a [u8]>) -> Result<(&'a str, &'a [u8]), Refusal> {
    let host = host.unwrap_or_default();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(b);
    if !host.iter().all(plain) {
        return Err(Refusal::BadRequest("Host is malformed"));
    }
    if target.starts_with('/') && !target.contains('#') || target == "*" && method == "OPTIONS" {
        return Ok((target, host));
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(rest) = scheme.map(|scheme| &target[scheme.len()..]).filter(|rest| !rest.contains('#')) else {
        return Err(Refusal::BadRequest("the target is malformed"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !authority.bytes().all(|b| plain(&b)) {
        return Err(Refusal::BadRequest("the target is malformed"));
    }
    if !host.is_empty() && !host.eq_ignore_ascii_case(authority.as_bytes()) {
        return Err(Refusal::BadRequest("the target names another host than Host"));
    }
    match path {
        "" => Ok((if method == "OPTIONS" { "*" } else { "/" }, authority.as_bytes())),
        path if path.starts_with('/') => Ok((path, authority.as_bytes())),
        _ => Err(Refusal::BadRequest("the target has a query without a path")),
    }
}

fn write_fields(out: &mut Vec<u8>, headers: &[Header<'_>], facts: &Facts<'_>, peer: &Peer) {
    for header in headers {
        let name = header.name.as_bytes();
        let passes = match field::known(name) {
            Known::Other => !facts.connection.nominates(name),
            Known::XForwardedOther => peer.trusted || peer.inside,
            Known::XForwardedFor | Known::XForwardedProto | Known::XForwardedHost | Known::Forwarded => peer.inside,
            _ => false,
        };
        if passes {
            field::write(out, name, header.value);
        }
    }
}

/// X-Forwarded-For, -Proto, -Host and Forwarded (RFC 7239): what a trusted proxy said is kept and added to, anyone
/// else's word is replaced.
fn write_forwarding(out: &mut Vec<u8>, headers: &[Header<'_>], host: Range<usize>, peer: &Peer) {
    let said = |which: Known| {
        headers.iter().filter(move |header| peer.trusted && field::known(header.name.as_bytes()) == which)
    };
    let list = |out: &mut Vec<u8>, which| {
        for header in said(which).filter(|header| !header.value.is_empty()) {
            out.extend_from_slice(header.value);
            out.extend_from_slice(b", ");
        }
    };

    if !peer.address.is_empty() {
        out.extend_from_slice(b"X-Forwarded-For: ");
        list(out, Known::XForwardedFor);
        out.extend_from_slice(peer.address.as_bytes());
        out.extend_from_slice(b"\r\n");
    } else {
        // Nothing to add.
        said(Known::XForwardedFor).for_each(|header| field::write(out, b"X-Forwarded-For", header.value));
    }
    out.extend_from_slice(b"X-Forwarded-Proto: ");
    match said(Known::XForwardedProto).next() {
        Some(header) => out.extend_from_slice(header.value),
        None => out.extend_from_slice(b"http"),
    }
    out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
    match said(Known::XForwardedHost).next() {
        Some(header) => out.extend_from_slice(header.value),
        None => out.extend_from_within(host.clone()),
    }
    out.extend_from_slice(b"\r\nForwarded: ");
    list(out, Known::Forwarded);
    out.extend_from_slice(b"for=");
    out.extend_from_slice(peer.node.as_bytes());
    if !host.is_empty() {
        // Always quoted: a port's colon is not a token.
        out.extend_from_slice(b";host=\"");
        out.extend_from_within(host);
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=http\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str, trusted: bool) -> Result<Option<(Request, String)>, Refusal> {
        let peer = Peer::new(IpAddr::from([192, 0, 2, 1]), trusted, false, "10.0.0.1:80".into());
        let mut out = Vec::new();
        let request = translate(text.as_bytes(), &peer, &mut out)?;
        Ok(request.map(|request| (request, String::from_utf8(out).expect("text"))))
    }

    fn head(text: &str) -> (Request, String) {
        translated(text, false).expect("accepted").expect("whole")
    }

    #[test]
    fn a_plain_request_passes_with_the_forwarding_fields_of_its_peer() {
        let (request, out) = head("GET /a?b HTTP/1.1\r\nHost: Example.com:81\r\nX-Id: 7\r\n\r\nrest");
        assert_eq!(
            out,
            "GET /a?b HTTP/1.1\r\nHost: Example.com:81\r\nX-Id: 7\r\nX-Forwarded-For: 192.0.2.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.com:81\r\n\
             Forwarded: for=192.0.2.1;host=\"Example.com:81\";proto=http\r\n\r\n"
        );
        assert_eq!((&out[request.path.clone()], &out[request.host.clone()]), ("/a?b", "Example.com:81"));
        assert!(request.keep_alive && request.idempotent && !request.head && request.framing == Framing::NONE);
    }

    #[test]
    fn inside_the_forwarding_fields_are_the_callers_own() {
        let peer = Peer::new(IpAddr::from([10, 0, 0, 7]), false, true, "10.0.0.1:80".into());
        let mut out = Vec::new();
        let said = "X-Forwarded-For: 192.0.2.1\r\nforwarded: for=192.0.2.1\r\nX-Forwarded-Host: a\r\nX-Forwarded-Proto: https\r\n";
        let text = format!("GET / HTTP/1.1\r\nHost: web\r\n{said}Connection: x-forwarded-for\r\n\r\n");
        translate(text.as_bytes(), &peer, &mut out).expect("accepted").expect("whole");
        // Nominated or not: a client's `Connection` that a careless gateway passes on must not make its word vanish.
        assert_eq!(String::from_utf8(out).expect("text"), format!("GET / HTTP/1.1\r\nHost: web\r\n{said}\r\n"));
    }

    #[test]
    fn a_process_of_this_host_is_believed_and_has_no_address_to_add() {
        let of = |said: &str| {
            let mut out = Vec::new();
            let text = format!("GET / HTTP/1.1\r\nHost: web\r\n{said}\r\n");
            let peer = Peer::of_this_host("localhost".into());
            translate(text.as_bytes(), &peer, &mut out).expect("accepted").expect("whole");
            String::from_utf8(out).expect("text").replace("GET / HTTP/1.1\r\nHost: web\r\n", "")
        };
        assert_eq!(
            of("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n"),
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n\
             Forwarded: for=unknown;host=\"web\";proto=http\r\n\r\n"
        );
        assert!(!of("").contains("X-Forwarded-For"));
    }

    #[test]
    fn a_head_cut_anywhere_waits_for_the_rest() {
        let text = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(translated(&text[..end], false), Ok(None)), "{end}");
        }
        assert_eq!(head(text).0.framing, Framing::Length(3));
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let (_, out) = head(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-mine, authorization, keep-alive\r\nX-Mine: 1\r\n\
             Authorization: secret\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip, trailers\r\nUpgrade: foo\r\n\
             Proxy: evil\r\nTrailer: x\r\n\r\n",
        );
        assert!(out.contains("Authorization: secret") && out.contains("TE: trailers\r\nConnection: TE\r\n"), "{out}");
        assert!(out.contains("Trailer: x"), "{out}");
        for gone in ["X-Mine", "Keep-Alive", "Proxy", "gzip", "Upgrade"] {
            assert!(!out.contains(gone), "{gone} in {out}");
        }
    }

    #[test]
    fn forwarding_fields_are_believed_only_from_a_trusted_proxy() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\
                    X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\
                    X-Forwarded-Prefix: /p\r\n\r\n";
        let (_, out) = translated(text, false).expect("accepted").expect("whole");
        assert!(!out.contains("1.1.1.1") && !out.contains("https") && !out.contains("/p"), "{out}");
        let (_, out) = translated(text, true).expect("accepted").expect("whole");
        for line in [
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\n",
            "X-Forwarded-Proto: https\r\n",
            "X-Forwarded-Host: b\r\n",
            "Forwarded: for=1.1.1.1, for=192.0.2.1;host=\"a\";proto=http\r\n",
            "X-Real-IP: 1.1.1.1\r\n",
            "X-Forwarded-Prefix: /p\r\n",
        ] {
            assert!(out.contains(line), "{line} in {out}");
        }
    }

    #[test]
    fn an_upgrade_passes_and_h2c_does_not() {
        let upgrade = |to: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n");
        let (request, out) = head(&upgrade("websocket"));
        assert!(request.upgrade && out.contains("Upgrade: websocket\r\nConnection: Upgrade\r\n"), "{out}");
        let (request, out) = head(&upgrade("websocket, h2c"));
        assert!(!request.upgrade && !out.contains("Upgrade"), "{out}");
    }

    #[test]
    fn an_absolute_target_becomes_a_path_for_the_same_host() {
        let (request, out) = head("GET http://A.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(out.starts_with("GET /x HTTP/1.1\r\nHost: A.example\r\n"), "{out}");
        assert_eq!(&out[request.path], "/x");
    }

    #[test]
    fn http_1_0_gets_a_host_and_closes_unless_asked_to_stay() {
        let (request, out) = head("GET / HTTP/1.0\r\n\r\n");
        assert!(out.contains("Host: 10.0.0.1:80\r\n") && !request.keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").0.keep_alive);
    }

    #[test]
    fn every_ambiguous_request_is_refused() {
        let refused = |text: &str, want: fn(&Refusal) -> bool| {
            let got = translated(text, false);
            assert!(got.as_ref().is_err_and(want), "{text:?}: {got:?}");
        };
        let bad: fn(&Refusal) -> bool = |refusal| matches!(refusal, Refusal::BadRequest(_));
        for fields in [
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length:\r\n",
            "Content-Length: 0x3\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: a\r\n folded\r\n",
            "X: a\r\n\tfolded\r\n",
            "X: a\rb\r\n",
            "X: a\0b\r\n",
            "X y: a\r\n",
            "Host: b\r\n",
            ": a\r\n",
        ] {
            refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), bad);
        }
        refused("GET / HTTP/1.1\r\n\r\n", bad);
        refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", bad);
        refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", bad);
        refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", bad);
        refused("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", bad);
        refused("GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", bad);
        refused("GET a HTTP/1.1\r\nHost: a\r\n\r\n", bad);
        refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", bad);
        refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", bad);
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", bad);
        refused("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", |r| *r == Refusal::MethodNotAllowed);
        refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", |r| *r == Refusal::Version);
        refused("GET / HTTP/1.1\r\nHost: a\r\nExpect: 200\r\n\r\n", |r| *r == Refusal::Expectation);
        let many = "X: y\r\n".repeat(MAX_FIELDS);
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), |r| *r == Refusal::TooLarge);
        refused(&format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(MAX_HEAD)), |r| *r == Refusal::TooLarge);
    }
}
