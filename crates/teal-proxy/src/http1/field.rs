//! Header fields: which ones the proxy must know, and which may cross it.

/// Fields that end here, or that the proxy writes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Connection,
    ContentLength,
    Expect,
    Forwarded,
    /// Keep-Alive
    KeepAlive,
    Host,
    /// Hop-by-hop without meaning for us: Proxy-Connection, HTTP2-Settings, and `Proxy` (CVE-2016-5385, "httpoxy").
    HopByHop,
    Te,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    /// Other fields by which proxies speak of the client: X-Forwarded-Port and its like, X-Real-IP.
    XForwardedOther,
    Other,
}

pub(crate) fn known(name: &[u8]) -> Known {
    let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
    // By first letter and length: most fields are told apart by one comparison or none.
    let Some(first) = name.first() else { return Known::Other };
    match (first | 0x20, name.len()) {
        (b'h', 4) if is("host") => Known::Host,
        (b'h', 14) if is("http2-settings") => Known::HopByHop,
        (b'c', 10) if is("connection") => Known::Connection,
        (b'c', 14) if is("content-length") => Known::ContentLength,
        (b'e', 6) if is("expect") => Known::Expect,
        (b'f', 9) if is("forwarded") => Known::Forwarded,
        (b'k', 10) if is("keep-alive") => Known::KeepAlive,
        (b'p', 5) if is("proxy") => Known::HopByHop,
        (b'p', 16) if is("proxy-connection") => Known::HopByHop,
        (b't', 2) if is("te") => Known::Te,
        (b't', 17) if is("transfer-encoding") => Known::TransferEncoding,
        (b'u', 7) if is("upgrade") => Known::Upgrade,
        (b'x', 9) if is("x-real-ip") => Known::XForwardedOther,
        (b'x', 11..) => known_forwarded(name),
        _ => Known::Other,
    }
}

fn known_forwarded(name: &[u8]) -> Known {
    let (prefix, rest) = name.split_at(11);
    if !prefix.eq_ignore_ascii_case(b"x-forwarded") {
        return Known::Other;
    }
    match rest {
        rest if rest.eq_ignore_ascii_case(b"-for") => Known::XForwardedFor,
        rest if rest.eq_ignore_ascii_case(b"-host") => Known::XForwardedHost,
        rest if rest.eq_ignore_ascii_case(b"-proto") => Known::XForwardedProto,
        // Some gateways fold `_` to `-`, so X-Forwarded_For is as good as a forged X-Forwarded-For.
        _ => Known::XForwardedOther,
    }
}

/// Fields that `Connection` cannot nominate for removal: taking them away would let a client hide what the proxy, or
/// one before it, says to the application (RFC 9110 7.6.1: "MUST NOT ... intended for all recipients").
pub(crate) fn is_end_to_end(name: &[u8]) -> bool {
    const NAMES: [&str; 17] = [
        "accept",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "forwarded",
        "host",
        "max-forwards",
        "origin",
        "range",
        "set-cookie",
        "trailer",
        "www-authenticate",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || name.get(..3).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"if-"))
}

/// Appends `name: value` and a line end.
pub(crate) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The elements of a comma-separated list, without white space around them and without empty ones.
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// What the `Connection` fields of one message say.
#[derive(Debug, Default)]
pub(crate) struct ConnectionOptions<'a> {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other names, all of which must not pass on.
    nominated: Vec<&'a [u8]>,
}

impl<'a> ConnectionOptions<'a> {
    pub(crate) fn read(&mut self, value: &'a [u8]) {
        for option in elements(value) {
            match option {
                option if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                option if option.eq_ignore_ascii_case(b"close") => self.close = true,
                option if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                option if known(option) == Known::Other && !is_end_to_end(option) => self.nominated.push(option),
                _ => {}
            }
        }
    }

    pub(crate) fn nominates(&self, name: &[u8]) -> bool {
        !self.nominated.is_empty() && self.nominated.iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

/// A Content-Length: digits only (RFC 9110 8.6); no sign, no list.
pub(crate) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_in_any_case() {
        assert_eq!(known(b"HOST"), Known::Host);
        assert_eq!(known(b"tRansfer-Encoding"), Known::TransferEncoding);
        assert_eq!(known(b"X-Forwarded-For"), Known::XForwardedFor);
        assert_eq!(known(b"x-forwarded_for"), Known::XForwardedOther);
        assert_eq!(known(b"X-Forwarded-Prefix"), Known::XForwardedOther);
        assert_eq!(known(b"x-request-id"), Known::Other);
        assert_eq!(known(b""), Known::Other);
    }

    #[test]
    fn a_length_is_digits_and_fits() {
        assert_eq!(length(b"10"), Some(10));
        for bad in [&b""[..], b"+1", b"-1", b"1,1", b"1 1", b"0x1", b"99999999999999999999"] {
            assert_eq!(length(bad), None);
        }
    }

    #[test]
    fn a_client_cannot_nominate_what_the_application_must_see() {
        let mut options = ConnectionOptions::default();
        options.read(b"close, X-Mine, Host, authorization, X-Forwarded-For, Foo,, Content-Length");
        assert!(options.close && options.nominates(b"foo") && options.nominates(b"x-mine"));
        for name in ["host", "authorization", "x-forwarded-for", "content-length"] {
            assert!(!options.nominates(name.as_bytes()), "{name}");
        }
    }
}
