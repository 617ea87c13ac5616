//! Reads one answer as it arrives, and holds it against what was expected (RFC 9112 section 6).

const HEADERS_MAX: usize = 64;
const HEAD_MAX_BYTES: usize = 64 * 1024;

/// What the body must be.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    StartsWith(&'a [u8]),
    Exactly(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The answer is whole; so many of the bytes given lie behind it.
    Done {
        extra: usize,
    },
    Malformed(&'static str),
}

/// An answer so far.
#[derive(Debug, Default)]
pub struct Answer {
    part: Part,
    /// The head's bytes while it is not whole.
    partial: Vec<u8>,
    /// Any byte of an answer has come.
    pub begun: bool,
    pub status: u16,
    pub version: u16,
    /// The connection may not be used again.
    pub closes: bool,
    pub wrong_request: bool,
    pub wrong_body: bool,
    body_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    Length(u64),
    ChunkSize(u64, SizeAt),
    Chunk(u64),
    ChunkEnd,
    /// Trailers, and how many bytes of the current line there were.
    Trailer(u64),
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeAt {
    Start,
    Digits,
    Extension,
}

impl Answer {
    /// Ready for the next answer; keeps its buffer.
    pub fn reset(&mut self) {
        let mut partial = std::mem::take(&mut self.partial);
        partial.clear();
        *self = Self { partial, ..Self::default() };
    }

    /// Takes bytes as they came. `intern` gives a version its number.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        request_id: &[u8],
        expected: Expected<'_>,
        intern: &mut impl FnMut(&[u8]) -> u16,
    ) -> Progress {
        self.begun |= !bytes.is_empty();
        while self.part == Part::Head {
            match self.feed_head(bytes, request_id, intern) {
                Ok(Some(used)) => bytes = &bytes[used..],
                Ok(None) => return Progress::More,
                Err(what) => return Progress::Malformed(what),
            }
        }
        self.feed_body(bytes, expected)
    }

    /// The stream has ended. Whether that completes the answer.
    pub fn end_of_stream(&self) -> bool {
        self.part == Part::UntilClose
    }

    /// After the last byte: does the body fall short of what was expected?
    pub fn check_length(&mut self, expected: Expected<'_>) {
        self.wrong_body |= match expected {
            Expected::StartsWith(start) => self.body_bytes < start.len(),
            Expected::Exactly(whole) => self.body_bytes != whole.len(),
        };
    }

    pub fn describe(&self) -> String {
        match self.part {
            Part::Head if self.partial.is_empty() => "no byte of an answer".to_owned(),
            Part::Head => format!("{} bytes of a head", self.partial.len()),
            Part::Length(left) => {
                format!("status {}, {} bytes of the body, {left} missing", self.status, self.body_bytes)
            }
            _ => format!("status {}, {} bytes of the body, its end missing", self.status, self.body_bytes),
        }
    }

    /// Bytes used, when the head is whole.
    fn feed_head(
        &mut self,
        bytes: &[u8],
        request_id: &[u8],
        intern: &mut impl FnMut(&[u8]) -> u16,
    ) -> Result<Option<usize>, &'static str> {
        let before = self.partial.len();
        if before > 0 {
            self.partial.extend_from_slice(bytes);
            let whole = std::mem::take(&mut self.partial);
            let parsed = self.parse_head(&whole, request_id, intern);
            self.partial = whole;
            let length = parsed?;
            if length.is_some() {
                self.partial.clear();
            }
            return Ok(length.map(|length| length - before));
        }
        let length = self.parse_head(bytes, request_id, intern)?;
        if length.is_none() {
            self.partial.extend_from_slice(bytes);
        }
        Ok(length)
    }

    fn parse_head(
        &mut self,
        bytes: &[u8],
        request_id: &[u8],
        intern: &mut impl FnMut(&[u8]) -> u16,
    ) -> Result<Option<usize>, &'static str> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_MAX_BYTES => {
                return Err("a head over 64 KiB");
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("not a head of HTTP/1"),
        };
        self.status = response.code.unwrap_or(0);
        if (100..200).contains(&self.status) && self.status != 101 {
            return Ok(Some(length));
        }
        self.closes = response.version == Some(0);
        let (mut content_length, mut chunked) = (None, false);
        for header in response.headers.iter() {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            // The length of the name first: most headers are none of these.
            match header.name.len() {
                9 if is("x-version") => self.version = intern(header.value),
                10 if is("connection") => self.closes |= header.value.eq_ignore_ascii_case(b"close"),
                12 if is("x-request-id") => self.wrong_request = header.value != request_id,
                14 if is("content-length") => {
                    let value = std::str::from_utf8(header.value).ok().and_then(|value| value.parse().ok());
                    let value: u64 = value.ok_or("a Content-Length that is no number")?;
                    if content_length.replace(value).is_some_and(|before| before != value) {
                        return Err("two values of Content-Length");
                    }
                }
                17 if is("transfer-encoding") => chunked = true,
                _ => {}
            }
        }
        self.part = match (chunked, content_length) {
            _ if matches!(self.status, 101 | 204 | 304) => Part::Length(0),
            (true, Some(_)) => return Err("both Content-Length and Transfer-Encoding"),
            (true, None) => Part::ChunkSize(0, SizeAt::Start),
            (false, Some(length)) => Part::Length(length),
            (false, None) => {
                self.closes = true;
                Part::UntilClose
            }
        };
        Ok(Some(length))
    }

    fn feed_body(&mut self, mut bytes: &[u8], expected: Expected<'_>) -> Progress {
        loop {
            match self.part {
                Part::Length(0) => return Progress::Done { extra: bytes.len() },
                Part::Length(left) => {
                    let here = self.take(&mut bytes, left, expected);
                    self.part = Part::Length(left - here);
                }
                Part::UntilClose => {
                    self.take(&mut bytes, u64::MAX, expected);
                }
                Part::Chunk(0) => self.part = Part::ChunkEnd,
                Part::Chunk(left) => {
                    let here = self.take(&mut bytes, left, expected);
                    self.part = Part::Chunk(left - here);
                }
                Part::ChunkSize(..) | Part::ChunkEnd | Part::Trailer(_) => {
                    let Some((byte, rest)) = bytes.split_first() else {
                        return Progress::More;
                    };
                    bytes = rest;
                    match self.step(*byte) {
                        Ok(true) => return Progress::Done { extra: bytes.len() },
                        Ok(false) => {}
                        Err(what) => return Progress::Malformed(what),
                    }
                }
                Part::Head => return Progress::More,
            }
            if bytes.is_empty() && !matches!(self.part, Part::Length(0)) {
                return Progress::More;
            }
        }
    }

    /// One byte between chunks; true at the end of the body.
    fn step(&mut self, byte: u8) -> Result<bool, &'static str> {
        self.part = match (self.part, byte) {
            (part @ Part::ChunkSize(_, SizeAt::Digits | SizeAt::Extension), b'\r') => part,
            (Part::ChunkSize(0, SizeAt::Digits | SizeAt::Extension), b'\n') => Part::Trailer(0),
            (Part::ChunkSize(size, SizeAt::Digits | SizeAt::Extension), b'\n') => Part::Chunk(size),
            (Part::ChunkSize(size, SizeAt::Digits), b';') => Part::ChunkSize(size, SizeAt::Extension),
            (part @ Part::ChunkSize(_, SizeAt::Extension), _) => part,
            (Part::ChunkSize(size, _), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or("a chunk size that is no number")?;
                let size = size.checked_mul(16).ok_or("a chunk size beyond all bounds")? + u64::from(digit);
                Part::ChunkSize(size, SizeAt::Digits)
            }
            (part @ Part::ChunkEnd, b'\r') => part,
            (Part::ChunkEnd, b'\n') => Part::ChunkSize(0, SizeAt::Start),
            (Part::Trailer(0), b'\n') => return Ok(true),
            (Part::Trailer(_), b'\n') => Part::Trailer(0),
            (part @ Part::Trailer(_), b'\r') => part,
            (Part::Trailer(length), _) => Part::Trailer(length + 1),
            _ => return Err("a chunk that does not end where it should"),
        };
        Ok(false)
    }

    fn take(&mut self, bytes: &mut &[u8], left: u64, expected: Expected<'_>) -> u64 {
        let (here, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        *bytes = rest;
        let at = self.body_bytes;
        self.body_bytes += here.len();
        self.wrong_body |= match expected {
            Expected::StartsWith(start) if at >= start.len() => false,
            Expected::StartsWith(start) => start[at..].iter().zip(here).any(|(wanted, came)| wanted != came),
            Expected::Exactly(whole) => whole.get(at..self.body_bytes) != Some(here),
        };
        here.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(answer: &mut Answer, bytes: &[u8], expected: &[u8]) -> Progress {
        answer.feed(bytes, b"id", Expected::Exactly(expected), &mut |version| u16::from(version[1] - b'0'))
    }

    #[test]
    fn an_answer_is_read_the_same_in_one_piece_and_byte_by_byte() {
        let answers: [(&[u8], &[u8]); 4] = [
            (b"HTTP/1.1 200 OK\r\nX-Version: v2\r\nX-Request-Id: id\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
            (b"HTTP/1.1 200 OK\r\nX-Version: v2\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\nA\r\nllo, world\r\n0\r\nT: 1\r\n\r\n", b"hello, world"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-Version: v2\r\nContent-Length: 1\r\n\r\nx", b"x"),
            (b"HTTP/1.1 204 No Content\r\nX-Version: v2\r\n\r\n", b""),
        ];
        for (bytes, body) in answers {
            let mut answer = Answer::default();
            assert_eq!(feed(&mut answer, bytes, body), Progress::Done { extra: 0 });
            answer.check_length(Expected::Exactly(body));
            assert!(!answer.wrong_body && !answer.wrong_request && !answer.closes && answer.version == 2);
            answer.reset();
            for byte in &bytes[..bytes.len() - 1] {
                assert_eq!(feed(&mut answer, &[*byte], body), Progress::More);
            }
            assert_eq!(feed(&mut answer, &bytes[bytes.len() - 1..], body), Progress::Done { extra: 0 });
            answer.check_length(Expected::Exactly(body));
            assert!(!answer.wrong_body);
        }
    }

    #[test]
    fn bytes_behind_the_answer_are_counted() {
        let progress = feed(&mut Answer::default(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP", b"");
        assert_eq!(progress, Progress::Done { extra: 4 });
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_stream_and_only_there() {
        let mut answer = Answer::default();
        assert_eq!(feed(&mut answer, b"HTTP/1.1 200 OK\r\n\r\nhel", b"hello"), Progress::More);
        assert!(answer.end_of_stream() && answer.closes);
        let mut answer = Answer::default();
        feed(&mut answer, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", b"hello");
        assert!(!answer.end_of_stream());
    }

    #[test]
    fn a_wrong_byte_a_wrong_length_and_a_wrong_id_are_seen() {
        let mut answer = Answer::default();
        feed(&mut answer, b"HTTP/1.1 200 OK\r\nX-Request-Id: other\r\nContent-Length: 5\r\n\r\nhallo", b"hello");
        assert!(answer.wrong_body && answer.wrong_request);
        let mut answer = Answer::default();
        feed(&mut answer, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", b"hello");
        assert!(!answer.wrong_body);
        answer.check_length(Expected::Exactly(b"hello"));
        assert!(answer.wrong_body);
    }

    #[test]
    fn what_is_not_http_is_malformed() {
        for bytes in [
            &b"\x15\x03\x01\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert!(matches!(feed(&mut Answer::default(), bytes, b"a"), Progress::Malformed(_)));
        }
    }
}
