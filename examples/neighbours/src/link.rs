//! A connection to a neighbour: opened by name, read through a buffer, and looked at before it is used again.

use crate::dns;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A line that is longer is not of a protocol spoken here.
const LINE_MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub struct Link {
    reader: BufReader<TcpStream>,
}

impl Link {
    /// `timeout` holds for connecting, and then for every read and write.
    pub fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// `name` is `HOST:PORT`; the host is looked up now.
    pub fn open_by_name(name: &str, timeout: Duration) -> io::Result<Self> {
        Self::open(dns::address(name)?, timeout)
    }

    /// Open, and nothing has come that nobody asked for: what a client looks at before it writes on a connection that
    /// was idle.
    pub fn is_quiet(&self) -> bool {
        if !self.reader.buffer().is_empty() || self.reader.get_ref().set_nonblocking(true).is_err() {
            return false;
        }
        let peeked = self.reader.get_ref().peek(&mut [0]);
        let back = self.reader.get_ref().set_nonblocking(false);
        back.is_ok() && matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// A line without its end (LF or CRLF). An end of stream within it, or before it, is an error.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.reader).take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| malformed("a line that is not UTF-8"))
    }

    pub fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.reader.read_exact(&mut buffer)?;
        Ok(buffer)
    }
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_that_the_other_side_closed_is_noticed_before_it_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = Link::open(listener.local_addr().unwrap(), Duration::from_secs(5)).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert!(link.is_quiet());
        theirs.write_all(b"hello\r\nunasked").unwrap();
        assert_eq!(link.line().unwrap(), "hello");
        assert!(!link.is_quiet(), "bytes that nobody asked for");
        drop(theirs);
        assert!(link.line().is_err(), "half a line is none");
        assert!(!link.is_quiet(), "closed");
    }
}
