//! One connection to a listener that speaks plain TCP: what its bytes mean is not the proxy's business.
//!
//! ```text
//! accept ─▶ (hold) ─▶ claim a backend ─▶ connect ─▶ tunnel: bytes both ways until both sides have ended
//!   ▲                                      │ no connection
//!   └──────── on the current table ────────┘
//! ```
//!
//! The client's first byte is not waited for, since in many protocols the server speaks first. A connection stays with
//! its backend whatever later tables say.

use crate::claim::{Claim, Outcome, Waiting};
use crate::counters::Failure;
use crate::gap;
use crate::hold::{self, Held};
use crate::journey::{self, Journey, Onward};
use crate::target::{Choice, Target, Way};
use crate::tcp;
use crate::tunnel::Tunnel;
use crate::visit::Visit;
use crate::worker::{Listener, Worker};
use std::rc::Rc;
use std::time::Instant;
use teal_model::wire::Protocol;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a client may say while it waits; the rest stays in its socket.
const EARLY: usize = 16 * 1024;

pub(crate) async fn connection(worker: Rc<Worker>, listener: Rc<Listener>, client: TcpStream) {
    worker.counters.open.up();
    let exchange = worker.exchange_begins();
    let journey = Journey::new(Instant::now(), Way::Weights);
    let mut plain = Plain { worker, listener, client, early: Vec::new(), journey };
    // Boxed, so that an open connection's task is small.
    match Box::pin(plain.arrive()).await {
        Arrival::Taken(tunnel) => tunnel.run(&plain.worker, &mut plain.client).await,
        Arrival::Refused => tcp::reset_when_closed(&plain.client),
        Arrival::ClientGone => {}
    }
    drop(exchange);
    plain.worker.counters.open.down();
}

struct Plain {
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    client: TcpStream,
    /// Said while nobody was there to hear it.
    early: Vec<u8>,
    journey: Journey,
}

enum Arrival {
    Taken(Box<Tunnel>),
    /// As by a host where nobody listens: the client must not take the end for an answer.
    Refused,
    ClientGone,
}

/// What an attempt brought.
enum Attempt {
    Ended(Arrival),
    /// By the table of that moment.
    Again,
}

/// A listener that speaks HTTP by now has routes by host and path: those for any are meant.
fn route(listener: &Listener) -> Option<Rc<Target>> {
    listener.routes.borrow().find(b"", b"/").cloned()
}

impl Plain {
    /// Finds a backend that takes the connection.
    async fn arrive(&mut self) -> Arrival {
        self.worker.budget.request(self.journey.arrived);
        let Some(mut target) = route(&self.listener) else {
            self.worker.counters.refused.up();
            return Arrival::Refused;
        };
        let epoch = self.worker.shared.epoch;
        let mut waiting = Waiting::new(&target.service, epoch, gap::slot(epoch, self.journey.arrived));
        loop {
            let client = || Some(self.client.peer_addr().ok()?.ip());
            self.journey.way = Visit::of_connection(&target, client);
            let claim = match target.choose(self.journey.way, &self.journey.tried) {
                Choice::Use(release, backend) => Some(Claim::of_connection(release, backend)),
                Choice::Hold => None,
            };
            let attempt = match claim {
                Some(claim) => self.connect(&target, claim, &mut waiting).await,
                None => self.wait(target).await,
            };
            match (attempt, route(&self.listener)) {
                (Attempt::Ended(arrival), _) => return arrival,
                (Attempt::Again, None) => return Arrival::Refused,
                (Attempt::Again, Some(current)) => target = current,
            }
        }
    }

    async fn connect(&mut self, target: &Target, claim: Claim, waiting: &mut Waiting) -> Attempt {
        let Some(backend) = claim.backend().connect(target.timeouts.connect_ms).await else {
            return self.no_connection(target, claim).await;
        };
        claim.backend().answered();
        waiting.answered(Instant::now());
        let to_backend = std::mem::take(&mut self.early);
        let tunnel = Tunnel { backend, claim, to_client: Vec::new(), to_backend };
        Attempt::Ended(Arrival::Taken(Box::new(tunnel)))
    }

    async fn no_connection(&mut self, target: &Target, claim: Claim) -> Attempt {
        match self.journey.no_connection(&self.worker, target, claim.backend()) {
            Onward::Elsewhere => {}
            Onward::AfterPause => journey::pause(&self.worker).await,
            Onward::GiveUp => {
                claim.ends(Outcome::Failed(Failure::Connect));
                return Attempt::Ended(Arrival::Refused);
            }
        }
        claim.ends(self.journey.retried());
        Attempt::Again
    }

    /// Holds the connection until there may be a backend.
    async fn wait(&mut self, target: Rc<Target>) -> Attempt {
        let Self { worker, listener, client, early, journey } = self;
        tokio::select! {
            biased;
            held = hold::hold(worker, journey.arrived, target, Protocol::Tcp, || route(listener)) => match held {
                Held::Over => Attempt::Again,
                Held::Expired => Attempt::Ended(Arrival::Refused),
            },
            () = leaves(worker, client, early) => Attempt::Ended(Arrival::ClientGone),
        }
    }
}

/// Until the client has gone. One that ended its side behind some bytes may still wait for the answer to them: it has gone
/// when its kernel says so.
async fn leaves(worker: &Worker, client: &TcpStream, early: &mut Vec<u8>) {
    while early.len() < EARLY {
        if client.readable().await.is_err() {
            return;
        }
        let mut block = worker.block();
        let room = block.len().min(EARLY - early.len());
        let read = client.try_read(&mut block[..room]);
        if let Ok(n) = read {
            early.extend_from_slice(&block[..n]);
        }
        worker.give_block(block);
        match read {
            Ok(0) if early.is_empty() => return,
            Ok(0) => break,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
    // An error here is the same news.
    let _ = client.ready(Interest::ERROR).await;
}
