//! What Teal wants to know of a configuration: who listens, where requests go, and what nginx does as a process.

use super::{Configuration, Node};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Clone)]
pub struct View<'a> {
    pub user: Option<Node<'a>>,
    pub pid: Option<Node<'a>>,
    pub worker_shutdown_timeout: Option<Node<'a>>,
    /// Of the main level; every level may have its own.
    pub error_logs: Vec<Node<'a>>,
    /// Of `http`; a server or location with its own has none of these.
    pub access_logs: Vec<Node<'a>>,
    /// Of `http`.
    pub keepalive_timeout: Option<Node<'a>>,
    pub servers: Vec<Server<'a>>,
    pub upstreams: Vec<Upstream<'a>>,
    /// Every place that passes requests or connections on, those of `stream` too.
    pub passes: Vec<Pass<'a>>,
}

/// Which language: an upstream of `stream` and one of `http` may have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Stream,
}

/// A `server` of `http`.
#[derive(Debug, Clone)]
pub struct Server<'a> {
    pub node: Node<'a>,
    pub listens: Vec<Listen<'a>>,
    pub names: Vec<&'a str>,
    pub access_logs: Vec<Node<'a>>,
    /// Its own, or that of `http`.
    pub keepalive_timeout: Option<Node<'a>>,
}

#[derive(Debug, Clone)]
pub struct Listen<'a> {
    pub node: Node<'a>,
    /// None: it is written in a way that is none of nginx's.
    pub address: Option<Address>,
    pub tls: bool,
}

#[derive(Debug, Clone)]
pub struct Upstream<'a> {
    pub node: Node<'a>,
    pub protocol: Protocol,
    pub name: &'a str,
    pub servers: Vec<UpstreamServer<'a>>,
    pub keepalive: Option<Node<'a>>,
}

/// A `server` line of an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamServer<'a> {
    pub node: Node<'a>,
    pub address: Option<Address>,
    /// It gets no requests as long as nginx is not told otherwise.
    pub down: bool,
    pub backup: bool,
}

/// A `proxy_pass`, `grpc_pass` or the like.
#[derive(Debug, Clone)]
pub struct Pass<'a> {
    pub node: Node<'a>,
    pub protocol: Protocol,
    /// The blocks that it stands in, from `http` to the innermost.
    pub within: Vec<Node<'a>>,
    /// `http`, `https`; empty where none is written.
    pub scheme: &'a str,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By its place in [`View::upstreams`].
    Upstream(usize),
    Address(Address),
    /// It is known for each request alone.
    Variable,
    Unreadable,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    Ip(SocketAddr),
    /// A name that DNS knows, or a bare `localhost`.
    Host {
        name: String,
        port: u16,
    },
    Unix(String),
    /// Every address of the host, as `listen 80` means.
    Any {
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => write!(f, "{address}"),
            Address::Host { name, port } => write!(f, "{name}:{port}"),
            Address::Unix(path) => write!(f, "unix:{path}"),
            Address::Any { port } => write!(f, "*:{port}"),
        }
    }
}

impl Address {
    /// As a `server` of an upstream or the host of a URL has it.
    pub fn of_server(text: &str, default_port: u16) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Address::Unix(path.to_owned()));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Address::Ip(address));
        }
        if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Address::Ip(SocketAddr::new(ip, default_port)));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, default_port),
        };
        let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
        let named = !name.is_empty() && name.chars().all(plain);
        named.then(|| Address::Host { name: name.to_ascii_lowercase(), port })
    }

    /// As `listen` has it: a port alone, or `*`, is every address.
    pub fn of_listen(text: &str) -> Option<Self> {
        if let Ok(port) = text.parse() {
            return Some(Address::Any { port });
        }
        if let Some(rest) = text.strip_prefix('*') {
            let port = if rest.is_empty() { 80 } else { rest.strip_prefix(':')?.parse().ok()? };
            return Some(Address::Any { port });
        }
        Self::of_server(text, 80)
    }
}

impl<'a> View<'a> {
    pub fn of(configuration: &'a Configuration) -> Self {
        let main = configuration.directives();
        let last = |name: &str| main.iter().rev().find(|node| node.name() == name).copied();
        let named = |name: &str| main.iter().filter(|node| node.name() == name).copied().collect::<Vec<_>>();
        let (http, stream) = (named("http"), named("stream"));
        let of_http = |name: &str| http.iter().flat_map(|node| node.children_named(name)).collect::<Vec<_>>();
        let keepalive_timeout = of_http("keepalive_timeout").pop();
        let mut upstreams: Vec<Upstream<'a>> = of_http("upstream").into_iter().map(Upstream::of_http).collect();
        let of_stream = stream.iter().flat_map(|node| node.children_named("upstream"));
        upstreams.extend(of_stream.map(|node| Upstream { protocol: Protocol::Stream, ..Upstream::of_http(node) }));
        let mut passes = Vec::new();
        for (blocks, protocol) in [(&http, Protocol::Http), (&stream, Protocol::Stream)] {
            for block in blocks {
                find_passes(&mut vec![*block], protocol, &upstreams, &mut passes);
            }
        }
        Self {
            user: last("user"),
            pid: last("pid"),
            worker_shutdown_timeout: last("worker_shutdown_timeout"),
            error_logs: named("error_log"),
            access_logs: of_http("access_log"),
            keepalive_timeout,
            servers: of_http("server").into_iter().map(|node| Server::of(node, keepalive_timeout)).collect(),
            upstreams,
            passes,
        }
    }

    /// The passes that lead to an upstream.
    pub fn passes_to(&self, upstream: usize) -> impl Iterator<Item = &Pass<'a>> {
        self.passes.iter().filter(move |pass| pass.target == Target::Upstream(upstream))
    }
}

impl<'a> Server<'a> {
    fn of(node: Node<'a>, above: Option<Node<'a>>) -> Self {
        let listens = node.children_named("listen").into_iter().map(|node| Listen {
            node,
            address: Address::of_listen(node.value()),
            tls: node.args().any(|word| word == "ssl" || word == "quic"),
        });
        Self {
            node,
            listens: listens.collect(),
            names: node.children_named("server_name").into_iter().flat_map(Node::args).collect(),
            access_logs: node.children_named("access_log"),
            keepalive_timeout: node.child("keepalive_timeout").or(above),
        }
    }
}

impl<'a> Upstream<'a> {
    fn of_http(node: Node<'a>) -> Self {
        let servers = node.children_named("server").into_iter().map(|node| UpstreamServer {
            node,
            address: Address::of_server(node.value(), 80),
            down: node.args().any(|word| word == "down"),
            backup: node.args().any(|word| word == "backup"),
        });
        Self {
            node,
            protocol: Protocol::Http,
            name: node.value(),
            servers: servers.collect(),
            keepalive: node.child("keepalive"),
        }
    }
}

impl<'a> Pass<'a> {
    /// What holds here of a directive that a block inherits only where it has none of its own (`proxy_set_header`).
    pub fn in_force(&self, name: &str) -> Vec<Node<'a>> {
        let levels = self.within.iter().rev().map(|block| block.children_named(name));
        levels.into_iter().find(|nodes| !nodes.is_empty()).unwrap_or_default()
    }

    /// The `server` and `location`s that it is in, as they are written.
    pub fn location(&self) -> String {
        let named = self.within.iter().filter(|node| matches!(node.name(), "location" | "if"));
        let words: Vec<String> = named.map(|node| node.args().collect::<Vec<_>>().join(" ")).collect();
        words.join(" ")
    }
}

/// What passes requests on, beside `proxy_pass`.
const PASSES: [&str; 6] = ["proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass"];

fn find_passes<'a>(
    within: &mut Vec<Node<'a>>,
    protocol: Protocol,
    upstreams: &[Upstream<'a>],
    passes: &mut Vec<Pass<'a>>,
) {
    let Some(block) = within.last() else { return };
    for node in block.children() {
        if PASSES.contains(&node.name()) {
            let (scheme, target) = target(node, protocol, upstreams);
            passes.push(Pass { node, protocol, within: within.clone(), scheme, target });
        } else if matches!(node.name(), "server" | "location" | "if" | "limit_except") {
            within.push(node);
            find_passes(within, protocol, upstreams, passes);
            within.pop();
        }
    }
}

/// The scheme, and where it leads.
fn target<'a>(pass: Node<'a>, protocol: Protocol, upstreams: &[Upstream<'a>]) -> (&'a str, Target) {
    let (scheme, rest) = pass.value().split_once("://").unwrap_or(("", pass.value()));
    let host = match rest.strip_prefix("unix:") {
        // The path ends at the next `:`, where a URI may follow.
        Some(path) => &rest[..path.find(':').map_or(rest.len(), |at| "unix:".len() + at)],
        None => &rest[..rest.find(['/', '?']).unwrap_or(rest.len())],
    };
    let same = |upstream: &Upstream<'_>| upstream.protocol == protocol && upstream.name.eq_ignore_ascii_case(host);
    let default_port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let target = if host.contains('$') || scheme.contains('$') {
        Target::Variable
    } else if pass.name() == "proxy_pass" && protocol == Protocol::Http && scheme.is_empty() {
        Target::Unreadable
    } else if let Some(at) = upstreams.iter().position(same) {
        Target::Upstream(at)
    } else {
        Address::of_server(host, default_port).map_or(Target::Unreadable, Target::Address)
    };
    (scheme, target)
}
