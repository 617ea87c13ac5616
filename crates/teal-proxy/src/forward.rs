//! One request, from its head to the last byte of its answer.
//!
//! ```text
//! route ─▶ (hold) ─▶ claim a backend ─▶ pooled or new connection ─▶ head of the answer ─▶ body ─▶ keep, close or tunnel
//!   ▲                                        │ refused, or closed before any byte of an answer
//!   └────────── on the current table ────────┘ and safe to repeat, and within the budget
//! ```

use crate::backend::Backend;
use crate::gap;
use crate::hold::{self, Held};
use crate::http1::body::Decoder;
use crate::http1::buffer::Buffer;
use crate::http1::request::Request;
use crate::http1::response::{self, Response};
use crate::serve::Connection;
use crate::stats::Failure;
use crate::table::{Choice, Release, Service, Target};
use crate::transfer::{Download, NoAnswer, Passed, Upload, UploadEvent, UploadIo};
use crate::tunnel::Tunnel;
use crate::worker::{Scratch, Worker};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// How often one request is sent, at most.
const ATTEMPTS: usize = 4;
/// Between two looks for a backend while none takes connections.
const RECONNECT_AFTER: Duration = Duration::from_millis(20);
/// What a client is told to wait after its hold has expired, in seconds.
const RETRY_AFTER: &str = "Retry-After: 5\r\n";

/// What becomes of the client's connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// The next request may come, behind what is left of this one's body.
    Keep,
    /// After the answer has reached the client.
    Close,
    /// At once: the answer is cut, or nobody is there.
    Drop,
    Tunnel(Box<Tunnel>),
}

/// What became of a claim.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    ClientGone,
    Answered(u16),
    Failed(Failure),
    /// Sent again; the next claim counts.
    Retried,
    /// The same, not for the first time.
    RetriedMore,
}

/// A request's hold on a release and a backend. It begins on the table that the request is routed by, so it is counted before
/// the worker acknowledges a later one, and ends when the answer has been handed to the client.
#[derive(Debug)]
pub(crate) struct Claim {
    release: Rc<Release>,
    backend: Rc<Backend>,
    outcome: Cell<Outcome>,
}

impl Claim {
    fn new(release: &Rc<Release>, backend: &Rc<Backend>) -> Self {
        release.counters.in_flight.up();
        backend.claim();
        Self { release: release.clone(), backend: backend.clone(), outcome: Cell::new(Outcome::ClientGone) }
    }

    pub(crate) fn release(&self) -> &Release {
        &self.release
    }

    fn ends(self, outcome: Outcome) {
        self.outcome.set(outcome);
    }

    pub(crate) fn tunnel_begins(&self) {
        self.outcome.set(Outcome::Answered(101));
        self.release.counters.tunnels.up();
    }

    pub(crate) fn tunnel_ends(&self) {
        self.release.counters.tunnels.down();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let counters = &self.release.counters;
        match self.outcome.get() {
            Outcome::ClientGone => counters.client_aborts.up(),
            // Heads below 100 and above 599 do not get here as anything but 5xx.
            Outcome::Answered(status) => counters.answered[usize::from(status / 100).clamp(1, 5) - 1].up(),
            Outcome::Failed(failure) => counters.failed(failure),
            Outcome::Retried => counters.retries.up(),
            Outcome::RetriedMore => {}
        }
        counters.in_flight.down();
        self.backend.unclaim();
    }
}

/// A request that waits for its answer, as the service's longest gap sees it.
struct Waiting {
    service: Rc<Service>,
    epoch: Instant,
    over: bool,
}

impl Waiting {
    fn new(service: &Rc<Service>, epoch: Instant, now: Instant) -> Self {
        service.counters.gap.begin(gap::slot(epoch, now));
        Self { service: service.clone(), epoch, over: false }
    }

    fn answered(&mut self, now: Instant) {
        self.over = true;
        self.service.counters.gap.end(gap::slot(self.epoch, now), true);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.service.counters.gap.end(gap::slot(self.epoch, Instant::now()), false);
        }
    }
}

/// Why an attempt brought no answer.
enum Failed {
    /// No connection.
    Connect,
    NoAnswer(NoAnswer),
    Timeout,
}

/// What an attempt brought.
enum Attempt {
    Ended(Next),
    Failed(Claim, Failed),
    /// Sent again by the table of that moment.
    Again,
}

pub(crate) async fn forward(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    arrived: Instant,
) -> Next {
    let worker = connection.worker.clone();
    worker.budget.request(arrived);
    let Some(target) = route(connection, scratch, request) else {
        worker.counters.refused.up();
        return answer(connection, scratch, request, upload, "404 Not Found", "No route leads to a service.", "").await;
    };
    let waiting = Waiting::new(&target.service, worker.shared.epoch, arrived);
    let mut journey = Journey { arrived, waiting, tried: Vec::new(), attempts: 0, reconnect_until: None, retried: false };
    let mut target = Some(target);
    loop {
        let Some(current) = target.take().or_else(|| route(connection, scratch, request)) else {
            return answer(connection, scratch, request, upload, "404 Not Found", "No route leads here now.", "").await;
        };
        let claim = match current.choose(&journey.tried) {
            Choice::Use(release, backend) => Claim::new(release, backend),
            Choice::Hold => match wait(connection, scratch, request, upload, current, &journey).await {
                Some(next) => return next,
                None => continue,
            },
        };
        match attempt(connection, scratch, request, upload, &current, claim, &mut journey).await {
            Attempt::Ended(next) => return next,
            Attempt::Again => {}
            Attempt::Failed(claim, failed) => {
                return give_up(connection, scratch, request, upload, claim, failed).await;
            }
        }
    }
}

/// What one request remembers from attempt to attempt.
struct Journey {
    arrived: Instant,
    waiting: Waiting,
    tried: Vec<Rc<Backend>>,
    attempts: usize,
    /// Until when a backend is looked for, once none took a connection.
    reconnect_until: Option<Instant>,
    retried: bool,
}

impl Journey {
    fn retried(&mut self) -> Outcome {
        if std::mem::replace(&mut self.retried, true) { Outcome::RetriedMore } else { Outcome::Retried }
    }
}

fn route(connection: &Connection, scratch: &Scratch, request: &Request) -> Option<Rc<Target>> {
    let routes = connection.listener.routes.borrow();
    routes.find(&scratch.head[request.host.clone()], &scratch.head[request.path.clone()]).cloned()
}

/// Holds the request. None: look again.
async fn wait(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    target: Rc<Target>,
    journey: &Journey,
) -> Option<Next> {
    let worker = connection.worker.clone();
    let listener = connection.listener.clone();
    let Scratch { input, head, .. } = &mut *scratch;
    let look = || {
        let routes = listener.routes.borrow();
        routes.find(&head[request.host.clone()], &head[request.path.clone()]).cloned()
    };
    let held = unless_client_leaves(&mut connection.stream, input, hold::hold(&worker, journey.arrived, target, look));
    match held.await {
        None => Some(Next::Drop),
        Some(Held::Over) => None,
        Some(Held::Expired) => {
            let text = "The service is not there at the moment.";
            Some(answer(connection, scratch, request, upload, "503 Service Unavailable", text, RETRY_AFTER).await)
        }
    }
}

/// Runs `work` while the client is there. None: it has gone.
async fn unless_client_leaves<T>(
    stream: &mut TcpStream,
    input: &mut Buffer,
    work: impl Future<Output = T>,
) -> Option<T> {
    let (mut client, _) = stream.split();
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        while input.has_room() {
            match input.poll_fill(cx, &mut client) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

async fn attempt(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    target: &Target,
    claim: Claim,
    journey: &mut Journey,
) -> Attempt {
    let worker = connection.worker.clone();
    journey.attempts += 1;
    // A connection that was found closed says nothing of the next, so a second attempt takes a fresh one.
    let pooled = if journey.attempts == 1 {
        claim.backend.checkout(journey.arrived, request.idempotent && !request.upgrade)
    } else {
        None
    };
    let reused = pooled.is_some();
    let mut backend = match pooled {
        Some(stream) => stream,
        None => {
            let connecting = connect(&claim.backend, target.timeouts.connect_ms);
            match unless_client_leaves(&mut connection.stream, &mut scratch.input, connecting).await {
                None => return Attempt::Ended(Next::Drop),
                Some(Some(stream)) => stream,
                Some(None) => return no_connection(connection, scratch, target, claim, journey).await,
            }
        }
    };
    if journey.attempts > 1 {
        upload.restart();
    }

    let mut input = Buffer::with_block(worker.block());
    let wants = request.keep_alive && !worker.is_finishing();
    let head =
        exchange_heads(connection, scratch, request, upload, &mut backend, &mut input, wants, target).await;
    match head {
        Ok(response) => {
            let now = Instant::now();
            journey.waiting.answered(now);
            claim.backend.answered();
            if response.status == 101 {
                return Attempt::Ended(tunnel(scratch, backend, input, claim));
            }
            claim.release.counters.latency(now - journey.arrived);
            let next = pass_on(connection, scratch, request, upload, &response, backend, &mut input, claim, now).await;
            worker.give_block(input.into_block());
            Attempt::Ended(next)
        }
        Err(failed) => {
            worker.give_block(input.into_block());
            after_failure(&worker, request, upload, target, claim, failed, reused, journey)
        }
    }
}

/// No connection to this backend: another one, or the same again for a moment, since its container may just be going and
/// the table behind it.
async fn no_connection(
    connection: &mut Connection,
    scratch: &mut Scratch,
    target: &Target,
    claim: Claim,
    journey: &mut Journey,
) -> Attempt {
    let worker = connection.worker.clone();
    let now = Instant::now();
    claim.backend.failed(now);
    journey.tried.push(claim.backend.clone());
    if target.has_other(&journey.tried) {
        if worker.budget.retry(now) {
            claim.ends(journey.retried());
            return Attempt::Again;
        }
        return Attempt::Failed(claim, Failed::Connect);
    }
    let until = *journey
        .reconnect_until
        .get_or_insert(journey.arrived.max(now) + Duration::from_millis(target.timeouts.connect_ms));
    if now >= until {
        return Attempt::Failed(claim, Failed::Connect);
    }
    journey.tried.clear();
    let pause = async {
        tokio::select! {
            () = worker.changed.notified() => {}
            () = tokio::time::sleep(RECONNECT_AFTER) => {}
        }
    };
    if unless_client_leaves(&mut connection.stream, &mut scratch.input, pause).await.is_none() {
        return Attempt::Ended(Next::Drop);
    }
    claim.ends(journey.retried());
    Attempt::Again
}

/// Whether the request is sent again (see the module's drawing), and what is remembered of the backend.
fn after_failure(
    worker: &Worker,
    request: &Request,
    upload: &Upload,
    target: &Target,
    claim: Claim,
    failed: Failed,
    reused: bool,
    journey: &mut Journey,
) -> Attempt {
    let Failed::NoAnswer(NoAnswer::Closed { silent }) = failed else { return Attempt::Failed(claim, failed) };
    let now = Instant::now();
    if !reused {
        claim.backend.failed(now);
        journey.tried.push(claim.backend.clone());
    }
    let safe = silent && upload.is_replayable() && (request.idempotent || upload.is_unsent());
    let elsewhere = reused || target.has_other(&journey.tried) || claim.backend.is_retired();
    if safe && elsewhere && journey.attempts < ATTEMPTS && worker.budget.retry(now) {
        claim.ends(journey.retried());
        return Attempt::Again;
    }
    Attempt::Failed(claim, failed)
}

async fn connect(backend: &Backend, within_ms: u64) -> Option<TcpStream> {
    let connecting = tokio::time::timeout(Duration::from_millis(within_ms), TcpStream::connect(backend.addr));
    let stream = connecting.await.ok()?.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Sends the request, and reads until the answer's head is there.
#[expect(clippy::too_many_arguments, reason = "the parts of one exchange, borrowed apart")]
async fn exchange_heads(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    backend: &mut TcpStream,
    input: &mut Buffer,
    keep_alive: bool,
    target: &Target,
) -> Result<Response, Failed> {
    let Scratch { input: client_input, out, head } = scratch;
    let (mut client_read, mut client_write) = connection.stream.split();
    let (mut backend_read, mut backend_write) = backend.split();
    out.clear();
    let mut download = Download {
        backend: &mut backend_read,
        input,
        client: &mut client_write,
        out,
        sent: 0,
        alarm: &connection.alarm,
        heard: false,
    };
    let mut timeout = None;
    poll_fn(|cx| {
        loop {
            let mut io = UploadIo {
                client: &mut client_read,
                input: client_input,
                head,
                backend: &mut backend_write,
            };
            match upload.poll(cx, &mut io) {
                Poll::Ready(Err(UploadEvent::Continue)) => {
                    download.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                Poll::Ready(Err(event)) => return Poll::Ready(Err(Failed::NoAnswer(NoAnswer::Upload(event)))),
                Poll::Ready(Ok(never)) => match never {},
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(head) = download.poll_head(cx, request, keep_alive) {
            return Poll::Ready(head.map_err(Failed::NoAnswer));
        }
        if target.timeouts.response_ms > 0 && upload.is_sent() {
            let within = Duration::from_millis(target.timeouts.response_ms);
            let timeout = timeout.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
            return timeout.as_mut().poll(cx).map(|()| Err(Failed::Timeout));
        }
        Poll::Pending
    })
    .await
}

/// The answer's body, while the rest of the request's body may still be on its way.
#[expect(clippy::too_many_arguments, reason = "the parts of one exchange, borrowed apart")]
async fn pass_on(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    response: &Response,
    mut backend: TcpStream,
    input: &mut Buffer,
    claim: Claim,
    now: Instant,
) -> Next {
    let Scratch { input: client_input, out, head } = scratch;
    let (mut client_read, mut client_write) = connection.stream.split();
    let (mut backend_read, mut backend_write) = backend.split();
    let mut decoder = Decoder::new(response.framing);
    let mut download = Download {
        backend: &mut backend_read,
        input: &mut *input,
        client: &mut client_write,
        out,
        sent: 0,
        alarm: &connection.alarm,
        heard: true,
    };
    let mut upload_works = true;
    let passed = poll_fn(|cx| {
        if upload_works {
            let mut io =
                UploadIo { client: &mut client_read, input: client_input, head, backend: &mut backend_write };
            match upload.poll(cx, &mut io) {
                Poll::Ready(Err(UploadEvent::ClientGone)) => return Poll::Ready(Passed::ClientGone),
                Poll::Ready(_) => upload_works = false,
                Poll::Pending => {}
            }
        }
        download.poll_body(cx, &mut decoder, response.chunked, request.accepts_trailers)
    })
    .await;
    connection.alarm.clear();
    match passed {
        Passed::ClientGone => return Next::Drop,
        Passed::Cut => {
            claim.ends(Outcome::Failed(Failure::Cut));
            return Next::Drop;
        }
        Passed::Whole => {}
    }
    if response.reusable && upload.is_sent() && input.is_empty() {
        claim.backend.checkin(backend, now, response.idle);
    }
    claim.ends(Outcome::Answered(response.status));
    // A body framed wrongly: where the next request starts is not known.
    if response.keep_alive && (upload_works || upload.is_received()) { Next::Keep } else { Next::Close }
}

fn tunnel(scratch: &mut Scratch, backend: TcpStream, input: Buffer, claim: Claim) -> Next {
    let mut to_client = std::mem::take(&mut scratch.out);
    to_client.extend_from_slice(input.bytes());
    let to_backend = scratch.input.bytes().to_vec();
    Next::Tunnel(Box::new(Tunnel { backend, claim, to_client, to_backend }))
}

async fn give_up(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    claim: Claim,
    failed: Failed,
) -> Next {
    let (failure, status, text) = match failed {
        Failed::NoAnswer(NoAnswer::Upload(UploadEvent::BadBody)) => {
            drop(claim);
            let _ = answer(connection, scratch, request, upload, "400 Bad Request", "The body is malformed.", "").await;
            return Next::Close;
        }
        Failed::NoAnswer(NoAnswer::Upload(_)) => return Next::Drop,
        Failed::Connect => (Failure::Connect, "502 Bad Gateway", "The service takes no connection."),
        Failed::NoAnswer(NoAnswer::Closed { .. }) => {
            (Failure::Reset, "502 Bad Gateway", "The service closed the connection without an answer.")
        }
        Failed::NoAnswer(NoAnswer::Malformed) => (Failure::Reset, "502 Bad Gateway", "The service's answer is not HTTP."),
        Failed::Timeout => (Failure::Timeout, "504 Gateway Timeout", "The service did not answer in time."),
    };
    claim.ends(Outcome::Failed(failure));
    answer(connection, scratch, request, upload, status, text, "").await
}

/// An answer of the proxy's own.
async fn answer(
    connection: &mut Connection,
    scratch: &mut Scratch,
    request: &Request,
    upload: &mut Upload,
    status: &str,
    text: &str,
    extra: &str,
) -> Next {
    // Without a 100 nobody knows whether the body will come.
    let keep_alive = request.keep_alive && !upload.awaits_continue() && !connection.worker.is_finishing();
    scratch.out.clear();
    response::write_own(&mut scratch.out, status, text, extra, keep_alive, request.head);
    match connection.write(&scratch.out).await {
        Err(_) => Next::Drop,
        Ok(()) if keep_alive => Next::Keep,
        Ok(()) => Next::Close,
    }
}
