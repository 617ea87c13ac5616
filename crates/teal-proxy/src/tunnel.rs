//! An upgraded connection (WebSocket): bytes both ways until both sides have ended.
//!
//! ```text
//! client ═══════▶ backend     each direction ends by itself (half-close); no memory while nothing flows
//!        ◀═══════
//! ```

use crate::claim::Claim;
use crate::serve::Connection;
use crate::worker::Worker;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Tunnels of a release that must go are closed at some moment within this, so that clients don't return in one herd.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) backend: TcpStream,
    pub(crate) claim: Claim,
    /// Read from the backend (its 101 first), not yet written to the client; and the other way round.
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_backend: Vec<u8>,
}

impl Tunnel {
    pub(crate) async fn run(self: Box<Self>, connection: &mut Connection) {
        let Tunnel { mut backend, claim, to_client, to_backend } = *self;
        let worker = connection.worker.clone();
        let (client_read, client_write) = connection.stream.split();
        let (backend_read, backend_write) = backend.split();
        claim.tunnel_begins();
        tokio::select! {
            _ = async { tokio::join!(
                copy(&worker, client_read, backend_write, to_backend),
                copy(&worker, backend_read, client_write, to_client),
            ) } => {}
            () = must_close(&claim) => {}
        }
        claim.tunnel_ends();
    }
}

async fn must_close(claim: &Claim) {
    let release = claim.release();
    loop {
        let closing = release.closing.notified();
        if release.close_tunnels.get() {
            break;
        }
        closing.await;
    }
    tokio::time::sleep(jitter()).await;
}

/// Uniform enough: the hasher's keys are random.
fn jitter() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0);
    CLOSE_WITHIN * (random % 1000) as u32 / 1000
}

/// Copies one direction, and passes its end on. After an error both directions are useless, which the other one notices.
async fn copy(worker: &Worker, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, first: Vec<u8>) -> io::Result<()> {
    to.write_all(&first).await?;
    drop(first);
    loop {
        from.readable().await?;
        let mut block = worker.block();
        let copied = async {
            let n = from.read(&mut block).await?;
            to.write_all(&block[..n]).await?;
            io::Result::Ok(n)
        }
        .await;
        worker.give_block(block);
        if copied? == 0 {
            return to.shutdown().await;
        }
    }
}
