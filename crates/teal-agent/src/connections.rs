//! Who is connected to a container, as its own network namespace tells (`/proc/PID/net/tcp`, proc(5)): looked at while the
//! ports of adopted containers change hands.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// LISTEN in the kernel's numbering of TCP states.
const LISTEN: &str = "0A";
const ESTABLISHED: &str = "01";

/// Ports that others can reach: what listens on loopback alone is left out.
fn ports(pid: i32) -> io::Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        match std::fs::read_to_string(format!("/proc/{pid}/net/{table}")) {
            Ok(text) => ports.extend(text.lines().skip(1).filter_map(listener)),
            // A kernel without IPv6.
            Err(error) if table == "tcp6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ports)
}

/// Open connections to the ports that a container listens on, but for those of the process `but`, which has its sockets in
/// this host's own namespace.
///
/// # Errors
/// The process is gone, or belongs to somebody whose namespace may not be read.
pub fn open(pid: i32, but: Option<u32>) -> io::Result<usize> {
    let ports = ports(pid)?;
    let inside = sockets(Path::new(&format!("/proc/{pid}")))?;
    let open = inside.iter().filter(|socket| socket.state == ESTABLISHED && ports.contains(&socket.local.1));
    let Some(but) = but else { return Ok(open.count()) };
    let process = format!("/proc/{but}");
    let mut held = BTreeSet::new();
    for entry in std::fs::read_dir(format!("{process}/fd"))? {
        // One that was closed meanwhile is none.
        let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
        held.extend(
            target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()),
        );
    }
    let outside = sockets(Path::new(&process))?;
    let own: BTreeSet<(End, End)> = outside
        .into_iter()
        .filter(|socket| held.contains(&socket.inode))
        .map(|socket| (socket.local, socket.remote))
        .collect();
    Ok(open.filter(|socket| !own.contains(&(socket.remote.clone(), socket.local.clone()))).count())
}

/// An address as the kernel writes it, and a port.
type End = (String, u16);

struct Socket {
    local: End,
    remote: End,
    state: String,
    inode: u64,
}

fn sockets(process: &Path) -> io::Result<Vec<Socket>> {
    let mut all = Vec::new();
    for table in ["tcp", "tcp6"] {
        match std::fs::read_to_string(process.join("net").join(table)) {
            Ok(text) => all.extend(text.lines().skip(1).filter_map(socket)),
            Err(error) if table == "tcp6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// `  0: 0200140A:1F90 0300140A:C350 01 tx:rx tr:when retransmits uid timeout inode ...`
fn socket(line: &str) -> Option<Socket> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let end = |text: &str| {
        let (address, port) = text.split_once(':')?;
        // An IPv4 peer of a socket of both kinds is the same peer.
        let mapped = address.strip_prefix("0000000000000000FFFF0000").unwrap_or(address);
        Some((mapped.to_owned(), u16::from_str_radix(port, 16).ok()?))
    };
    Some(Socket {
        local: end(columns.get(1)?)?,
        remote: end(columns.get(2)?)?,
        state: (*columns.get(3)?).to_owned(),
        inode: columns.get(9)?.parse().ok()?,
    })
}

/// `  0: 00000000:1F90 00000000:0000 0A ...` -> 8080
fn listener(line: &str) -> Option<u16> {
    let mut columns = line.split_whitespace().skip(1);
    let (address, port) = columns.next()?.split_once(':')?;
    let state = columns.nth(1)?;
    (state == LISTEN && !is_loopback(address)).then(|| u16::from_str_radix(port, 16).ok())?
}

/// The kernel writes each 32 bits of an address as a number of the machine's own byte order.
fn is_loopback(address: &str) -> bool {
    let words: Option<Vec<u32>> =
        (0..address.len() / 8).map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()).collect();
    match words.as_deref() {
        Some([v4]) => v4.to_ne_bytes()[0] == 127,
        Some([0, 0, mapped, v4]) if *mapped == u32::from_ne_bytes([0, 0, 0xff, 0xff]) => v4.to_ne_bytes()[0] == 127,
        Some([0, 0, 0, last]) => *last == u32::from_ne_bytes([0, 0, 0, 1]),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_can_reach_is_told() {
        let table = "  sl  local_address rem_address   st\n\
            0: 00000000:1F90 00000000:0000 0A 0\n\
            1: 0100007F:1538 00000000:0000 0A 0\n\
            2: 0200140A:C350 0300140A:1F90 01 0\n";
        assert_eq!(table.lines().skip(1).filter_map(listener).collect::<Vec<_>>(), [8080]);
        assert_eq!(listener("0: 00000000000000000000000000000000:0050 0:0000 0A"), Some(80));
        assert_eq!(listener("0: 00000000000000000000000001000000:0050 0:0000 0A"), None);
        assert_eq!(listener("0: 0000000000000000FFFF00000100007F:0050 0:0000 0A"), None);
    }

    #[test]
    fn a_connection_is_counted_unless_it_is_the_one_process_own() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let _client = std::net::TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let _taken = listener.accept().unwrap();
        let us = std::process::id();
        assert!(open(us as i32, None).unwrap() >= 1);
        assert_eq!(open(us as i32, Some(us)).unwrap(), 0);
    }

    #[test]
    fn our_own_listener_is_found() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = open.local_addr().unwrap().port();
        assert!(ports(std::process::id() as i32).unwrap().contains(&port));
        drop(open);
        assert!(!ports(std::process::id() as i32).unwrap().contains(&port));
    }
}
