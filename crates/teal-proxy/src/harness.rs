//! A proxy in threads of this process, for tests: started on an abstract control socket, spoken to as an agent would.

use crate::link::{Link, LinkError};
use crate::run::{Options, RunError, run};
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use teal_model::ids::TableNumber;
use teal_model::wire::{FromAgent, FromProxy, ListenerKey, PROTOCOL, RouteTable, Statistics};

/// Nothing in a test takes longer.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Proxy {
    control: SocketAddr,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Proxy {
    pub fn start(workers: usize) -> io::Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("teal-proxy-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let control = SocketAddr::from_abstract_name(name)?;
        let options = Options {
            control: UnixListener::bind_addr(&control)?.into(),
            workers: NonZeroUsize::new(workers),
            version: "test".into(),
            signals: false,
        };
        Ok(Self { control, thread: std::thread::spawn(move || run(options)) })
    }

    /// Connects as an agent and shakes hands.
    pub async fn connect(&self) -> Result<Agent, LinkError> {
        let stream = UnixStream::connect_addr(&self.control)?;
        stream.set_nonblocking(true)?;
        let mut link = Link::new(tokio::net::UnixStream::from_std(stream)?);
        let (hello, sockets) = link.recv().await?;
        link.send(&FromAgent::Welcome { protocol: PROTOCOL.max, agent: "test".into() }, &[]).await?;
        Ok(Agent { link, hello, sockets, unread: VecDeque::new() })
    }

    /// Waits for the proxy's end, which somebody else has asked for.
    pub fn join(self) -> Result<(), RunError> {
        self.thread.join().unwrap_or(Err(RunError::Worker))
    }
}

/// The agent's end of a connection.
#[derive(Debug)]
pub struct Agent {
    link: Link<FromAgent, FromProxy>,
    /// The first message, and its sockets.
    pub hello: FromProxy,
    pub sockets: Vec<OwnedFd>,
    unread: VecDeque<FromProxy>,
}

impl Agent {
    pub async fn send(&mut self, message: &FromAgent, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        self.link.send(message, descriptors).await
    }

    /// The first message that `pick` takes; the others stay for later calls, statistics do not.
    pub async fn wait_for<T>(&mut self, pick: impl Fn(&FromProxy) -> Option<T>) -> Result<T, LinkError> {
        if let Some((at, picked)) = self.unread.iter().enumerate().find_map(|(at, m)| Some((at, pick(m)?))) {
            self.unread.remove(at);
            return Ok(picked);
        }
        let waiting = async {
            loop {
                let (message, _) = self.link.recv().await?;
                if let Some(picked) = pick(&message) {
                    return Ok(picked);
                }
                if !matches!(message, FromProxy::Statistics(_)) {
                    self.unread.push_back(message);
                }
            }
        };
        let late = |_| LinkError::Io(io::ErrorKind::TimedOut.into());
        tokio::time::timeout(DEADLINE, waiting).await.map_err(late)?
    }

    pub async fn listen(&mut self, key: ListenerKey, socket: impl AsFd) -> Result<(), LinkError> {
        self.send(&FromAgent::Listeners { add: vec![key], remove: vec![] }, &[socket.as_fd()]).await
    }

    /// Publishes a table and waits until every worker routes by it, or the proxy says why not.
    pub async fn publish(&mut self, table: &RouteTable) -> Result<Result<TableNumber, String>, LinkError> {
        let number = table.number;
        self.send(&FromAgent::Table(table.clone()), &[]).await?;
        self.wait_for(|message| match message {
            FromProxy::Acknowledged { table, .. } if *table == number => Some(Ok(number)),
            FromProxy::Refused { table, why, .. } if *table == number => Some(Err(why.clone())),
            _ => None,
        })
        .await
    }

    /// Statistics of this moment.
    pub async fn statistics(&mut self) -> Result<Statistics, LinkError> {
        static TOKENS: AtomicU32 = AtomicU32::new(0);
        let asked = u64::from(TOKENS.fetch_add(1, Ordering::Relaxed));
        self.send(&FromAgent::Ask { token: asked }, &[]).await?;
        self.wait_for(|message| match message {
            FromProxy::Statistics(statistics) if statistics.token == Some(asked) => Some(statistics.clone()),
            _ => None,
        })
        .await
    }
}
