//! A head as it was written for the backend, looked into and changed: for the services that go by more of it than a route.

use super::field;
use std::ops::Range;

pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// With its end.
    line: Range<usize>,
}

impl Field<'_> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// What becomes of a field.
pub(crate) enum Change {
    Keep,
    Drop,
    Value(Vec<u8>),
}

/// Where the line that begins at `start` ends: no bare line feed passed the parser.
fn line_end(head: &[u8], start: usize) -> Option<usize> {
    head[start..].iter().position(|b| *b == b'\n').map(|at| start + at + 1)
}

pub(crate) fn fields(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut next = line_end(head, 0);
    std::iter::from_fn(move || {
        let start = next?;
        let end = line_end(head, start)?;
        next = Some(end);
        let line = &head[start..end];
        // None at the empty line.
        let colon = line.iter().position(|b| *b == b':')?;
        Some(Field { name: &line[..colon], value: line[colon + 1..].trim_ascii(), line: start..end })
    })
}

/// The values of all fields of this name.
pub(crate) fn values<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields(head).filter(move |field| field.is(name)).map(|field| field.value)
}

/// The values of all cookies of this name.
pub(crate) fn cookies<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = move |pair| cookie(pair).filter(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value);
    values(head, "cookie").flat_map(|value| value.split(|b| *b == b';')).filter_map(named)
}

/// Name and value of one pair of a `Cookie` field.
pub(crate) fn cookie(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|b| *b == b'=')?;
    Some((pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()))
}

pub(crate) fn change(head: &mut Vec<u8>, change: impl Fn(&Field<'_>) -> Change) {
    let mut changed = Vec::with_capacity(head.len());
    let mut copied = 0;
    for field in fields(head) {
        let change = change(&field);
        if matches!(change, Change::Keep) {
            continue;
        }
        changed.extend_from_slice(&head[copied..field.line.start]);
        copied = field.line.end;
        if let Change::Value(value) = change {
            field::write(&mut changed, field.name, &value);
        }
    }
    changed.extend_from_slice(&head[copied..]);
    *head = changed;
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"GET /a:b HTTP/1.1\r\nHost: a\r\nCookie: x=1; y=2=3;z\r\nX-A:  b \r\ncookie: x=4\r\n\r\nbody: x";

    #[test]
    fn fields_and_cookies_are_found_and_the_body_is_none_of_them() {
        let names: Vec<_> = fields(HEAD).map(|field| field.name).collect();
        assert_eq!(names, [&b"Host"[..], b"Cookie", b"X-A", b"cookie"]);
        assert_eq!(values(HEAD, "x-a").collect::<Vec<_>>(), [b"b"]);
        assert_eq!(cookies(HEAD, "x").collect::<Vec<_>>(), [b"1", b"4"]);
        assert_eq!(cookies(HEAD, "y").collect::<Vec<_>>(), [b"2=3"]);
        assert_eq!((cookies(HEAD, "z").count(), cookies(HEAD, "X").count()), (0, 0));
    }

    #[test]
    fn a_field_is_dropped_or_written_anew_and_the_rest_stays() {
        let mut head = HEAD.to_vec();
        change(&mut head, |field| match field.name {
            b"X-A" => Change::Drop,
            b"cookie" => Change::Value(b"w=5".to_vec()),
            _ => Change::Keep,
        });
        let expected = "GET /a:b HTTP/1.1\r\nHost: a\r\nCookie: x=1; y=2=3;z\r\ncookie: w=5\r\n\r\nbody: x";
        assert_eq!(String::from_utf8_lossy(&head), expected);
    }
}
