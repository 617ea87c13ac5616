//! Whom to call, and who may answer.

use std::fmt;
use std::str::FromStr;

/// `http://HOST:PORT/PATH#VERSION`, `tcp://HOST:PORT#VERSION` or `absent://HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub scheme: Scheme,
    /// With the port, but for `absent`.
    pub host: String,
    pub path: String,
    /// The version that answers must begin with this.
    pub version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Keep-alive; in turn `GET PATH`, and `POST /echo` whose answer must be what was sent.
    Http,
    /// `VERSION LINE` for a line.
    Tcp,
    /// A name that must not be found: a call succeeds when it is not.
    Absent,
}

/// When a name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolve {
    /// For the first call alone, as nginx and many connection pools do.
    Once,
    /// For every call; a connection to an address that the name no longer has is given up.
    Each,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (url, version) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{text}: SCHEME://HOST is wanted"))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let scheme = match scheme {
            "http" => Scheme::Http,
            "tcp" => Scheme::Tcp,
            "absent" => Scheme::Absent,
            _ => return Err(format!("{text}: http, tcp and absent are spoken here")),
        };
        if scheme != Scheme::Absent && !host.contains(':') {
            return Err(format!("{text}: HOST:PORT is wanted"));
        }
        Ok(Self { scheme, host: host.to_owned(), path: path.to_owned(), version: version.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http => write!(f, "http://{}{}", self.host, self.path)?,
            Scheme::Tcp => write!(f, "tcp://{}", self.host)?,
            Scheme::Absent => write!(f, "absent://{}", self.host)?,
        }
        if self.version.is_empty() { Ok(()) } else { write!(f, "#{}", self.version) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_as_it_is_read() {
        for text in ["http://app:8080/slow?ms=5#red-", "tcp://app:9000", "absent://red", "http://app:80/"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["app:8080", "http://app/", "udp://app:53", "tcp://app"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
