//! The TCP sockets of a network namespace, as the kernel tells of them (sock_diag(7)): which ports a container listens on, and
//! who is connected to it. The same is in `/proc/PID/net/tcp`, where each look costs ten milliseconds, since the kernel walks
//! every connection's bucket for it.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// `inet_diag_msg`: family, state, timer, retransmissions; ports; addresses; interface, cookie, times and queues; user; inode.
const PORTS: usize = HEADER + 4;
const ADDRESSES: usize = HEADER + 8;
const INODE: usize = HEADER + 68;
/// Bits of the states in the kernel's numbering.
const ESTABLISHED: u32 = 1 << 1;
const LISTEN: u32 = 1 << 10;

/// Asks in one network namespace, for as long as it is kept.
#[derive(Debug)]
pub struct Sockets {
    netlink: Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    local: SocketAddr,
    remote: SocketAddr,
    inode: u32,
}

impl Sockets {
    /// Of the namespace that this process is in.
    ///
    /// # Errors
    /// The process is gone, or its namespace may not be entered.
    pub fn of(pid: u32) -> io::Result<Self> {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        let open = || {
            let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
            Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM.cloexec(), protocol)
        };
        let (theirs, ours) = (namespace.metadata()?, std::fs::metadata("/proc/self/ns/net")?);
        // Into our own, which needs no privilege, nobody has to go.
        let netlink = match (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            true => open()?,
            // The socket belongs to the namespace that its thread is in, so a thread goes there and ends there.
            false => std::thread::scope(|scope| {
                let opening = scope.spawn(|| {
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                    open()
                });
                opening.join().unwrap_or_else(|_| Err(io::Error::other("the thread that was to open it ended")))
            })?,
        };
        netlink.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { netlink })
    }

    /// Ports on which others can reach somebody: what listens on loopback alone is left out.
    pub fn listening(&self) -> io::Result<BTreeSet<u16>> {
        let all = self.in_state(LISTEN)?;
        Ok(all.iter().filter(|one| !one.local.ip().is_loopback()).map(|one| one.local.port()).collect())
    }

    /// Every socket that listens, with its inode, by which a process's descriptor is told.
    pub fn listeners(&self) -> io::Result<Vec<(SocketAddr, u32)>> {
        Ok(self.in_state(LISTEN)?.into_iter().map(|one| (one.local, one.inode)).collect())
    }

    /// Connections to the ports that are listened on, but for those of the process `but`.
    pub fn connections(&self, but: Option<u32>) -> io::Result<usize> {
        let ports = self.listening()?;
        let mut open = self.in_state(ESTABLISHED)?;
        open.retain(|one| ports.contains(&one.local.port()));
        if let Some(but) = but {
            let held: BTreeSet<u32> = descriptors(but)?.into_iter().map(|(_, inode)| inode).collect();
            let mut own = Sockets::of(but)?.in_state(ESTABLISHED)?;
            own.retain(|one| held.contains(&one.inode));
            open.retain(|one| !own.iter().any(|own| (own.local, own.remote) == (one.remote, one.local)));
        }
        Ok(open.len())
    }

    /// Connections that somebody here has to one of these addresses.
    pub fn connected_to(&self, addrs: &BTreeSet<SocketAddr>) -> io::Result<usize> {
        Ok(self.in_state(ESTABLISHED)?.iter().filter(|one| addrs.contains(&one.remote)).count())
    }

    fn in_state(&self, state: u32) -> io::Result<Vec<Seen>> {
        let mut all = Vec::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            (&self.netlink).write_all(&request(family, state))?;
            let mut answer = vec![0; 32 * 1024];
            loop {
                let n = (&self.netlink).read(&mut answer)?;
                if take(&answer[..n], family, &mut all)? {
                    break;
                }
            }
        }
        Ok(all)
    }
}

/// The sockets that a process has open: number of the descriptor, and inode.
pub fn descriptors(pid: u32) -> io::Result<Vec<(i32, u32)>> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // One that was closed meanwhile is none.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        held.extend(number.zip(inode));
    }
    Ok(held)
}

/// `nlmsghdr` and `inet_diag_req_v2`: every TCP socket of a family that is in one of these states.
fn request(family: u8, states: u32) -> Vec<u8> {
    let mut body = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(states.to_ne_bytes());
    body.resize(56, 0);
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The messages of one datagram. True: it was the last.
fn take(mut datagram: &[u8], family: u8, all: &mut Vec<Seen>) -> io::Result<bool> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "an answer of sock_diag that was cut");
    while !datagram.is_empty() {
        let length = u32::from_ne_bytes(array(datagram, 0).ok_or_else(cut)?) as usize;
        let kind = u16::from_ne_bytes(array(datagram, 4).ok_or_else(cut)?);
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::Error::other("sock_diag refused the question")),
            _ => {}
        }
        let message = datagram.get(..length).filter(|message| message.len() > HEADER).ok_or_else(cut)?;
        all.push(seen(message, family).ok_or_else(cut)?);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn seen(message: &[u8], family: u8) -> Option<Seen> {
    let port = |at: usize| Some(u16::from_be_bytes(array(message, PORTS + at)?));
    let address = |at: usize| Some(address(family, array(message, ADDRESSES + at)?));
    Some(Seen {
        local: SocketAddr::new(address(0)?, port(0)?),
        remote: SocketAddr::new(address(16)?, port(2)?),
        inode: u32::from_ne_bytes(array(message, INODE)?),
    })
}

/// An IPv4 peer of a socket of both kinds is the same peer.
fn address(family: u8, bytes: [u8; 16]) -> IpAddr {
    if i32::from(family) == libc::AF_INET {
        return IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]));
    }
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_both_families() {
        let four = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(address(libc::AF_INET as u8, four), IpAddr::from([127, 0, 0, 1]));
        let mapped = "::ffff:10.1.2.3".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(address(libc::AF_INET6 as u8, mapped), IpAddr::from([10, 1, 2, 3]));
    }

    #[test]
    fn an_answer_that_was_cut_is_an_error() {
        assert!(take(&[1, 2, 3], 2, &mut Vec::new()).is_err());
        let mut message = request(2, LISTEN);
        message[0] = 200;
        assert!(take(&message, 2, &mut Vec::new()).is_err());
    }

    #[test]
    fn what_listens_and_who_is_connected_is_seen() {
        let us = std::process::id();
        let sockets = Sockets::of(us).unwrap();
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let hidden = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let seen = sockets.listening().unwrap();
        assert!(seen.contains(&port(&open)) && !seen.contains(&port(&hidden)), "{seen:?}");
        let _client = std::net::TcpStream::connect(("127.0.0.1", port(&open))).unwrap();
        let _taken = open.accept().unwrap();
        let to_it = |all: Vec<Seen>| all.into_iter().filter(|one| one.local.port() == port(&open)).count();
        assert_eq!(to_it(sockets.in_state(ESTABLISHED).unwrap()), 1);
        let there = SocketAddr::from(([127, 0, 0, 1], port(&open)));
        assert_eq!(sockets.connected_to(&BTreeSet::from([there])).unwrap(), 1);
        assert!(sockets.connections(None).unwrap() >= 1);
        let before = sockets.connections(None).unwrap();
        assert!(sockets.connections(Some(us)).unwrap() < before, "our own are left out");
        drop(open);
        assert!(!sockets.listening().unwrap().contains(&port(&hidden)));
    }
}
