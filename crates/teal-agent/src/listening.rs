//! The TCP ports that a container listens on, as its own network namespace tells them (`/proc/PID/net/tcp`, proc(5)).

use std::collections::BTreeSet;
use std::io;

/// LISTEN in the kernel's numbering of TCP states.
const LISTEN: &str = "0A";

/// Ports that others can reach: what listens on loopback alone is left out.
///
/// # Errors
/// The process is gone, or belongs to somebody whose namespace may not be read.
pub fn ports(pid: i32) -> io::Result<BTreeSet<u16>> {
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
    fn our_own_listener_is_found() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = open.local_addr().unwrap().port();
        assert!(ports(std::process::id() as i32).unwrap().contains(&port));
        drop(open);
        assert!(!ports(std::process::id() as i32).unwrap().contains(&port));
    }
}
