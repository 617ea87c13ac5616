//! The TCP ports that a container listens on, as the kernel tells of its network namespace (sock_diag(7)). The same is in
//! `/proc/PID/net/tcp`, where each look costs ten milliseconds, since the kernel walks every connection's bucket for it.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

/// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// Bit of the state LISTEN in the kernel's numbering.
const LISTEN: u32 = 1 << 10;
/// Where an answer has the port and the address: after family, state, timer and retransmissions.
const PORT: usize = HEADER + 4;
const ADDRESS: usize = HEADER + 8;

/// Asks in one network namespace, for as long as it is kept.
#[derive(Debug)]
pub struct Listening {
    socket: Socket,
}

impl Listening {
    /// # Errors
    /// The process is gone, or its namespace may not be entered.
    pub fn of(pid: i32) -> io::Result<Self> {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        // The socket belongs to the namespace that its thread is in, so a thread goes there and ends there.
        let socket = std::thread::scope(|scope| {
            let opening = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
                Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM.cloexec(), protocol)
            });
            opening.join().unwrap_or_else(|_| Err(io::Error::other("the thread that was to open it ended")))
        })?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { socket })
    }

    /// Ports that others can reach: what listens on loopback alone is left out.
    pub fn ports(&self) -> io::Result<BTreeSet<u16>> {
        let mut ports = BTreeSet::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            (&self.socket).write_all(&request(family))?;
            let mut answer = vec![0; 32 * 1024];
            loop {
                let n = (&self.socket).read(&mut answer)?;
                if take(&answer[..n], family, &mut ports)? {
                    break;
                }
            }
        }
        Ok(ports)
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`: every TCP socket of a family that listens.
fn request(family: u8) -> Vec<u8> {
    let mut body = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(LISTEN.to_ne_bytes());
    body.resize(56, 0);
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The messages of one datagram. True: it was the last.
fn take(mut datagram: &[u8], family: u8, ports: &mut BTreeSet<u16>) -> io::Result<bool> {
    let cut = || io::Error::new(io::ErrorKind::InvalidData, "an answer of sock_diag that was cut");
    while !datagram.is_empty() {
        let field = |at: usize| datagram.get(at..at + 2).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        let length = datagram.get(..4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let (Some(length), Some(kind)) = (length.filter(|length| *length >= HEADER), field(4)) else {
            return Err(cut());
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::Error::other("sock_diag refused the question")),
            _ => {}
        }
        let message = datagram.get(..length).ok_or_else(cut)?;
        let port = message.get(PORT..PORT + 2).ok_or_else(cut)?;
        let address: [u8; 16] = message.get(ADDRESS..ADDRESS + 16).and_then(|a| a.try_into().ok()).ok_or_else(cut)?;
        if !is_loopback(family, address) {
            ports.insert(u16::from_be_bytes([port[0], port[1]]));
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn is_loopback(family: u8, address: [u8; 16]) -> bool {
    if i32::from(family) == libc::AF_INET {
        return Ipv4Addr::new(address[0], address[1], address[2], address[3]).is_loopback();
    }
    let address = Ipv6Addr::from(address);
    address.to_ipv4_mapped().map_or(address.is_loopback(), |v4| v4.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_in_both_families() {
        let four = |a: u8| [a, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_loopback(libc::AF_INET as u8, four(127)) && !is_loopback(libc::AF_INET as u8, four(10)));
        let six = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        for (text, is) in [("::1", true), ("::ffff:127.0.0.1", true), ("::", false), ("fd00::1", false)] {
            assert_eq!(is_loopback(libc::AF_INET6 as u8, six(text)), is, "{text}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_an_error() {
        assert!(take(&[1, 2, 3], 2, &mut BTreeSet::new()).is_err());
        let mut message = request(2);
        message[0] = 200;
        assert!(take(&message, 2, &mut BTreeSet::new()).is_err());
    }
}
