//! Redis: a command is an array of strings, a reply one of five kinds (RESP2).

use crate::link::{Link, malformed};
use std::io;
use std::time::Duration;

/// Longer strings and arrays are not asked for here.
const LENGTH_MAX: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    Number(i64),
    /// A string or an array that is not there.
    Nothing,
    Many(Vec<Reply>),
}

#[derive(Debug)]
pub struct Redis {
    link: Link,
}

impl Redis {
    pub fn open(name: &str, timeout: Duration) -> io::Result<Self> {
        Ok(Self { link: Link::open_by_name(name, timeout)? })
    }

    pub fn is_quiet(&self) -> bool {
        self.link.is_quiet()
    }

    /// An error reply is an error; the connection can be used on after it.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.link.write(command.as_bytes())?;
        reply(&mut self.link, 0)
    }

    pub fn number(&mut self, words: &[&str]) -> io::Result<i64> {
        match self.ask(words)? {
            Reply::Number(number) => Ok(number),
            other => Err(malformed(&format!("{other:?} instead of a number"))),
        }
    }
}

fn reply(link: &mut Link, depth: u8) -> io::Result<Reply> {
    let line = link.line()?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| malformed("an empty reply"))?;
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Err(io::Error::other(rest.to_owned())),
        ":" => Ok(Reply::Number(rest.parse().map_err(|_| malformed("a number that is none"))?)),
        "$" | "*" if rest == "-1" => Ok(Reply::Nothing),
        "$" => {
            let bytes = link.exactly(length(rest)? + 2)?;
            let text = bytes.strip_suffix(b"\r\n").ok_or_else(|| malformed("a string without an end"))?;
            Ok(Reply::Text(String::from_utf8_lossy(text).into_owned()))
        }
        "*" if depth < 4 => {
            (0..length(rest)?).map(|_| reply(link, depth + 1)).collect::<io::Result<_>>().map(Reply::Many)
        }
        _ => Err(malformed("not a reply of Redis")),
    }
}

fn length(text: &str) -> io::Result<usize> {
    let length = text.parse().map_err(|_| malformed("a length that is none"))?;
    if length <= LENGTH_MAX { Ok(length) } else { Err(malformed("too long")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Expects these bytes and answers with those, in turn; then it closes.
    fn server(exchanges: Vec<(&'static str, &'static str)>) -> Redis {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (expected, answer) in exchanges {
                let mut bytes = vec![0; expected.len()];
                stream.read_exact(&mut bytes).unwrap();
                assert_eq!(String::from_utf8(bytes).unwrap(), expected);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Redis::open(&at, Duration::from_secs(5)).unwrap()
    }

    #[test]
    fn commands_and_replies_are_as_redis_speaks_them() {
        let mut redis = server(vec![
            ("*2\r\n$4\r\nINCR\r\n$6\r\norders\r\n", ":7\r\n"),
            ("*3\r\n$5\r\nBRPOP\r\n$4\r\nwork\r\n$1\r\n1\r\n", "*2\r\n$4\r\nwork\r\n$2\r\n12\r\n"),
            ("*3\r\n$5\r\nBRPOP\r\n$4\r\nwork\r\n$1\r\n1\r\n", "*-1\r\n"),
            ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
        ]);
        assert_eq!(redis.number(&["INCR", "orders"]).unwrap(), 7);
        let text = |text: &str| Reply::Text(text.to_owned());
        assert_eq!(redis.ask(&["BRPOP", "work", "1"]).unwrap(), Reply::Many(vec![text("work"), text("12")]));
        assert_eq!(redis.ask(&["BRPOP", "work", "1"]).unwrap(), Reply::Nothing);
        assert_eq!(redis.ask(&["PING"]).unwrap(), text("PONG"));
    }

    #[test]
    fn an_error_is_an_error_and_so_is_an_end() {
        let mut redis = server(vec![("*1\r\n$1\r\nX\r\n", "-ERR unknown command\r\n"), ("*1\r\n$1\r\nY\r\n", "+O")]);
        assert_eq!(redis.ask(&["X"]).unwrap_err().to_string(), "ERR unknown command");
        assert!(redis.ask(&["Y"]).is_err());
        assert!(!redis.is_quiet());
    }
}
