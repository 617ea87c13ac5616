//! One client connection: served while requests come, parked while none do.
//!
//! ```text
//! accept ─▶ serve: head ─▶ forward ─▶ head ─▶ … ── idle for a second ──▶ park: a bare socket, no memory
//!             ▲                                                            │
//!             └──────────────────────── readable ──────────────────────────┘
//! ```
//!
//! A parked connection is a socket and nothing else, so it can be handed to another process as it is. A change of the
//! table never closes a client's connection.

use crate::alarm::Alarm;
use crate::forward::{self, Next};
use crate::http1::buffer::Buffer;
use crate::http1::request::{self, MAX_HEAD, Refusal, Request};
use crate::http1::response;
use crate::peer::JudgedPeer;
use crate::transfer::Upload;
use crate::tunnel::Tunnel;
use crate::worker::{Listener, Scratch, Worker};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// An idle connection is parked after this long.
const PARK_AFTER: Duration = Duration::from_secs(1);
/// A parked connection is closed after this long (75 s of idleness in all).
const PARKED_FOR: Duration = Duration::from_secs(74);
/// From the first byte of a head to its last.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// What a client may still send of a request that was answered early, so that its connection survives.
const DRAIN_BYTES: u64 = 1024 * 1024;
const DRAIN_FOR: Duration = Duration::from_secs(5);
/// A connection that is closed while its client still sends: read on for this long, else a reset would destroy the answer.
const LINGER_BYTES: u64 = 4 * 1024 * 1024;
const LINGER_FOR: Duration = Duration::from_secs(2);

/// A client's connection and what is known of it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Rc<Listener>,
    pub(crate) stream: TcpStream,
    pub(crate) alarm: Alarm,
    pub(crate) peer: JudgedPeer,
}

/// Why serving stopped.
enum Ended {
    /// Nothing arrived for a while.
    Idle,
    Closed,
    Tunnel(Box<Tunnel>),
}

pub(crate) async fn connection(worker: Rc<Worker>, listener: Rc<Listener>, stream: TcpStream, addr: Option<IpAddr>) {
    worker.counters.open.up();
    let mut connection = Connection::new(worker, listener, stream, addr);
    loop {
        // Boxed, so that a parked connection's task is small.
        match Box::pin(connection.serve()).await {
            Ended::Idle => {}
            Ended::Closed => return,
            Ended::Tunnel(tunnel) => return tunnel.run(&connection.worker, &mut connection.stream).await,
        }
        if !connection.park().await {
            return;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.counters.open.down();
    }
}

/// What came in place of a request.
enum NoRequest {
    Idle,
    Closed,
    Slow,
    Refused(Refusal),
}

impl Connection {
    fn new(worker: Rc<Worker>, listener: Rc<Listener>, stream: TcpStream, addr: Option<IpAddr>) -> Self {
        let peer = JudgedPeer::new(addr, &listener, &worker);
        let alarm = worker.alarms.alarm();
        Self { worker, listener, stream, alarm, peer }
    }

    /// Waits for bytes without memory. False: the connection is over.
    async fn park(&mut self) -> bool {
        let parked = &self.worker.counters.parked;
        parked.up();
        self.alarm.set(PARKED_FOR);
        let readable = poll_fn(|cx| match self.stream.poll_read_ready(cx) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending => self.alarm.poll(cx).map(|()| false),
        })
        .await;
        parked.down();
        self.alarm.clear();
        readable
    }

    async fn serve(&mut self) -> Ended {
        let mut scratch = self.worker.scratch();
        let ended = self.serve_with(&mut scratch).await;
        self.worker.give_scratch(scratch);
        ended
    }

    async fn serve_with(&mut self, scratch: &mut Scratch) -> Ended {
        loop {
            let request = match self.next_request(scratch).await {
                Ok(request) => request,
                Err(NoRequest::Idle) => return Ended::Idle,
                Err(NoRequest::Closed) => return Ended::Closed,
                Err(NoRequest::Slow) => {
                    return self.refuse(scratch, "408 Request Timeout", "The request's head took too long.").await;
                }
                Err(NoRequest::Refused(refusal)) => {
                    let (status, text) = words(refusal);
                    return self.refuse(scratch, status, text).await;
                }
            };
            let exchange = self.worker.exchange_begins();
            let mut upload = Upload::new(&request, scratch.head.len());
            let next = forward::forward(self, scratch, &request, &mut upload, Instant::now()).await;
            drop(exchange);
            match next {
                Next::Keep if upload.is_received() => {}
                Next::Keep => {
                    if upload.awaits_continue() || !self.drain(scratch, &mut upload).await {
                        return self.close(&mut scratch.input).await;
                    }
                }
                Next::Close => return self.close(&mut scratch.input).await,
                Next::Drop => return Ended::Closed,
                Next::Tunnel(tunnel) => return Ended::Tunnel(tunnel),
            }
        }
    }

    /// Reads until a head is whole, and writes the one for the backend into `scratch.head`.
    async fn next_request(&mut self, scratch: &mut Scratch) -> Result<Request, NoRequest> {
        let Scratch { input, head, .. } = scratch;
        let Self { worker, stream, alarm, peer, .. } = self;
        let (mut client, _) = stream.split();
        // Bytes that hold no end of a head.
        let mut seen = 0;
        alarm.set(if input.is_empty() { PARK_AFTER } else { HEAD_WITHIN });
        let request = poll_fn(|cx| {
            loop {
                // RFC 9112 2.2: empty lines before a request are ignored.
                while input.bytes().starts_with(b"\r\n") {
                    input.consume(2);
                    seen = 0;
                }
                if !input.is_empty() && (seen == 0 || may_end_a_head(input.bytes(), seen) || input.len() >= MAX_HEAD) {
                    peer.judge(worker);
                    match request::translate(input.bytes(), &peer.words, head) {
                        Ok(Some(request)) => {
                            input.consume(request.used);
                            return Poll::Ready(Ok(request));
                        }
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Err(NoRequest::Refused(refusal))),
                    }
                }
                if seen == 0 && !input.is_empty() {
                    alarm.set(HEAD_WITHIN);
                }
                seen = input.len();
                if !input.has_room() {
                    input.ensure(input.capacity() * 2);
                }
                match input.poll_fill(cx, &mut client) {
                    Poll::Ready(Ok(n)) if n > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Err(NoRequest::Closed)),
                    Poll::Pending => {
                        ready!(alarm.poll(cx));
                        let idle = input.is_empty();
                        return Poll::Ready(Err(if idle { NoRequest::Idle } else { NoRequest::Slow }));
                    }
                }
            }
        })
        .await;
        self.alarm.clear();
        request
    }

    /// Answers a request that cannot be served; what follows it cannot be understood.
    async fn refuse(&mut self, scratch: &mut Scratch, status: &str, text: &str) -> Ended {
        self.worker.counters.refused.up();
        scratch.out.clear();
        response::write_own(&mut scratch.out, status, text, "", false, false);
        let _ = self.write(&scratch.out).await;
        self.linger(&mut scratch.input).await;
        Ended::Closed
    }

    /// Writes to the client, which may take [`LINGER_FOR`] times a few to accept it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Ok(written) = tokio::time::timeout(DRAIN_FOR, self.stream.write_all(bytes)).await else {
            return Err(std::io::ErrorKind::TimedOut.into());
        };
        written
    }

    /// Reads the rest of a body that nobody wants. True: the next request can be read.
    async fn drain(&mut self, scratch: &mut Scratch, upload: &mut Upload) -> bool {
        let (mut client, _) = self.stream.split();
        let (alarm, mut limit) = (&self.alarm, DRAIN_BYTES);
        alarm.set(DRAIN_FOR);
        let drained = poll_fn(|cx| match upload.poll_drain(cx, &mut client, &mut scratch.input, &mut limit) {
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
            Poll::Pending => alarm.poll(cx).map(|()| false),
        });
        let drained = drained.await;
        self.alarm.clear();
        drained
    }

    async fn close(&mut self, input: &mut Buffer) -> Ended {
        self.linger(input).await;
        Ended::Closed
    }

    /// Ends our side, and reads until the client ends its own: a close with unread bytes is a reset, and a reset
    /// throws away the answer that the client has not read yet (RFC 9112 9.6).
    async fn linger(&mut self, input: &mut Buffer) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        input.consume(input.len());
        let (mut client, _) = self.stream.split();
        let (alarm, mut limit) = (&self.alarm, LINGER_BYTES);
        alarm.set(LINGER_FOR);
        poll_fn(|cx| {
            loop {
                match input.poll_fill(cx, &mut client) {
                    Poll::Ready(Ok(n)) if n > 0 && n as u64 <= limit => limit -= n as u64,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return alarm.poll(cx),
                }
                input.consume(input.len());
            }
        })
        .await;
    }
}

/// Whether an empty line ends behind the first `seen` bytes.
fn may_end_a_head(bytes: &[u8], seen: usize) -> bool {
    let fresh = &bytes[seen.saturating_sub(3)..];
    fresh.windows(2).any(|two| two == b"\n\n") || fresh.windows(3).any(|three| three == b"\n\r\n")
}

fn words(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::BadRequest(why) => ("400 Bad Request", why),
        Refusal::MethodNotAllowed => ("405 Method Not Allowed", "CONNECT is not served here."),
        Refusal::TooLarge => ("431 Request Header Fields Too Large", "The request's head is too large."),
        Refusal::Expectation => ("417 Expectation Failed", "Only 100-continue can be expected."),
        Refusal::Version => ("505 HTTP Version Not Supported", "HTTP/1.1 and HTTP/1.0 are served here."),
    }
}
