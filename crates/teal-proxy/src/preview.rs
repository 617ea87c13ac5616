//! Requests that ask for the candidate by name: `Teal-Preview: candidate`, as a field or a cookie.

use crate::http1::head::{self, Change, Field};
use crate::network::Network;
use crate::table::Release;
use std::net::IpAddr;
use subtle::ConstantTimeEq;
use teal_model::wire;

const NAME: &str = "Teal-Preview";
const CANDIDATE: &[u8] = b"candidate";

#[derive(Debug)]
pub(crate) struct Preview {
    /// Of the release that is meant, among the target's.
    pub(crate) pool: usize,
    networks: Vec<Network>,
    tokens: Vec<Box<[u8]>>,
}

impl Preview {
    pub(crate) fn new(wire: &wire::Preview, pool: usize) -> Self {
        Self {
            pool,
            // Refused before it came here, if one of them is no network.
            networks: wire.networks.iter().filter_map(|text| Network::parse(text)).collect(),
            tokens: wire.tokens.iter().map(|token| token.as_bytes().into()).collect(),
        }
    }

    /// Whether the request is a preview.
    pub(crate) fn is_asked(&self, head: &[u8], client: impl Fn() -> Option<IpAddr>) -> bool {
        let by_field = head::values(head, NAME).filter_map(|value| word(value, b' '));
        let by_cookie = head::cookies(head, NAME).filter_map(|value| word(value, b'.'));
        by_field.chain(by_cookie).any(|word| match word {
            Word::Alone => client().is_some_and(|client| self.networks.iter().any(|of| of.contains(client))),
            Word::With(token) => self.knows(token),
        })
    }

    /// Compares with every token, each in a time that does not tell how much of it was right.
    fn knows(&self, token: &[u8]) -> bool {
        let same = |known: &[u8]| u8::from(bool::from(known.ct_eq(token)));
        self.tokens.iter().fold(0, |found, known| found | same(known)) == 1
    }
}

/// What a request says.
enum Word<'a> {
    Alone,
    With(&'a [u8]),
}

fn word(value: &[u8], before_token: u8) -> Option<Word<'_>> {
    match value.strip_prefix(CANDIDATE)? {
        [] => Some(Word::Alone),
        [first, token @ ..] if *first == before_token => Some(Word::With(token.trim_ascii())),
        _ => None,
    }
}

/// Takes out of `head` what asks for a preview, whether it is believed or not: the token is nothing for an application's log.
pub(crate) fn hide(head: &mut Vec<u8>) {
    if head::fields(head).any(|field| !matches!(without_preview(&field), Change::Keep)) {
        head::change(head, without_preview);
    }
}

fn without_preview(field: &Field<'_>) -> Change {
    if field.is(NAME) {
        return if field.value.starts_with(CANDIDATE) { Change::Drop } else { Change::Keep };
    }
    if !field.is("cookie") {
        return Change::Keep;
    }
    let asks = |pair: &&[u8]| {
        head::cookie(pair).is_some_and(|(name, value)| name == NAME.as_bytes() && value.starts_with(CANDIDATE))
    };
    let pairs = || field.value.split(|b| *b == b';');
    if !pairs().any(|pair| asks(&pair)) {
        return Change::Keep;
    }
    let kept: Vec<&[u8]> = pairs().filter(|pair| !asks(pair)).map(<[u8]>::trim_ascii).collect();
    if kept.is_empty() { Change::Drop } else { Change::Value(kept.join(&b"; "[..])) }
}

/// For the head of the answer: what answered, and that no cache may give it to anybody else.
pub(crate) fn answer_fields(release: &Release) -> String {
    format!("{NAME}: {}\r\nVary: {NAME}, Cookie\r\n", release.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preview(networks: &[&str], tokens: &[&str]) -> Preview {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let service = teal_model::ids::ServiceKey::new("shop", "web");
        let release = teal_model::ids::ReleaseKey::new(service, 2);
        Preview::new(&wire::Preview { release, networks: texts(networks), tokens: texts(tokens) }, 0)
    }

    /// Whether it is a preview, and what the application gets to see of the fields.
    fn taken(preview: &Preview, fields: &str) -> (bool, String) {
        let mut head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let taken = preview.is_asked(&head, || Some([10, 0, 0, 7].into()));
        hide(&mut head);
        let head = String::from_utf8(head).expect("text");
        let fields = head.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n").and_then(|head| head.strip_suffix("\r\n"));
        (taken, fields.expect("the rest of the head").to_owned())
    }

    #[test]
    fn a_preview_is_asked_for_from_a_network_or_with_a_token() {
        let (near, far) = (preview(&["10.0.0.0/8"], &[]), preview(&["192.0.2.0/24"], &["one", "s.e cret"]));
        for (fields, from_near, from_far) in [
            ("Teal-Preview: candidate\r\n", true, false),
            ("teal-preview: candidate\r\n", true, false),
            ("Cookie: a=b; Teal-Preview=candidate\r\n", true, false),
            ("Teal-Preview: candidate s.e cret\r\n", false, true),
            ("Cookie: Teal-Preview=candidate.one\r\n", false, true),
            ("Teal-Preview: candidate two\r\nTeal-Preview: candidate one\r\n", false, true),
            ("Teal-Preview: candidate two\r\n", false, false),
            ("Teal-Preview: candidate \r\n", true, false),
            ("Teal-Preview: candidateone\r\n", false, false),
            ("Teal-Preview: live\r\n", false, false),
            ("Teal-Preview:\r\n", false, false),
            ("X: Teal-Preview=candidate\r\n", false, false),
        ] {
            assert_eq!(taken(&near, fields).0, from_near, "{fields}");
            assert_eq!(taken(&far, fields).0, from_far, "{fields}");
        }
        assert!(!taken(&preview(&[], &[]), "Teal-Preview: candidate\r\n").0);
    }

    #[test]
    fn the_application_sees_neither_the_field_nor_a_token() {
        let preview = preview(&[], &["one"]);
        for (fields, left) in [
            ("X: 1\r\nTeal-Preview: candidate one\r\nY: 2\r\n", "X: 1\r\nY: 2\r\n"),
            ("Teal-Preview: candidate wrong\r\n", ""),
            ("Cookie: Teal-Preview=candidate.one\r\n", ""),
            ("Cookie: a=1; Teal-Preview=candidate.wrong;b=2\r\n", "Cookie: a=1; b=2\r\n"),
            ("Cookie: a=1;  Teal-Preview=candidate\r\n", "Cookie: a=1\r\n"),
            ("Cookie: a=1;b=2\r\nTeal-Preview: candidate\r\n", "Cookie: a=1;b=2\r\n"),
            ("Cookie: Teal-Preview=x\r\nTeal-Preview: y\r\n", "Cookie: Teal-Preview=x\r\nTeal-Preview: y\r\n"),
        ] {
            assert_eq!(taken(&preview, fields).1, left, "{fields}");
        }
    }
}
