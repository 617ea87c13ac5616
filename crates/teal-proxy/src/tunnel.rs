//! An upgraded connection (WebSocket) or a plain TCP one: bytes both ways until both sides have ended.
//!
//! ```text
//! client ═══════▶ backend     each direction ends by itself (half-close), a reset ends both and is passed on;
//!        ◀═══════             no memory while nothing flows
//! ```

use crate::claim::Claim;
use crate::tcp;
use crate::worker::Worker;
use std::cell::Cell;
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
    pub(crate) async fn run(self: Box<Self>, worker: &Worker, client: &mut TcpStream) {
        let Tunnel { mut backend, claim, to_client, to_backend } = *self;
        claim.tunnel_begins();
        if let Err(error) = tcp::keep_alive(&backend) {
            tracing::debug!(%error, "a backend that goes silently will not be noticed");
        }
        let broken = Cell::new(false);
        {
            let (client_read, client_write) = client.split();
            let (backend_read, backend_write) = backend.split();
            tokio::select! {
                both = async { tokio::try_join!(
                    copy(worker, client_read, backend_write, to_backend, &broken),
                    copy(worker, backend_read, client_write, to_client, &broken),
                ) } => broken.set(broken.get() || both.is_err()),
                () = must_close(&claim) => claim.closed(),
            }
        }
        if broken.get() {
            tcp::reset_when_closed(client);
            tcp::reset_when_closed(&backend);
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

/// The connection that was read from is broken, not ended, and both directions with it.
struct Broken;

/// Copies one direction, and passes its end on. What cannot be written ends this direction alone: the other side may have
/// answered before it closed. `broken`: it has not ended in an orderly way, so the end of what it said is none either.
async fn copy(
    worker: &Worker,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    first: Vec<u8>,
    broken: &Cell<bool>,
) -> Result<(), Broken> {
    let mut written = to.write_all(&first).await;
    drop(first);
    while written.is_ok() {
        from.readable().await.map_err(|_| Broken)?;
        let mut block = worker.block();
        let read = from.read(&mut block).await;
        if let Ok(n) = read {
            written = to.write_all(&block[..n]).await;
        }
        worker.give_block(block);
        match read {
            Ok(0) if !broken.get() => {
                // Fails where `to` is broken, which its own direction notices.
                let _ = to.shutdown().await;
                return Ok(());
            }
            Ok(0) | Err(_) => return Err(Broken),
            Ok(_) => {}
        }
    }
    broken.set(true);
    Ok(())
}
