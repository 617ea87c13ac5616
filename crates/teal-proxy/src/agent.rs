//! One agent's connection: the handshake, then a task for each direction.

use crate::link::{Link, LinkError, Receiver, Sender};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use teal_model::wire::{FromAgent, FromProxy, PROTOCOL};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Messages for an agent that is slow to read; beyond that statistics are dropped, and then the connection.
const OUTBOX: usize = 1024;
/// Statistics leave this much room for what must arrive.
const RESERVED: usize = 256;
const WELCOME_WITHIN: Duration = Duration::from_secs(10);

/// What control hears of a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    Welcomed(Agent),
    Message(FromAgent, Vec<OwnedFd>),
    Lost(String),
}

pub(crate) type Inbox = mpsc::Sender<(u64, Heard)>;

/// An agent whose handshake is done. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) connection: u64,
    pub(crate) name: String,
    pub(crate) told_ready: bool,
    outbox: mpsc::Sender<FromProxy>,
    reading: tokio::task::AbortHandle,
}

impl Agent {
    /// False: the agent does not keep up.
    pub(crate) fn tell(&self, message: FromProxy) -> bool {
        let spare = matches!(message, FromProxy::Statistics(_)) && self.outbox.capacity() < RESERVED;
        spare || self.outbox.try_send(message).is_ok()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Shakes hands on a new connection, and reads from it until it is lost.
pub(crate) fn greet(connection: u64, stream: UnixStream, greeting: Vec<(FromProxy, Vec<OwnedFd>)>, inbox: Inbox) {
    let (hand_over, mut handle) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut link = Link::new(stream);
        let shaken = tokio::time::timeout(WELCOME_WITHIN, shake_hands(&mut link, greeting)).await;
        let Ok(Ok(name)) = shaken else {
            return tracing::warn!(connection, "a handshake failed");
        };
        let Ok(reading) = handle.try_recv() else { return };
        let (sender, mut receiver) = link.split();
        let (outbox, letters) = mpsc::channel(OUTBOX);
        let _writing = AbortOnDrop(tokio::spawn(write(sender, letters)).abort_handle());
        let agent = Agent { connection, name, told_ready: false, outbox, reading };
        if inbox.send((connection, Heard::Welcomed(agent))).await.is_ok() {
            let why = read(connection, &mut receiver, &inbox).await;
            let _ = inbox.send((connection, Heard::Lost(why))).await;
        }
    });
    let _ = hand_over.send(task.abort_handle());
}

async fn shake_hands(
    link: &mut Link<FromProxy, FromAgent>,
    greeting: Vec<(FromProxy, Vec<OwnedFd>)>,
) -> Result<String, LinkError> {
    for (message, sockets) in &greeting {
        let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        link.send(message, &sockets).await?;
    }
    match link.recv().await? {
        (FromAgent::Welcome { protocol, agent }, _) if (PROTOCOL.min..=PROTOCOL.max).contains(&protocol) => Ok(agent),
        _ => Err(LinkError::Closed),
    }
}

async fn read(connection: u64, receiver: &mut Receiver<FromAgent>, inbox: &Inbox) -> String {
    loop {
        match receiver.recv().await {
            Ok((message, descriptors)) => {
                if inbox.send((connection, Heard::Message(message, descriptors))).await.is_err() {
                    return "the proxy ends".into();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

async fn write(mut sender: Sender<FromProxy>, mut letters: mpsc::Receiver<FromProxy>) {
    while let Some(message) = letters.recv().await {
        if sender.send(&message, &[]).await.is_err() {
            return;
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
