//! The bytes of one exchange, both ways at once.
//!
//! ```text
//! client ──input──▶ Upload   ──head (and what is kept of the body)──▶ backend
//! client ◀──out──── Download ◀──────────────────────────────input──── backend
//! ```
//!
//! An application may answer before it has read the body, and close. So a failed *write* ends the upload and nothing
//! else: the answer is still read, since Linux keeps what was received before a reset.

use crate::alarm::Alarm;
use crate::http1::body::{self, BodyError, Decoder, Framing, Piece};
use crate::http1::buffer::Buffer;
use crate::http1::request::Request;
use crate::http1::response::{self, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// So much of a request's body is kept to send it again.
const REPLAY: usize = 64 * 1024;
/// Bytes gathered before they are written.
const BATCH: usize = 64 * 1024;
/// A client that takes or gives nothing for so long is gone.
const STALL: Duration = Duration::from_secs(60);

/// Something the upload cannot go on with by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UploadEvent {
    ClientGone,
    /// The client's body is framed wrongly.
    BadBody,
    /// The client waits for `100 Continue`.
    Continue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Sending,
    /// The backend takes no more.
    Broken,
    /// All of it was sent.
    Sent,
}

/// The request on its way to the backend.
#[derive(Debug)]
pub(crate) struct Upload {
    decoder: Decoder,
    chunked: bool,
    mode: Mode,
    /// Of `head`: where the request line's path ends, where its fields end, and what the backend's socket has taken.
    path: usize,
    head: usize,
    sent: usize,
    /// `head` still holds everything from the first byte on.
    replayable: bool,
    expects_continue: bool,
    ended: bool,
}

/// What an upload works with; the borrows last for one poll.
pub(crate) struct UploadIo<'a, 'c, 'b> {
    pub(crate) client: &'a mut ReadHalf<'c>,
    pub(crate) input: &'a mut Buffer,
    pub(crate) head: &'a mut Vec<u8>,
    pub(crate) backend: &'a mut WriteHalf<'b>,
}

impl Upload {
    pub(crate) fn new(request: &Request, head: usize) -> Self {
        let decoder = Decoder::new(request.framing);
        Self {
            ended: decoder.is_done(),
            decoder,
            chunked: request.framing == Framing::Chunked,
            mode: Mode::Sending,
            path: request.path.end,
            head,
            sent: 0,
            replayable: true,
            expects_continue: request.expects_continue,
        }
    }

    /// The head was changed, and is so long now. Only before any of it is sent.
    pub(crate) fn head_is(&mut self, length: usize) {
        self.head = length;
    }

    /// The client may hold its body back until it is told to go on.
    pub(crate) fn awaits_continue(&self) -> bool {
        self.expects_continue
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.mode == Mode::Sent
    }

    /// The whole request has been read from the client.
    pub(crate) fn is_received(&self) -> bool {
        self.ended
    }

    pub(crate) fn is_replayable(&self) -> bool {
        self.replayable
    }

    /// Not even the head was taken whole, so no application can have seen a request.
    pub(crate) fn is_unsent(&self) -> bool {
        self.replayable && self.sent < self.head
    }

    /// What the backend's socket has taken of the request, as far as it could be sent again. None after a failed write:
    /// that has taken the socket's error away, so a read that ends says nothing of how the backend closed.
    pub(crate) fn taken_by_socket(&self) -> Option<usize> {
        (self.replayable && self.mode != Mode::Broken).then_some(self.sent)
    }

    /// For another connection. Only while replayable.
    pub(crate) fn restart(&mut self) {
        self.mode = Mode::Sending;
        self.sent = 0;
    }

    /// Moves bytes until it must wait. When everything was sent it goes on to watch for the client's end.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut UploadIo<'_, '_, '_>,
    ) -> Poll<Result<Infallible, UploadEvent>> {
        while self.mode == Mode::Sending {
            if !self.replayable && self.sent == io.head.len() {
                // What was asked for is still to be told where it fails.
                io.head.truncate(self.path);
                self.sent = self.path;
            }
            self.gather(io)?;
            if self.sent < io.head.len() {
                match ready!(Pin::new(&mut *io.backend).poll_write(cx, &io.head[self.sent..])) {
                    Ok(n) if n > 0 => self.sent += n,
                    _ => self.mode = Mode::Broken,
                }
            } else if self.ended {
                self.mode = Mode::Sent;
            } else if std::mem::take(&mut self.expects_continue) && io.input.is_empty() {
                return Poll::Ready(Err(UploadEvent::Continue));
            } else {
                ready!(fill(cx, io.client, io.input))?;
            }
        }
        // More than the buffer holds is read when its turn comes.
        while io.input.has_room() {
            ready!(fill(cx, io.client, io.input))?;
        }
        Poll::Pending
    }

    /// Takes what has arrived of the body, so that it goes out with the head in one write.
    fn gather(&mut self, io: &mut UploadIo<'_, '_, '_>) -> Result<(), UploadEvent> {
        while !self.ended && !io.input.is_empty() && (self.replayable || self.sent == io.head.len()) {
            match self.decoder.next(io.input).map_err(|_| UploadEvent::BadBody)? {
                Piece::Data(n) => {
                    self.expects_continue = false;
                    body::encode(io.head, self.chunked, &io.input.bytes()[..n]);
                    io.input.consume(n);
                    self.ended = self.decoder.is_done();
                }
                Piece::End(trailers) => {
                    self.ended = true;
                    body::encode_end(io.head, &trailers);
                }
                Piece::Starved => break,
            }
            self.replayable &= io.head.len() <= self.head + REPLAY;
        }
        Ok(())
    }

    /// Reads and forgets the rest of the body, at most `limit` bytes of it. Ok: it is over.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ReadHalf<'_>,
        input: &mut Buffer,
        limit: &mut u64,
    ) -> Poll<Result<(), UploadEvent>> {
        while !self.ended {
            match self.decoder.next(input).map_err(|_| UploadEvent::BadBody)? {
                Piece::Data(n) => {
                    input.consume(n);
                    *limit = limit.checked_sub(n as u64).ok_or(UploadEvent::BadBody)?;
                    self.ended = self.decoder.is_done();
                }
                Piece::End(_) => self.ended = true,
                Piece::Starved => ready!(fill(cx, client, input))?,
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn fill(cx: &mut Context<'_>, client: &mut ReadHalf<'_>, input: &mut Buffer) -> Poll<Result<(), UploadEvent>> {
    Poll::Ready(match ready!(input.poll_fill(cx, client)) {
        Ok(n) if n > 0 => Ok(()),
        _ => Err(UploadEvent::ClientGone),
    })
}

/// Why there is no head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The backend closed or reset. `silent`: before any byte. `orderly`: it closed (FIN) and did not reset.
    Closed {
        silent: bool,
        orderly: bool,
    },
    /// What it sent is not HTTP.
    Malformed,
    Upload(UploadEvent),
}

/// How the passing on of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Whole,
    /// The backend broke off.
    Cut,
    ClientGone,
}

/// The answer on its way to the client.
pub(crate) struct Download<'a, 'b, 'c> {
    pub(crate) backend: &'a mut ReadHalf<'b>,
    pub(crate) input: &'a mut Buffer,
    pub(crate) client: &'a mut WriteHalf<'c>,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) alarm: &'a Alarm,
    /// Something has arrived.
    pub(crate) heard: bool,
}

impl Download<'_, '_, '_> {
    /// Reads until the answer's head is there and written to `out`, with the fields `told` added; interim answers are passed on.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
        keep_alive: bool,
        told: &str,
    ) -> Poll<Result<Response, NoAnswer>> {
        loop {
            if !self.input.is_empty() {
                let before = self.out.len();
                match response::translate(self.input.bytes(), request, keep_alive, told, self.out) {
                    Err(response::Malformed) => return Poll::Ready(Err(NoAnswer::Malformed)),
                    Ok(Some(response)) => {
                        self.input.consume(response.used);
                        if !response.is_interim() {
                            return Poll::Ready(Ok(response));
                        }
                        // 100 was answered here already; HTTP/1.0 does not know the others.
                        if response.status == 100 || !request.http11 {
                            self.out.truncate(before);
                        }
                        continue;
                    }
                    Ok(None) if !self.input.has_room() => self.input.ensure(self.input.capacity() * 2),
                    Ok(None) => {}
                }
            }
            if self.poll_flush(cx)?.is_pending() {
                return Poll::Pending;
            }
            match ready!(self.input.poll_fill(cx, self.backend)) {
                Ok(n) if n > 0 => self.heard = true,
                end => return Poll::Ready(Err(NoAnswer::Closed { silent: !self.heard, orderly: end.is_ok() })),
            }
        }
    }

    /// Passes the body on until it is over and written.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
        chunked: bool,
        trailers_pass: bool,
    ) -> Poll<Passed> {
        let mut over = decoder.is_done();
        loop {
            if !over {
                match self.gather(decoder, chunked, trailers_pass, BATCH) {
                    Ok(ended) => over = ended,
                    Err(_) => return Poll::Ready(Passed::Cut),
                }
            }
            // Then the input may hold more, and have no room.
            let full = self.out.len() - self.sent >= BATCH;
            if ready!(self.poll_flush(cx)).is_err() {
                return Poll::Ready(Passed::ClientGone);
            }
            if over {
                return Poll::Ready(Passed::Whole);
            }
            if full {
                continue;
            }
            match ready!(self.poll_more(cx, decoder, chunked)) {
                Some(ended) => over = ended,
                None => return Poll::Ready(Passed::Cut),
            }
        }
    }

    /// Gathers the body in `out`, and writes none of it. False: there are `most` bytes and no end, or it broke off, which
    /// [`Download::poll_body`] finds as well.
    pub(crate) fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
        chunked: bool,
        trailers_pass: bool,
        most: usize,
    ) -> Poll<bool> {
        while !decoder.is_done() {
            match self.gather(decoder, chunked, trailers_pass, most) {
                Ok(true) => break,
                Ok(false) if self.out.len() < most => {}
                Ok(false) | Err(_) => return Poll::Ready(false),
            }
            if ready!(self.poll_more(cx, decoder, chunked)).is_none() {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(self.out.len() <= most)
    }

    /// Moves what has arrived of the body to `out`, until `most` bytes wait there. Ok(true): it is over.
    fn gather(
        &mut self,
        decoder: &mut Decoder,
        chunked: bool,
        trailers_pass: bool,
        most: usize,
    ) -> Result<bool, BodyError> {
        while self.out.len() - self.sent < most {
            match decoder.next(self.input)? {
                Piece::Data(n) => {
                    body::encode(self.out, chunked, &self.input.bytes()[..n]);
                    self.input.consume(n);
                }
                Piece::End(trailers) => {
                    if chunked {
                        body::encode_end(self.out, if trailers_pass { &trailers } else { &[] });
                    }
                    return Ok(true);
                }
                Piece::Starved => break,
            }
        }
        Ok(false)
    }

    /// Reads on. Some(true): the body ended with the stream. None: it broke off.
    fn poll_more(&mut self, cx: &mut Context<'_>, decoder: &mut Decoder, chunked: bool) -> Poll<Option<bool>> {
        if decoder.at_least() > self.input.capacity() as u64 {
            self.input.ensure(BATCH);
        }
        Poll::Ready(match ready!(self.input.poll_fill(cx, self.backend)) {
            Ok(n) if n > 0 => Some(false),
            Ok(_) if decoder.ends_with_stream() => {
                decoder.end();
                if chunked {
                    body::encode_end(self.out, &[]);
                }
                Some(true)
            }
            _ => None,
        })
    }

    /// Writes what is in `out`.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoAnswer>> {
        let gone = || Poll::Ready(Err(NoAnswer::Upload(UploadEvent::ClientGone)));
        while self.sent < self.out.len() {
            match Pin::new(&mut *self.client).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent += n;
                    self.alarm.clear();
                }
                Poll::Ready(_) => return gone(),
                Poll::Pending => {
                    if !self.alarm.is_set() {
                        self.alarm.set(STALL);
                    }
                    ready!(self.alarm.poll(cx));
                    return gone();
                }
            }
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}
