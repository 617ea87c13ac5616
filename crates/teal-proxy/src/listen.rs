//! Accepting connections from a listening socket that all workers share.

use crate::plain;
use crate::serve;
use crate::tcp;
use crate::worker::{Listener, Worker};
use rustix::net::{AddressFamily, sockopt};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use teal_model::wire::Protocol;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// After this many in a row the other workers get their turn.
const BURST: usize = 8;
/// Out of descriptors or memory: the connections wait in the kernel's queue meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// A listening socket of one worker.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Makes an inherited listening socket ours to accept from.
    pub(crate) fn adopt(socket: OwnedFd) -> io::Result<Self> {
        if !sockopt::socket_acceptconn(&socket)? {
            return Err(io::Error::other("the descriptor is not a listening socket"));
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        if sockopt::socket_domain(&socket)? == AddressFamily::UNIX {
            return Ok(Self::Unix(UnixListener::from_std(socket.into())?));
        }
        // Linux hands these down to what is accepted.
        sockopt::set_tcp_nodelay(&socket, true)?;
        tcp::keep_alive(&socket)?;
        Ok(Self::Tcp(TcpListener::from_std(socket.into())?))
    }

    /// A peer of a socket with a path has no address. Its connection is a stream socket as any other: what is asked of TCP
    /// alone (its address, TCP_INFO) is asked of backends, and here of nobody.
    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (stream, Some(peer.ip()))),
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((TcpStream::from_std(OwnedFd::from(stream.into_std()?).into())?, None))
            }
        }
    }
}

pub(crate) async fn accept(worker: Rc<Worker>, listener: Rc<Listener>, socket: Socket) {
    loop {
        for _ in 0..BURST {
            match socket.accept().await {
                Ok((stream, peer)) => {
                    worker.counters.accepted.up();
                    let (worker, listener) = (worker.clone(), listener.clone());
                    let protocol = listener.routes.borrow().protocol;
                    match protocol {
                        Protocol::Http => {
                            tokio::task::spawn_local(serve::connection(worker, listener, stream, peer));
                        }
                        Protocol::Tcp => {
                            tokio::task::spawn_local(plain::connection(worker, listener, stream));
                        }
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = %listener.key, %error, "accepting failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// The connection went away before it was accepted; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied)
}
