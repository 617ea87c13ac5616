//! Postgres: a session without a password and simple queries, as text (frontend/backend protocol 3.0).

use crate::link::{Link, malformed};
use std::io;
use std::time::Duration;

const PROTOCOL_3_0: u32 = 196_608;
const MESSAGE_MAX_BYTES: usize = 16 << 20;
const AUTHENTICATION_OK: [u8; 4] = [0; 4];

/// Columns of a row, as text; None is NULL.
pub type Row = Vec<Option<String>>;

#[derive(Debug)]
pub struct Postgres {
    link: Link,
}

impl Postgres {
    /// A session of the user and in the database `postgres`.
    pub fn open(name: &str, timeout: Duration) -> io::Result<Self> {
        let mut session = Self { link: Link::open_by_name(name, timeout)? };
        let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
        body.extend(b"user\0postgres\0database\0postgres\0\0");
        session.link.write(&framed(None, &body))?;
        session.until_ready()?;
        Ok(session)
    }

    pub fn is_quiet(&self) -> bool {
        self.link.is_quiet()
    }

    /// The rows of all statements. After an error of the database the session can be used on.
    pub fn query(&mut self, sql: &str) -> io::Result<Vec<Row>> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.link.write(&framed(Some(b'Q'), &body))?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> io::Result<Vec<Row>> {
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let (kind, body) = self.message()?;
            match kind {
                b'Z' => return failed.map_or(Ok(rows), Err),
                b'D' => rows.push(row(&body).ok_or_else(|| malformed("a row that is cut"))?),
                b'E' => failed = Some(io::Error::other(explain(&body))),
                b'R' if body != AUTHENTICATION_OK => return Err(malformed("the database wants a password")),
                // Parameters, keys to cancel with, descriptions, notices, tags of commands.
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.link.exactly(5)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=MESSAGE_MAX_BYTES).contains(&length) {
            return Err(malformed("a message that cannot be so long"));
        }
        Ok((head[0], self.link.exactly(length - 4)?))
    }
}

/// A string constant (with `standard_conforming_strings`, the default since 9.1).
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// The first message of a session has no kind.
fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

fn row(body: &[u8]) -> Option<Row> {
    let (columns, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*columns) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        let (text, after) = rest.split_at_checked(length)?;
        row.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Some(row)
}

/// SQLSTATE and message of an ErrorResponse: fields of a kind and a text that ends with a zero.
fn explain(body: &[u8]) -> String {
    let field = |kind: u8| {
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&kind));
        field.map_or_else(String::new, |field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    format!("{}: {}", field(b'C'), field(b'M'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn send(stream: &mut TcpStream, kind: u8, body: &[u8]) {
        stream.write_all(&framed(Some(kind), body)).unwrap();
    }

    fn expect_query(stream: &mut TcpStream, sql: &str) {
        let mut bytes = vec![0; 5 + sql.len() + 1];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!((bytes[0], String::from_utf8_lossy(&bytes[5..])), (b'Q', format!("{sql}\0").into()));
    }

    /// A database that takes a session in, and then behaves as it is told.
    fn server(then: impl FnOnce(&mut TcpStream) + Send + 'static) -> io::Result<Postgres> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?.to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = vec![0; 41];
            stream.read_exact(&mut hello).unwrap();
            assert_eq!(hello[..8], [0, 0, 0, 41, 0, 3, 0, 0]);
            assert_eq!(&hello[8..], b"user\0postgres\0database\0postgres\0\0");
            then(&mut stream);
        });
        Postgres::open(&at, Duration::from_secs(5))
    }

    fn welcome(stream: &mut TcpStream) {
        send(stream, b'R', &[0; 4]);
        send(stream, b'S', b"TimeZone\0UTC\0");
        send(stream, b'Z', b"I");
    }

    #[test]
    fn a_query_brings_its_rows() {
        let mut database = server(|stream| {
            welcome(stream);
            expect_query(stream, "SELECT 'it''s', NULL");
            send(stream, b'T', &[0; 20]);
            send(stream, b'D', b"\0\x02\0\0\0\x04it's\xff\xff\xff\xff");
            send(stream, b'C', b"SELECT 1\0");
            send(stream, b'Z', b"I");
        })
        .unwrap();
        let rows = database.query(&format!("SELECT {}, NULL", quoted("it's"))).unwrap();
        assert_eq!(rows, [vec![Some("it's".to_owned()), None]]);
    }

    #[test]
    fn an_error_leaves_the_session_usable_and_an_end_does_not() {
        let mut database = server(|stream| {
            welcome(stream);
            expect_query(stream, "SELEC");
            send(stream, b'E', b"SERROR\0C42601\0Msyntax error\0\0");
            send(stream, b'Z', b"I");
            expect_query(stream, "SELECT 1");
            send(stream, b'C', b"SELECT 0\0");
            send(stream, b'Z', b"I");
        })
        .unwrap();
        assert_eq!(database.query("SELEC").unwrap_err().to_string(), "42601: syntax error");
        assert_eq!(database.query("SELECT 1").unwrap(), Vec::<Row>::new());
        assert!(database.query("SELECT 1").is_err());
        assert!(!database.is_quiet());
    }

    #[test]
    fn a_password_is_not_known_here() {
        let refused = server(|stream| send(stream, b'R', &[0, 0, 0, 10]));
        assert!(refused.unwrap_err().to_string().contains("password"));
    }
}
