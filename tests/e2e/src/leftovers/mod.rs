//! What a deployment left over: everything on the host before, everything after, and the difference.
//!
//! A part that could not be read is said so, and is never taken for an empty one.

mod docker;
mod firewall;
mod host;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where to look, apart from the host as a whole.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Directories whose files count; one that does not exist holds none.
    pub directories: Vec<PathBuf>,
    /// The Docker daemon, as `docker --host` takes it; None: the one that the environment names.
    pub docker_host: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Container,
    Network,
    Image,
    Volume,
    /// iptables, as `iptables-save` prints them; nftables has its own.
    Ipv4Rule,
    Ipv6Rule,
    NftRule,
    Interface,
    /// Listening, TCP.
    TcpSocket,
    /// Listening, Unix.
    UnixSocket,
    File,
}

/// Things of one part, each with how often it is there.
type Things = BTreeMap<String, usize>;

/// The host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    parts: BTreeMap<Part, Result<Things, String>>,
}

/// The difference of two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Leftovers {
    /// There now, and not before.
    pub left: Vec<(Part, String)>,
    /// There before, and not now: no leftover, but nobody asked for it either.
    pub gone: Vec<(Part, String)>,
    /// Parts that could not be compared, and why.
    pub unread: Vec<(Part, String)>,
}

impl Snapshot {
    /// Reads the host. Needs root for the firewall.
    pub fn take(scope: &Scope) -> Self {
        let host = scope.docker_host.as_deref();
        Self {
            parts: BTreeMap::from([
                (Part::Container, docker::containers(host)),
                (Part::Network, docker::networks(host)),
                (Part::Image, docker::images(host)),
                (Part::Volume, docker::volumes(host)),
                (Part::Ipv4Rule, firewall::iptables("iptables-save", "/proc/net/ip_tables_names")),
                (Part::Ipv6Rule, firewall::iptables("ip6tables-save", "/proc/net/ip6_tables_names")),
                (Part::NftRule, firewall::nft()),
                (Part::Interface, host::interfaces()),
                (Part::TcpSocket, host::tcp_sockets()),
                (Part::UnixSocket, host::unix_sockets()),
                (Part::File, host::files(&scope.directories)),
            ]),
        }
    }

    /// What is there in `after` that was not there in `self`.
    pub fn diff(&self, after: &Self) -> Leftovers {
        let mut leftovers = Leftovers::default();
        for (part, before) in &self.parts {
            match (before, after.parts.get(part)) {
                (Ok(before), Some(Ok(after))) => {
                    leftovers.left.extend(surplus(after, before).map(|thing| (*part, thing)));
                    leftovers.gone.extend(surplus(before, after).map(|thing| (*part, thing)));
                }
                (Err(why), _) | (_, Some(Err(why))) => leftovers.unread.push((*part, why.clone())),
                (_, None) => leftovers.unread.push((*part, "not part of the second snapshot".to_owned())),
            }
        }
        leftovers
    }

    /// Parts that could not be read, and why.
    pub fn unread(&self) -> Vec<(Part, &str)> {
        self.parts.iter().filter_map(|(part, things)| Some((*part, things.as_ref().err()?.as_str()))).collect()
    }
}

impl Leftovers {
    /// Nothing is left over, and every part could be read.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && self.unread.is_empty()
    }

    /// Without what `expected` names; for what `retain` and `keep` leave on purpose.
    pub fn except(mut self, expected: impl Fn(Part, &str) -> bool) -> Self {
        self.left.retain(|(part, thing)| !expected(*part, thing));
        self
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left.is_empty() && self.gone.is_empty() && self.unread.is_empty() {
            return f.write_str("nothing is left over");
        }
        for (part, thing) in &self.left {
            writeln!(f, "left over: {part} {thing}")?;
        }
        for (part, thing) in &self.gone {
            writeln!(f, "gone: {part} {thing}")?;
        }
        for (part, why) in &self.unread {
            writeln!(f, "not compared: {part}: {why}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Ipv4Rule => "iptables rule",
            Self::Ipv6Rule => "ip6tables rule",
            Self::NftRule => "nftables rule",
            Self::Interface => "network interface",
            Self::TcpSocket => "listening socket",
            Self::UnixSocket => "Unix socket",
            Self::File => "file",
        })
    }
}

fn surplus<'a>(more: &'a Things, less: &'a Things) -> impl Iterator<Item = String> + 'a {
    more.iter().filter_map(|(thing, count)| {
        let extra = count.saturating_sub(less.get(thing).copied().unwrap_or(0));
        match extra {
            0 => None,
            1 => Some(thing.clone()),
            _ => Some(format!("{thing} ({extra} times)")),
        }
    })
}

fn count(things: impl IntoIterator<Item = String>) -> Things {
    let mut counted = Things::new();
    for thing in things {
        *counted.entry(thing).or_default() += 1;
    }
    counted
}

/// What a program prints; the error says why there is nothing.
fn output_of(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|error| format!("{program}: {error}"))
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(part: Part, things: Result<&[&str], &str>) -> Snapshot {
        let things = things.map(|things| count(things.iter().map(|thing| (*thing).to_owned())));
        Snapshot { parts: BTreeMap::from([(part, things.map_err(str::to_owned))]) }
    }

    #[test]
    fn what_is_new_is_left_over_and_what_is_missing_is_gone() {
        let before = snapshot(Part::Ipv4Rule, Ok(&["a", "b", "b"]));
        let after = snapshot(Part::Ipv4Rule, Ok(&["b", "b", "b", "c", "c"]));
        let leftovers = before.diff(&after);
        assert!(!leftovers.is_clean());
        assert_eq!(
            leftovers.to_string(),
            "left over: iptables rule b\nleft over: iptables rule c (2 times)\ngone: iptables rule a\n"
        );
        assert!(leftovers.except(|part, _| part == Part::Ipv4Rule).is_clean());
        assert_eq!(before.diff(&before).to_string(), "nothing is left over");
    }

    #[test]
    fn a_part_that_could_not_be_read_is_never_clean() {
        let (good, bad) = (snapshot(Part::Volume, Ok(&[])), snapshot(Part::Volume, Err("no daemon")));
        for leftovers in [good.diff(&bad), bad.diff(&good), bad.diff(&bad)] {
            assert!(!leftovers.is_clean());
            assert_eq!(leftovers.to_string(), "not compared: volume: no daemon\n");
        }
        assert_eq!(bad.unread(), [(Part::Volume, "no daemon")]);
    }
}
