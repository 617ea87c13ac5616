//! The skew guard: a page of one release asks for a file that only that release has, and the other one is asked.
//!
//! ```text
//! GET /assets/app.1a2b.js ─▶ candidate: 404, kept ─▶ live: 200, passed on
//!                                                       └ 404, 5xx or nothing: the 404 that was kept
//! ```

use crate::claim::{Claim, Outcome};
use crate::counters::Failure;
use crate::forward::{Exchange, Incoming, Next};
use crate::gap;
use crate::http1::body::Framing;
use crate::http1::buffer::Buffer;
use crate::table::{Release, is_under};
use crate::target::{Target, Way};
use crate::transfer::{Download, UploadIo};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;
use teal_model::ids::ReleaseKey;
use teal_model::wire::SkewGuard;

/// So much of an answer is kept; one that is longer is passed on at once.
const KEPT: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Guard {
    /// Without a slash at their ends.
    prefixes: Vec<Box<[u8]>>,
    /// Of its releases, among the target's.
    pub(crate) pools: Vec<usize>,
}

impl Guard {
    pub(crate) fn new(wire: &SkewGuard, pool_of: impl Fn(&ReleaseKey) -> usize) -> Self {
        let prefix = |prefix: &String| prefix.trim_end_matches('/').as_bytes().into();
        Self {
            prefixes: wire.prefixes.iter().map(prefix).collect(),
            pools: wire.releases.iter().map(pool_of).collect(),
        }
    }

    pub(crate) fn covers(&self, path: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| is_under(prefix, path))
    }
}

impl Exchange<'_> {
    /// Passes a 404 on, unless another release has what it was asked for.
    pub(crate) async fn guard(&mut self, mut first: Incoming) -> Next {
        if !self.keep(&mut first).await {
            return self.pass_on(first).await;
        }
        let kept = std::mem::take(&mut self.scratch.out);
        match self.ask_other(first.claim.release()).await {
            Some(second) => {
                // Its claim lasts as long as the client's request.
                let claim = first.give_back(&self.worker, true);
                let next = self.pass_on(second).await;
                claim.ends(Outcome::Answered(404));
                next
            }
            None => {
                self.scratch.out = kept;
                first.at = Instant::now();
                self.pass_on(first).await
            }
        }
    }

    /// Whether the 404 of `release` need not be the last word.
    pub(crate) fn may_ask_other(&self, target: &Target, release: &Release) -> bool {
        let (request, head) = (self.request, &self.scratch.head);
        let plain = request.framing == Framing::NONE && !request.upgrade && self.visit.way != Way::Preview;
        plain
            && matches!(request.method(head), b"GET" | b"HEAD")
            && target.other_than(release, request.bare_path(head)).is_some()
    }

    /// Reads the rest of an answer without passing it on. False: it is too long, it breaks off, or the client has gone, and
    /// passing it on is the way to deal with that.
    async fn keep(&mut self, incoming: &mut Incoming) -> bool {
        let Self { connection, scratch, request, upload, .. } = self;
        let Incoming { response, decoder, backend, input, .. } = incoming;
        let (mut client_read, mut client_write) = connection.stream.split();
        let (mut backend_read, mut backend_write) = backend.split();
        let (out, alarm, limit) = (&mut scratch.out, &connection.alarm, KEPT);
        let (backend, client) = (&mut backend_read, &mut client_write);
        let mut download = Download { backend, input, client, out, sent: 0, alarm, heard: true };
        let (client_input, head) = (&mut scratch.input, &mut scratch.head);
        poll_fn(|cx| {
            let (client, backend) = (&mut client_read, &mut backend_write);
            if upload.poll(cx, &mut UploadIo { client, input: client_input, head, backend }).is_ready() {
                return Poll::Ready(false);
            }
            download.poll_gather(cx, decoder, response.chunked, request.accepts_trailers, limit)
        })
        .await
    }

    /// The answer of another release, if it has one. It is claimed on the table of this moment, as every claim is.
    async fn ask_other(&mut self, than: &Release) -> Option<Incoming> {
        let target = self.route()?;
        let (release, backend) = target.other_than(than, self.request.bare_path(&self.scratch.head))?;
        let asked = Instant::now();
        let claim = Claim::new(release, backend, gap::slot(self.worker.shared.epoch, asked));
        // A client that has gone is noticed again where the first answer is passed on.
        let Some(mut backend) = self.connect(&claim, target.timeouts.connect_ms).await? else {
            claim.backend().failed(Instant::now());
            return self.has_nothing(claim, Outcome::Failed(Failure::Connect));
        };
        self.upload.restart();
        let mut input = Buffer::with_block(self.worker.block());
        match self.exchange_heads(&target, &mut backend, &mut input).await {
            Ok(response) => {
                let now = Instant::now();
                claim.answer_begins(response.status, now - asked);
                claim.backend().answered();
                if response.status == 404 || response.status >= 500 {
                    return self.has_nothing(claim, Outcome::Answered(response.status));
                }
                Some(Incoming::new(response, backend, input, claim, now))
            }
            Err(failed) => self.has_nothing(claim, failed.outcome()),
        }
    }

    fn has_nothing(&self, claim: Claim, outcome: Outcome) -> Option<Incoming> {
        match outcome {
            Outcome::Answered(status) if status >= 500 => self.sample(&claim, Some(status)),
            Outcome::Failed(_) => self.sample(&claim, None),
            _ => {}
        }
        claim.ends(outcome);
        None
    }
}
