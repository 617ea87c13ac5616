//! Listening sockets of other processes of this host: who has one, and a copy of it for us.
//!
//! ```text
//! nginx master ─fd─▶ listening socket ◀─fd─ agent (pidfd_getfd) ─SCM_RIGHTS─▶ proxy
//! ```
//!
//! The queue of connections is the socket's, so whoever has a copy accepts from it, and it closes with the last copy: while both
//! do, each connection is answered by one of them; when nginx stops, nothing is refused and nothing that waited is lost.

use crate::sockets::{Sockets, descriptors};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use teal_model::api::Holder;
use teal_model::fault::{Code, Fault};

/// One that may be copied, and who has it.
pub struct Found {
    inode: u32,
    pub holders: Vec<Holder>,
}

/// The listening socket that a process called `from` has at this address. None: nobody listens there.
///
/// # Errors
/// Somebody else has it, or it cannot be shared; the fault says what to do.
pub fn copy(addr: SocketAddr, from: &str) -> Result<Option<OwnedFd>, Fault> {
    let Some(found) = look(addr, from, &BTreeSet::from([std::process::id()]))? else { return Ok(None) };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for holder in found.holders.iter().filter(|holder| holder.name == from) {
        match copy_from(holder.pid, found.inode) {
            Ok(socket) => {
                tracing::info!(%addr, pid = holder.pid, from, "its listening socket is copied");
                return Ok(Some(socket));
            }
            Err(error) => last = error,
        }
    }
    let fault = Fault::new(Code::PortInUse, format!("the socket of {from} on {addr} cannot be copied: {last}"));
    Err(match last.kind() {
        io::ErrorKind::PermissionDenied => {
            fault.hint("the agent must be root, and `sysctl kernel.yama.ptrace_scope` below 3")
        }
        _ => fault,
    })
}

fn copy_from(pid: u32, inode: u32) -> io::Result<OwnedFd> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    // Opened before its descriptors are looked at: the number cannot come to mean another process.
    let pidfd = pidfd_open(process, PidfdFlags::empty())?;
    let held = descriptors(pid)?;
    let (number, _) = held.into_iter().find(|(_, other)| *other == inode).ok_or(io::ErrorKind::NotFound)?;
    let copy = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty())?;
    // It may have been closed, and the number given to another, meanwhile.
    match rustix::fs::fstat(copy.as_fd())?.st_ino == u64::from(inode) {
        true => Ok(copy),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// As [`copy`], without copying; processes of `own` do not count.
pub fn look(addr: SocketAddr, from: &str, own: &BTreeSet<u32>) -> Result<Option<Found>, Fault> {
    let mut all = found(own).map_err(|error| unseen(&error))?;
    let refused = |what: String| Fault::new(Code::PortInUse, what);
    let beside =
        all.iter().filter(|(other, sockets)| **other != addr && meets(**other, addr) && held_by(sockets, from));
    let beside = beside.map(|(other, _)| *other).next();
    let mut here = all.remove(&addr).unwrap_or_default();
    // Ours alone.
    here.retain(|socket| !socket.holders.is_empty());
    let Some(socket) = here.pop() else {
        return match beside {
            Some(other) => {
                Err(refused(format!("{from} listens on {other}, which is not the {addr} that the file publishes"))
                    .hint(format!("publish `{other}:...`, or let {from} listen on {addr}")))
            }
            None => Ok(None),
        };
    };
    if socket.holders.iter().all(|holder| holder.name != from) {
        return Err(anothers(addr, from, &socket));
    }
    if !here.is_empty() {
        let count = here.len() + 1;
        let what =
            format!("{from} has {count} sockets on {addr} (`reuseport`): connections would wait at each of them");
        return Err(
            refused(what).hint(format!("take `reuseport` out of its `listen`, reload {from}, and say it again"))
        );
    }
    Ok(Some(socket))
}

fn anothers(addr: SocketAddr, from: &str, socket: &Found) -> Fault {
    let who =
        socket.holders.iter().map(|holder| format!("{} ({})", holder.name, holder.pid)).collect::<Vec<_>>().join(", ");
    let fault = Fault::new(Code::PortInUse, format!("{addr} is not {from}'s: {who} has it"));
    match socket.holders.iter().any(|holder| holder.name == "docker-proxy") {
        true => fault.hint(
            "Docker publishes it for a container: `teal adopt compose` takes that over without a gap if it is a service of this project; else stop the container, \
             and deploy: the port is closed in between",
        ),
        false => fault.hint("name the process that has it with --from"),
    }
}

/// For people: who keeps others from this address, as far as that can be seen.
pub fn holders(addr: SocketAddr) -> String {
    let names = who_has(addr).unwrap_or_default();
    if names.is_empty() { "another process".to_owned() } else { names.join(", ") }
}

/// Those whose listening sockets keep everybody else from this address: `nginx (pid 812)`, each name once.
fn who_has(addr: SocketAddr) -> io::Result<Vec<String>> {
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    let all = found(&BTreeSet::new())?;
    for (_, sockets) in all.into_iter().filter(|(other, _)| excludes(*other, addr)) {
        for Holder { name, pid, .. } in sockets.into_iter().flat_map(|socket| socket.holders) {
            let first = names.entry(name).or_insert(pid);
            *first = pid.min(*first);
        }
    }
    Ok(names.into_iter().map(|(name, pid)| format!("{name} (pid {pid})")).collect())
}

/// Who listens on the one keeps others from listening on the other. One for every IPv6 address may be for IPv4 as well.
fn excludes(one: SocketAddr, other: SocketAddr) -> bool {
    let both = one.is_ipv6() && one.ip().is_unspecified() && other.is_ipv4() && one.port() == other.port();
    one == other || meets(one, other) || both
}

fn held_by(sockets: &[Found], name: &str) -> bool {
    sockets.iter().flat_map(|socket| &socket.holders).any(|holder| holder.name == name)
}

/// Connections to the one may come to the other.
fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Every listening socket of this host's namespace, with those who have it but for `own`.
pub fn found(own: &BTreeSet<u32>) -> io::Result<BTreeMap<SocketAddr, Vec<Found>>> {
    let listening = Sockets::of(std::process::id())?.listeners()?;
    let mut holders: BTreeMap<u32, Vec<Holder>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile, or that only root may look at, holds nothing that we could copy.
        let Ok(held) = descriptors(pid) else { continue };
        let held: BTreeSet<u32> = held.into_iter().map(|(_, inode)| inode).collect();
        let on: Vec<SocketAddr> =
            listening.iter().filter(|(_, inode)| held.contains(inode)).map(|(addr, _)| *addr).collect();
        if on.is_empty() || own.contains(&pid) {
            continue;
        }
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        let listens: BTreeSet<String> = on.iter().map(ToString::to_string).collect();
        for (_, inode) in listening.iter().filter(|(_, inode)| held.contains(inode)) {
            let holder = Holder { pid, name: name.clone(), listens: listens.iter().cloned().collect() };
            holders.entry(*inode).or_default().push(holder);
        }
    }
    let mut all: BTreeMap<SocketAddr, Vec<Found>> = BTreeMap::new();
    for (addr, inode) in listening {
        all.entry(addr).or_default().push(Found { inode, holders: holders.remove(&inode).unwrap_or_default() });
    }
    Ok(all)
}

pub fn unseen(error: &io::Error) -> Fault {
    Fault::new(Code::Internal, format!("who listens on this host cannot be seen: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::socket;
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use teal_model::wire::ListenerKey;

    /// A process of another name that has a copy of the socket as its standard input.
    struct Other(Child);

    impl Other {
        fn with(socket: OwnedFd) -> Self {
            let sleep = Command::new("sleep").arg("60").stdin(Stdio::from(socket)).spawn().unwrap();
            let comm = format!("/proc/{}/comm", sleep.id());
            while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
                std::thread::yield_now();
            }
            Self(sleep)
        }
    }

    impl Drop for Other {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_copied_socket_is_the_same_queue_and_outlives_the_one_it_was_copied_from() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let other = Other::with(socket.into());
        let waiting = TcpStream::connect(addr).unwrap();
        let copy = TcpListener::from(copy(addr, "sleep").unwrap().unwrap());
        drop(other);
        let (_, peer) = copy.accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap(), "who waited is served by the copy");
        TcpStream::connect(addr).unwrap();
    }

    #[test]
    fn nobody_there_is_none_and_somebody_else_is_named() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        assert!(copy(addr, "sleep").unwrap().is_none(), "it is our own");
        let _other = Other::with(socket.into());
        let fault = copy(addr, "nginx").unwrap_err().to_string();
        assert!(fault.contains("is not nginx's: sleep ("), "{fault}");
        let wide = SocketAddr::from(([0, 0, 0, 0], addr.port()));
        let fault = copy(wide, "sleep").unwrap_err().to_string();
        assert!(fault.contains(&format!("sleep listens on {addr}")), "{fault}");
    }

    #[test]
    fn who_keeps_us_from_an_address_is_named_once() {
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let others = [Other::with(socket.try_clone().unwrap().into()), Other::with(socket.into())];
        let here = SocketAddr::from(([127, 0, 0, 1], port));
        let first = others.iter().map(|other| other.0.id()).min().unwrap();
        assert_eq!(who_has(here).unwrap(), [format!("sleep (pid {first})")]);
        let wanted = ListenerKey::host(here);
        let what = socket::cannot_bind(&wanted).unwrap_err().what;
        assert_eq!(what, format!("{wanted} is in use by sleep (pid {first})"));
        assert_eq!(socket::bind(&wanted, None, false).unwrap_err().what, what);
        drop(others);
        assert_eq!(socket::cannot_bind(&wanted), Ok(()));
        assert!(who_has(here).unwrap().is_empty());
    }

    #[test]
    fn one_of_several_queues_is_refused() {
        let bind = |addr: SocketAddr| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&addr.into()).unwrap();
            socket.listen(5).unwrap();
            socket
        };
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let addr = first.local_addr().unwrap().as_socket().unwrap();
        let second = bind(addr);
        let _others = [Other::with(first.into()), Other::with(second.into())];
        let fault = copy(addr, "sleep").unwrap_err().to_string();
        assert!(fault.contains("2 sockets") && fault.contains("reuseport"), "{fault}");
    }
}
