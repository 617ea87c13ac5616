//! The port that a route is for, and by which each backend says where it answers.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A port of a service, written `80` or `inside:8080`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum RoutePort {
    /// The port that the proxy listens on for clients of the host. Which port of the container it leads to may differ from
    /// release to release.
    Published(u16),
    /// A container port, which other containers call by the service's name.
    Inside(u16),
}

const INSIDE: &str = "inside:";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a port: `80` or `inside:8080`")]
pub struct NotAPort(pub String);

impl fmt::Display for RoutePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoutePort::Published(port) => write!(f, "{port}"),
            RoutePort::Inside(port) => write!(f, "{INSIDE}{port}"),
        }
    }
}

impl FromStr for RoutePort {
    type Err = NotAPort;
    fn from_str(text: &str) -> Result<Self, NotAPort> {
        let port = match text.strip_prefix(INSIDE) {
            Some(digits) => digits.parse().map(RoutePort::Inside),
            None => text.parse().map(RoutePort::Published),
        };
        port.map_err(|_| NotAPort(text.to_owned()))
    }
}

impl From<RoutePort> for String {
    fn from(port: RoutePort) -> Self {
        port.to_string()
    }
}

impl TryFrom<String> for RoutePort {
    type Error = NotAPort;
    fn try_from(text: String) -> Result<Self, NotAPort> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_port_is_read_as_it_was_written() {
        for (port, text) in [(RoutePort::Published(80), "80"), (RoutePort::Inside(8080), "inside:8080")] {
            assert_eq!((port.to_string().as_str(), text.parse()), (text, Ok(port)));
            let json = serde_json::to_string(&port).expect("written");
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<RoutePort>(&json).expect("read"), port);
        }
    }

    #[test]
    fn ports_are_keys_and_the_same_number_inside_is_another() {
        let ports = BTreeMap::from([(RoutePort::Published(80), 'a'), (RoutePort::Inside(80), 'b')]);
        let json = serde_json::to_string(&ports).expect("written");
        assert_eq!(json, r#"{"80":"a","inside:80":"b"}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<RoutePort, char>>(&json).expect("read"), ports);
    }

    #[test]
    fn anything_else_is_no_port() {
        for text in ["", "x", "70000", "-1", "inside:", "inside:x", "outside:80", "INSIDE:80", "inside:inside:80"] {
            assert_eq!(text.parse::<RoutePort>(), Err(NotAPort(text.to_owned())));
        }
        assert!(serde_json::from_str::<RoutePort>("80").is_err(), "always text");
    }
}
