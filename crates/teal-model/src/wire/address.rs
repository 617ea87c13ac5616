//! Where a listener takes connections: a port of the host, or a socket in the file system.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(UnixSocket),
}

/// A stream socket with a path. Who may connect is part of what it is: with another group it is another listener, which takes
/// the path from the one before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixSocket {
    pub path: String,
    /// Permissions of the file: whoever may write to it may connect.
    pub mode: u32,
    /// A name of `/etc/group`, or a number. None: the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Address::Tcp(addr)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => write!(f, "{addr}"),
            Address::Unix(socket) => write!(f, "unix:{}", socket.path),
        }
    }
}
