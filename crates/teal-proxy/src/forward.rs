//! One request, from its head to the last byte of its answer.
//!
//! ```text
//! route ─▶ (hold) ─▶ claim a backend ─▶ pooled or new connection ─▶ head of the answer ─▶ body ─▶ keep, close or tunnel
//!   ▲                                        │ refused, or closed before any byte of an answer
//!   └────────── on the current table ────────┘ and safe to repeat, and within the budget
//! ```

use crate::backend::Backend;
use crate::claim::{Claim, Outcome, Waiting};
use crate::counters::Failure;
use crate::gap;
use crate::hold::{self, Held};
use crate::http1::body::Decoder;
use crate::http1::buffer::Buffer;
use crate::http1::request::Request;
use crate::http1::response::{self, Response};
use crate::journey::{self, Journey, Onward};
use crate::serve::Connection;
use crate::table::Release;
use crate::target::{Choice, Target, Way};
use crate::tcp;
use crate::transfer::{Download, NoAnswer, Passed, Upload, UploadEvent, UploadIo};
use crate::tunnel::Tunnel;
use crate::visit::Visit;
use crate::worker::{Listener, Scratch, Worker};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use teal_model::wire::{GAVE_UP_AFTER_MS, Protocol};
use tokio::net::TcpStream;

/// How often one request is sent, at most.
const ATTEMPTS: usize = 4;
/// Who leaves after this has given up.
const PATIENCE: Duration = Duration::from_millis(GAVE_UP_AFTER_MS);
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

/// Why an attempt brought no answer.
pub(crate) enum Failed {
    /// No connection.
    Connect,
    NoAnswer(NoAnswer),
    Timeout,
    /// The client has gone, having waited for long.
    GaveUp,
}

impl Failed {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Failed::NoAnswer(NoAnswer::Upload(_)) => Outcome::ClientGone,
            Failed::GaveUp => Outcome::GaveUp,
            Failed::Connect => Outcome::Failed(Failure::Connect),
            Failed::NoAnswer(NoAnswer::Closed { .. } | NoAnswer::Malformed) => Outcome::Failed(Failure::Reset),
            Failed::Timeout => Outcome::Failed(Failure::Timeout),
        }
    }
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
    let Some(target) = route(&connection.listener, &scratch.head, request) else {
        worker.counters.refused.up();
        let answer = Answer { status: "404 Not Found", text: "No route leads to a service.", extra: "" };
        return answer.send(connection, scratch, request, upload).await;
    };
    let visit = Visit::new(&target, &connection.peer, &worker, request, &mut scratch.head);
    upload.head_is(scratch.head.len());
    let since = gap::slot(worker.shared.epoch, arrived);
    let waiting = (visit.way != Way::Preview).then(|| Waiting::new(&target.service, worker.shared.epoch, since));
    let journey = Journey::new(arrived, visit.way);
    Exchange { worker, connection, scratch, request, upload, visit, since, waiting, journey }.run(target).await
}

fn route(listener: &Listener, head: &[u8], request: &Request) -> Option<Rc<Target>> {
    listener.routes.borrow().find(&head[request.host.clone()], &head[request.path.clone()]).cloned()
}

/// A request that is routed, and what it works with.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: &'a mut Connection,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) request: &'a Request,
    pub(crate) upload: &'a mut Upload,
    pub(crate) visit: Visit,
    /// When it arrived, as [`gap::slot`] tells it.
    since: u64,
    /// None for a preview, which is no user's request.
    waiting: Option<Waiting>,
    journey: Journey,
}

/// An answer whose head is there.
pub(crate) struct Incoming {
    pub(crate) response: Response,
    pub(crate) decoder: Decoder,
    pub(crate) backend: TcpStream,
    pub(crate) input: Buffer,
    pub(crate) claim: Claim,
    /// When its head arrived, or was taken up again.
    pub(crate) at: Instant,
}

impl Incoming {
    pub(crate) fn new(response: Response, backend: TcpStream, input: Buffer, claim: Claim, at: Instant) -> Self {
        let decoder = Decoder::new(response.framing);
        Self { response, decoder, backend, input, claim, at }
    }

    /// What can be used again goes back. `sent`: the whole request.
    pub(crate) fn give_back(self, worker: &Worker, sent: bool) -> Claim {
        if self.response.reusable && sent && self.input.is_empty() {
            self.claim.backend().checkin(self.backend, self.at, self.response.idle);
        }
        worker.give_block(self.input.into_block());
        self.claim
    }
}

impl Exchange<'_> {
    async fn run(mut self, mut target: Rc<Target>) -> Next {
        loop {
            let attempt = match target.choose(self.journey.way, &self.journey.tried) {
                Choice::Use(release, backend) => {
                    let claim = self.claim(&target, release, backend);
                    self.attempt(&target, claim).await
                }
                Choice::Hold if self.journey.way == Way::Preview => {
                    let text = "The release of this preview has no replica at the moment.";
                    return self.answer("503 Service Unavailable", text, "").await;
                }
                Choice::Hold => self.wait(target.clone()).await,
            };
            match attempt {
                Attempt::Ended(next) => return next,
                Attempt::Failed(claim, failed) => return self.give_up(claim, failed).await,
                Attempt::Again => {}
            }
            match self.route() {
                Some(current) => target = current,
                None => return self.answer("404 Not Found", "No route leads to a service now.", "").await,
            }
        }
    }

    /// By the table of this moment.
    pub(crate) fn route(&self) -> Option<Rc<Target>> {
        route(&self.connection.listener, &self.scratch.head, self.request)
    }

    fn claim(&mut self, target: &Target, release: &Rc<Release>, backend: &Rc<Backend>) -> Claim {
        self.visit.leads_to(release, target);
        self.journey.way = self.visit.way;
        match self.visit.way {
            Way::Preview => Claim::of_preview(release, backend),
            Way::Weights | Way::User(_) => Claim::new(release, backend, self.since),
        }
    }

    /// Holds the request until there may be a backend.
    async fn wait(&mut self, target: Rc<Target>) -> Attempt {
        let listener = self.connection.listener.clone();
        let Scratch { input, head, .. } = &mut *self.scratch;
        let look = || route(&listener, head, self.request);
        let holding = hold::hold(&self.worker, self.journey.arrived, target, Protocol::Http, look);
        match unless_client_leaves(&mut self.connection.stream, input, holding).await {
            None => Attempt::Ended(Next::Drop),
            Some(Held::Over) => Attempt::Again,
            Some(Held::Expired) => {
                let text = "The service is not there at the moment.";
                Attempt::Ended(self.answer("503 Service Unavailable", text, RETRY_AFTER).await)
            }
        }
    }

    async fn attempt(&mut self, target: &Target, claim: Claim) -> Attempt {
        self.journey.attempts += 1;
        // A connection that was found closed says nothing of the next, so a second attempt takes a fresh one.
        let first = self.journey.attempts == 1;
        let repeatable = self.request.idempotent && !self.request.upgrade;
        let pooled = if first { claim.backend().checkout(self.journey.arrived, repeatable) } else { None };
        let reused = pooled.is_some();
        let mut backend = match pooled {
            Some(stream) => stream,
            None => match self.connect(&claim, target.timeouts.connect_ms).await {
                None => return Attempt::Ended(Next::Drop),
                Some(Some(stream)) => stream,
                Some(None) => return self.no_connection(target, claim).await,
            },
        };
        if !first {
            self.upload.restart();
        }

        let mut input = Buffer::with_block(self.worker.block());
        match self.exchange_heads(target, &mut backend, &mut input).await {
            Ok(response) => {
                let (now, status) = (Instant::now(), response.status);
                claim.answer_begins(status, now - self.journey.arrived);
                claim.backend().answered();
                if status == 101 {
                    self.answered(now);
                    return Attempt::Ended(self.tunnel(backend, &input, claim));
                }
                let incoming = Incoming::new(response, backend, input, claim, now);
                Attempt::Ended(match status {
                    // Boxed, so that the others' task stays small.
                    404 if self.may_ask_other(target, incoming.claim.release()) => Box::pin(self.guard(incoming)).await,
                    _ => self.pass_on(incoming).await,
                })
            }
            Err(failed) => {
                self.worker.give_block(input.into_block());
                let unseen = self.is_unseen(&failed, &backend).await;
                self.after_failure(target, claim, failed, reused, unseen)
            }
        }
    }

    /// Whether the application certainly saw nothing of this request: its head was not taken whole, or it had closed the
    /// connection before any of it arrived.
    async fn is_unseen(&self, failed: &Failed, backend: &TcpStream) -> bool {
        let Failed::NoAnswer(NoAnswer::Closed { silent: true, orderly }) = failed else { return false };
        match self.upload.taken_by_socket() {
            _ if self.upload.is_unsent() => true,
            Some(sent) if *orderly && !self.request.idempotent => tcp::never_taken(backend, sent).await,
            _ => false,
        }
    }

    /// None: the client has gone. Some(None): no connection.
    pub(crate) async fn connect(&mut self, claim: &Claim, within_ms: u64) -> Option<Option<TcpStream>> {
        let connecting = claim.backend().connect(within_ms);
        unless_client_leaves(&mut self.connection.stream, &mut self.scratch.input, connecting).await
    }

    async fn no_connection(&mut self, target: &Target, claim: Claim) -> Attempt {
        match self.journey.no_connection(&self.worker, target, claim.backend()) {
            Onward::Elsewhere => {}
            Onward::AfterPause => {
                let pause = journey::pause(&self.worker);
                if unless_client_leaves(&mut self.connection.stream, &mut self.scratch.input, pause).await.is_none() {
                    return Attempt::Ended(Next::Drop);
                }
            }
            Onward::GiveUp => return Attempt::Failed(claim, Failed::Connect),
        }
        claim.ends(self.journey.retried());
        Attempt::Again
    }

    /// Whether the request is sent again (see the module's drawing), and what is remembered of the backend.
    fn after_failure(&mut self, target: &Target, claim: Claim, failed: Failed, reused: bool, unseen: bool) -> Attempt {
        let Failed::NoAnswer(NoAnswer::Closed { silent, .. }) = failed else { return Attempt::Failed(claim, failed) };
        let now = Instant::now();
        let journey = &mut self.journey;
        if !reused {
            claim.backend().failed(now);
            journey.tried.push(claim.backend().clone());
        }
        let safe =
            silent && self.upload.is_replayable() && ((self.request.idempotent && !self.request.upgrade) || unseen);
        let elsewhere = reused || target.has_other(journey.way, &journey.tried) || claim.backend().is_retired();
        if safe && elsewhere && journey.attempts < ATTEMPTS && self.worker.budget.retry(now) {
            claim.ends(journey.retried());
            return Attempt::Again;
        }
        Attempt::Failed(claim, failed)
    }

    /// Sends the request, and reads until the answer's head is there.
    pub(crate) async fn exchange_heads(
        &mut self,
        target: &Target,
        backend: &mut TcpStream,
        input: &mut Buffer,
    ) -> Result<Response, Failed> {
        let Self { connection, scratch, request, upload, visit, .. } = self;
        let keep_alive = request.keep_alive && !self.worker.is_finishing();
        let Scratch { input: client_input, out, head } = scratch;
        let (mut client_read, mut client_write) = connection.stream.split();
        let (mut backend_read, mut backend_write) = backend.split();
        out.clear();
        let alarm = &connection.alarm;
        let (backend, client) = (&mut backend_read, &mut client_write);
        let mut download = Download { backend, input, client, out, sent: 0, alarm, heard: false };
        let (mut timeout, mut asked) = (None, None);
        let answer = poll_fn(|cx| {
            loop {
                let (client, backend) = (&mut client_read, &mut backend_write);
                match upload.poll(cx, &mut UploadIo { client, input: client_input, head, backend }) {
                    Poll::Ready(Err(UploadEvent::Continue)) => {
                        download.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    Poll::Ready(Err(event)) => return Poll::Ready(Err(Failed::NoAnswer(NoAnswer::Upload(event)))),
                    Poll::Ready(Ok(never)) => match never {},
                    Poll::Pending => break,
                }
            }
            if let Poll::Ready(head) = download.poll_head(cx, request, keep_alive, &visit.told) {
                return Poll::Ready(head.map_err(Failed::NoAnswer));
            }
            if upload.is_received() {
                asked.get_or_insert_with(Instant::now);
            }
            if target.timeouts.response_ms > 0 && upload.is_sent() {
                let within = Duration::from_millis(target.timeouts.response_ms);
                let timeout = timeout.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
                return timeout.as_mut().poll(cx).map(|()| Err(Failed::Timeout));
            }
            Poll::Pending
        })
        .await;
        match answer {
            Err(Failed::NoAnswer(NoAnswer::Upload(UploadEvent::ClientGone)))
                if asked.is_some_and(|asked| asked.elapsed() >= PATIENCE) =>
            {
                Err(Failed::GaveUp)
            }
            answer => answer,
        }
    }

    fn answered(&mut self, now: Instant) {
        if let Some(waiting) = &mut self.waiting {
            waiting.answered(now);
        }
    }

    /// The answer's body, while the rest of the request's body may still be on its way.
    pub(crate) async fn pass_on(&mut self, mut incoming: Incoming) -> Next {
        self.answered(incoming.at);
        let Self { connection, scratch, request, upload, .. } = self;
        let Scratch { input: client_input, out, head } = &mut **scratch;
        let Incoming { response, decoder, backend, input, .. } = &mut incoming;
        let mut upload_works = true;
        let passed = {
            let (mut client_read, mut client_write) = connection.stream.split();
            let (mut backend_read, mut backend_write) = backend.split();
            let alarm = &connection.alarm;
            let (backend, client) = (&mut backend_read, &mut client_write);
            let mut download = Download { backend, input, client, out, sent: 0, alarm, heard: true };
            poll_fn(|cx| {
                if upload_works {
                    let (client, backend) = (&mut client_read, &mut backend_write);
                    match upload.poll(cx, &mut UploadIo { client, input: client_input, head, backend }) {
                        Poll::Ready(Err(UploadEvent::ClientGone)) => return Poll::Ready(Passed::ClientGone),
                        Poll::Ready(_) => upload_works = false,
                        Poll::Pending => {}
                    }
                }
                download.poll_body(cx, decoder, response.chunked, request.accepts_trailers)
            })
            .await
        };
        connection.alarm.clear();
        match passed {
            Passed::ClientGone => return Next::Drop,
            Passed::Cut => {
                self.sample(&incoming.claim, None);
                incoming.claim.ends(Outcome::Failed(Failure::Cut));
                return Next::Drop;
            }
            Passed::Whole => {}
        }
        let (status, keep_alive) = (incoming.response.status, incoming.response.keep_alive);
        let claim = incoming.give_back(&self.worker, self.upload.is_sent());
        if status >= 500 {
            self.sample(&claim, Some(status));
        }
        claim.ends(Outcome::Answered(status));
        // A body framed wrongly: where the next request starts is not known.
        if keep_alive && (upload_works || self.upload.is_received()) { Next::Keep } else { Next::Close }
    }

    fn tunnel(&mut self, backend: TcpStream, input: &Buffer, claim: Claim) -> Next {
        let mut to_client = std::mem::take(&mut self.scratch.out);
        to_client.extend_from_slice(input.bytes());
        let to_backend = self.scratch.input.bytes().to_vec();
        Next::Tunnel(Box::new(Tunnel { backend, claim, to_client, to_backend }))
    }

    async fn give_up(&mut self, claim: Claim, failed: Failed) -> Next {
        let outcome = failed.outcome();
        let (status, text) = match failed {
            Failed::NoAnswer(NoAnswer::Upload(UploadEvent::BadBody)) => {
                claim.ends(outcome);
                return match self.answer("400 Bad Request", "The body is malformed.", "").await {
                    Next::Keep => Next::Close,
                    next => next,
                };
            }
            Failed::NoAnswer(NoAnswer::Upload(_)) | Failed::GaveUp => {
                claim.ends(outcome);
                return Next::Drop;
            }
            Failed::Timeout => ("504 Gateway Timeout", "The service did not answer in time."),
            Failed::Connect => ("502 Bad Gateway", "The service takes no connection."),
            Failed::NoAnswer(NoAnswer::Malformed) => ("502 Bad Gateway", "The service's answer is not HTTP."),
            Failed::NoAnswer(_) => ("502 Bad Gateway", "The service closed the connection without an answer."),
        };
        self.sample(&claim, None);
        claim.ends(outcome);
        self.answer(status, text, "").await
    }

    pub(crate) fn sample(&self, claim: &Claim, status: Option<u16>) {
        let head = &self.scratch.head;
        claim.sample(self.request.method(head), self.request.bare_path(head), status);
    }

    async fn answer(&mut self, status: &str, text: &str, extra: &str) -> Next {
        Answer { status, text, extra }.send(self.connection, self.scratch, self.request, self.upload).await
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

/// An answer of the proxy's own.
struct Answer<'a> {
    status: &'a str,
    text: &'a str,
    extra: &'a str,
}

impl Answer<'_> {
    async fn send(
        &self,
        connection: &mut Connection,
        scratch: &mut Scratch,
        request: &Request,
        upload: &Upload,
    ) -> Next {
        // Without a 100 nobody knows whether the body will come; to HTTP/1.0 staying would have to be said.
        let stays = request.keep_alive && request.http11 && !upload.awaits_continue();
        let keep_alive = stays && !connection.worker.is_finishing();
        scratch.out.clear();
        response::write_own(&mut scratch.out, self.status, self.text, self.extra, keep_alive, request.head);
        match connection.write(&scratch.out).await {
            Err(_) => Next::Drop,
            Ok(()) if keep_alive => Next::Keep,
            Ok(()) => Next::Close,
        }
    }
}
