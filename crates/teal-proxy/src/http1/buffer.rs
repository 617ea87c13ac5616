//! The bytes that were read from a socket and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// A window of filled bytes in a block of memory. Without memory until [`Buffer::ensure`], so that an idle connection
/// costs none.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn with_block(block: Box<[u8]>) -> Self {
        Self { block, start: 0, end: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Marks the first `n` bytes as used.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.block.len()
    }

    /// Makes the block at least `capacity` bytes long.
    pub(crate) fn ensure(&mut self, capacity: usize) {
        if self.block.len() < capacity {
            let mut block = vec![0; capacity].into_boxed_slice();
            block[..self.len()].copy_from_slice(self.bytes());
            (self.start, self.end) = (0, self.end - self.start);
            self.block = block;
        }
    }

    /// Puts `bytes` behind what is there.
    #[cfg(test)]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.ensure(self.len() + bytes.len());
        self.compact();
        self.block[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// The memory, for another connection.
    pub(crate) fn into_block(self) -> Box<[u8]> {
        self.block
    }

    /// Reads once; 0 is the end of the stream. There must be room.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.has_room());
        if self.end == self.block.len() {
            self.compact();
        }
        let mut free = ReadBuf::new(&mut self.block[self.end..]);
        ready!(Pin::new(reader).poll_read(cx, &mut free))?;
        let n = free.filled().len();
        self.end += n;
        Poll::Ready(Ok(n))
    }

    fn compact(&mut self) {
        self.block.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_order_through_consume_append_and_growth() {
        let mut buffer = Buffer::default();
        buffer.append(b"hello world");
        buffer.consume(6);
        buffer.append(b"s");
        buffer.ensure(100);
        buffer.append(b"!");
        assert_eq!(buffer.bytes(), b"worlds!");
        buffer.consume(7);
        assert!(buffer.is_empty());
    }
}
