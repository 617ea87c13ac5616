//! Listening sockets: bound by the agent, which may bind low ports, and served by the proxy.

use super::{shared, unix};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use teal_model::fault::{Code, Fault};
use teal_model::wire::{Address, ListenerKey};

/// Connections that wait while a proxy is replaced; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// None: this host has no IPv6 and the address is an unspecified IPv6 one, which `ports` without an address asks for.
/// `ours`: what has the address is another listener of our own.
pub fn bind(listener: &ListenerKey, namespace: Option<&OwnedFd>, ours: bool) -> Result<Option<OwnedFd>, Fault> {
    let addr = match &listener.addr {
        Address::Tcp(addr) => *addr,
        Address::Unix(socket) => return unix::bind(socket, ours, BACKLOG).map(Some),
    };
    let opened = match namespace {
        None => open(addr),
        Some(namespace) => open_inside(addr, namespace),
    };
    match opened {
        Ok(socket) => Ok(Some(socket.into())),
        Err(error) if addr.is_ipv6() && addr.ip().is_unspecified() && no_ipv6(&error) => Ok(None),
        Err(error) => Err(refused(listener, &error)),
    }
}

/// A socket belongs for ever to the network namespace that its thread was in when it was made, so a thread goes there and
/// ends there.
fn open_inside(addr: SocketAddr, namespace: &OwnedFd) -> io::Result<Socket> {
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            open(addr)
        });
        opening.join().unwrap_or_else(|_| Err(io::Error::other("the thread that was to open it ended")))
    })
}

/// What [`bind`] would refuse; of a socket with a path it is seen only when it is opened.
pub fn cannot_bind(listener: &ListenerKey) -> Result<(), Fault> {
    let Some(addr) = listener.tcp() else { return Ok(()) };
    match bound(addr) {
        Err(error) if !(addr.is_ipv6() && addr.ip().is_unspecified() && no_ipv6(&error)) => {
            Err(refused(listener, &error))
        }
        _ => Ok(()),
    }
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = bound(addr)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without it a port stays taken for a minute after its last connection was closed here.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Somebody else listens there; his name where it can be seen.
fn in_use(listener: &ListenerKey) -> Fault {
    let here = listener.tcp().filter(|_| listener.namespace.is_none());
    let who = here.map_or_else(|| "another process".to_owned(), shared::holders);
    Fault::new(Code::PortInUse, format!("{listener} is in use by {who}"))
}

fn refused(listener: &ListenerKey, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::AddrInUse => in_use(listener),
        io::ErrorKind::PermissionDenied => {
            Fault::new(Code::PortInUse, format!("{listener} cannot be opened: permission denied")).hint(
                "run the agent as root, publish a port from 1024 up, or lower net.ipv4.ip_unprivileged_port_start",
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            Fault::new(Code::PortInUse, format!("{listener} cannot be opened: this host has no such address"))
                .hint("publish an address of this host (`ip addr`), or none at all")
        }
        _ => Fault::new(Code::PortInUse, format!("{listener} cannot be opened: {error}")),
    }
}
