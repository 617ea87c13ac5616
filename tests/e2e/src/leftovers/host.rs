//! Sockets, interfaces and files of the host itself, as `/proc` and the file system tell them.

use super::{Things, count};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

const LISTENING: &str = "0A";
/// `__SO_ACCEPTCON` of the kernel: a Unix socket that listens.
const ACCEPTS: u32 = 0x0001_0000;

pub fn interfaces() -> Result<Things, String> {
    let text = read("/proc/net/dev")?;
    Ok(count(text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))))
}

/// TCP over both families, of this network namespace.
pub fn tcp_sockets() -> Result<Things, String> {
    let mut addresses = tcp_listeners(&read("/proc/net/tcp")?)?;
    // A kernel without IPv6 has no such file.
    if Path::new("/proc/net/tcp6").exists() {
        addresses.extend(tcp_listeners(&read("/proc/net/tcp6")?)?);
    }
    Ok(count(addresses))
}

pub fn unix_sockets() -> Result<Things, String> {
    Ok(count(unix_listeners(&read("/proc/net/unix")?)))
}

/// Every file below the directories; a directory counts by its name with a slash.
pub fn files(directories: &[PathBuf]) -> Result<Things, String> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = directories.to_vec();
    while let Some(directory) = pending.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{}: {error}", directory.display())),
        };
        for entry in entries {
            let entry = entry.map_err(|error| format!("{}: {error}", directory.display()))?;
            // A symbolic link is not followed: what it leads to belongs elsewhere.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(format!("{}/", entry.path().display()));
                pending.push(entry.path());
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    Ok(count(found))
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// `sl local_address rem_address st ...`, addresses in hexadecimal, words of 32 bits in the host's order.
fn tcp_listeners(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(local), _, Some(state)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if state == LISTENING {
            found.push(address(local).ok_or_else(|| format!("an address that makes no sense: {local}"))?);
        }
    }
    Ok(found)
}

fn address(text: &str) -> Option<String> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for start in (0..host.len()).step_by(8) {
        bytes.extend_from_slice(&u32::from_str_radix(host.get(start..start + 8)?, 16).ok()?.to_ne_bytes());
    }
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(format!("{}:{port}", Ipv4Addr::from(bytes)));
    }
    Some(format!("[{}]:{port}", Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)))
}

/// `Num RefCount Protocol Flags Type St Inode Path`; without a path nobody can connect to it.
fn unix_listeners(text: &str) -> Vec<String> {
    let named = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        (flags & ACCEPTS != 0 && fields.len() > 7).then(|| fields[7..].join(" "))
    };
    text.lines().skip(1).filter_map(named).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that cannot go on says where
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_that_listens_is_found_until_it_closes() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let address = listener.local_addr().unwrap().to_string();
            assert!(tcp_sockets().unwrap().contains_key(&address), "{address}");
            drop(listener);
            assert!(!tcp_sockets().unwrap().contains_key(&address));
        }
    }

    #[test]
    fn a_unix_socket_is_found_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(unix_sockets().unwrap().contains_key(path.to_str().unwrap()));
        drop(listener);
        assert!(!unix_sockets().unwrap().contains_key(path.to_str().unwrap()));
        assert!(files(&[directory.path().to_owned()]).unwrap().contains_key(path.to_str().unwrap()), "the file stays");
    }

    #[test]
    fn files_are_found_at_any_depth_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::fs::write(directory.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("a/root")).unwrap();
        let found = files(&[directory.path().to_owned(), directory.path().join("missing")]).unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn the_loopback_interface_is_there() {
        assert!(interfaces().unwrap().contains_key("lo"));
    }
}
