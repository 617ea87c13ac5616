//! Which parts of a configuration lead to services of Teal, and what has to change so that nginx goes to Teal's port and keeps
//! its connections there.
//!
//! Nothing is touched that is not about the one service: where several share a place, it is left alone and said.

use super::edit::{Edit, append, insert_after, replace_word};
use super::{Address, Configuration, Node, Pass, Place, Protocol, Span, Target, Upstream, View};
use crate::ids::ServiceKey;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Idle connections that a worker of nginx keeps to an upstream.
const KEEPALIVE: &str = "keepalive 32;";

/// A service, as far as nginx may lead to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    pub service: ServiceKey,
    pub ports: Vec<ServedPort>,
    /// Addresses of its containers: nginx may have been sent there past every published port.
    pub containers: Vec<IpAddr>,
    /// By which other containers call it.
    pub names: Vec<String>,
    /// It was adopted, and Docker has its ports until the first deployment.
    pub dockers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedPort {
    /// None: every address.
    pub host_ip: Option<IpAddr>,
    pub published: u16,
    pub target: u16,
}

/// Where nginx runs, and what it has to say to reach ports of this host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standpoint {
    /// It is a process of the host, or a container in the host's network. Else loopback is its own, and it has names for others.
    pub on_host: bool,
    /// Addresses of the host beside loopback, the nearest first.
    pub addresses: Vec<IpAddr>,
}

const UNREACHABLE: &str = "leads to a container that the first deployment ends, and nginx cannot reach the address that its port is published on: publish it where nginx can (on every address, or the gateway of its network), and name that here";
impl Standpoint {
    /// Whether the port is open on this address, as nginx sees it.
    fn reaches(&self, port: &ServedPort, ip: IpAddr) -> bool {
        let local = if ip.is_loopback() { self.on_host } else { self.addresses.contains(&ip) };
        local
            && match port.host_ip {
                None => true,
                Some(own) if own.is_unspecified() => own.is_ipv4() == ip.is_ipv4(),
                Some(own) => own == ip,
            }
    }
}

/// What Docker calls the host inside of containers.
const HOST_NAME: &str = "host.docker.internal";

/// What there is to do for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    pub service: ServiceKey,
    /// Where nginx leads to it.
    pub uses: Vec<Said>,
    pub edits: Vec<Edit>,
    pub left: Vec<Said>,
    /// Keep-alive waits for the first deployment.
    pub waits: bool,
}

/// A place and a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    pub place: Place,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ways {
    pub moves: Vec<Move>,
    /// What nobody can say for sure, whichever service it is about.
    pub left: Vec<Said>,
}

pub fn ways(configuration: &Configuration, services: &[Served], from: &Standpoint) -> Ways {
    let view = View::of(configuration);
    let mut out = Ways { moves: Vec::new(), left: unknown(configuration, &view) };
    for served in services {
        let mut search = Search { view: &view, served, from, found: Found::default() };
        for (at, upstream) in view.upstreams.iter().enumerate() {
            search.upstream(at, upstream, services);
        }
        for pass in &view.passes {
            search.literal(pass);
        }
        out.moves.extend(search.found.into_move(served));
    }
    out
}

/// How an address of nginx leads to a service.
enum Lead {
    /// By its published port, or by its name.
    Stays,
    /// To a container, past the port that it has to be.
    Becomes(SocketAddr),
    /// To a container, and nginx has no way to the port.
    Unreachable,
}

struct Search<'s, 'a> {
    view: &'s View<'a>,
    served: &'s Served,
    from: &'s Standpoint,
    found: Found,
}

#[derive(Default)]
struct Found {
    uses: Vec<Said>,
    edits: Vec<Edit>,
    left: Vec<Said>,
    waits: bool,
    /// Places that are several, and need an edit each.
    contested: BTreeSet<(String, Span)>,
}

impl Search<'_, '_> {
    fn lead(&self, address: &Address) -> Option<Lead> {
        lead(self.served, self.from, address)
    }

    fn upstream(&mut self, at: usize, upstream: &Upstream<'_>, services: &[Served]) {
        let mut leads = Vec::new();
        for server in &upstream.servers {
            if let Some(lead) = server.address.as_ref().and_then(|address| self.lead(address)) {
                leads.push((server, lead));
            }
        }
        if leads.is_empty() {
            return;
        }
        let name = upstream.name;
        if upstream.protocol == Protocol::Stream {
            let what = format!("upstream {name} is one of `stream`, whose connections Teal does not move");
            return self.leave(upstream.node, what);
        }
        let others = services.iter().filter(|other| other.service != self.served.service);
        let shared = others.into_iter().find(|other| {
            let mut addresses = upstream.servers.iter().filter_map(|server| server.address.as_ref());
            addresses.any(|address| lead(other, self.from, address).is_some())
        });
        if let Some(other) = shared {
            return self.leave(upstream.node, format!("upstream {name} leads to {} too", other.service));
        }
        let known: Vec<_> = leads.iter().map(|(server, _)| server.node).collect();
        for (server, lead) in leads {
            let written = server.node.value();
            match lead {
                Lead::Stays => self.uses(server.node, format!("upstream {name}: {written} leads there, and stays")),
                Lead::Unreachable => self.leave(server.node, format!("upstream {name}: {written} {UNREACHABLE}")),
                Lead::Becomes(instead) => {
                    self.uses(
                        server.node,
                        format!("upstream {name}: {written} leads to a container itself, and becomes {instead}"),
                    );
                    self.found.edits.extend(replace_word(server.node, 1, &instead.to_string()));
                }
            }
        }
        for server in upstream.servers.iter().filter(|server| !known.contains(&server.node) && !server.down) {
            let what = format!("upstream {name} has {}, which no service of Teal publishes", server.node.value());
            self.leave(server.node, format!("{what}: take it out when nothing is served there any more"));
        }
        if self.served.dockers {
            self.found.waits = true;
            if let Some(keepalive) = upstream.keepalive {
                let what = "connections that it keeps open to the adopted containers end with them: `teal deploy` at a quiet moment";
                self.leave(keepalive, format!("upstream {name}: {what}"));
            }
            return;
        }
        if upstream.keepalive.is_none() {
            self.found.edits.extend(append(upstream.node, KEEPALIVE));
        }
        for pass in self.view.passes_to(at) {
            self.keep_alive(pass);
        }
    }

    /// A `proxy_pass` that names an address itself.
    fn literal(&mut self, pass: &Pass<'_>) {
        let Target::Address(address) = &pass.target else { return };
        let Some(lead) = self.lead(address) else { return };
        let url = pass.node.value();
        if pass.protocol == Protocol::Stream || pass.node.name() != "proxy_pass" {
            return self.leave(pass.node, format!("`{} {url}` does not speak HTTP as Teal does", pass.node.name()));
        }
        if pass.scheme.eq_ignore_ascii_case("https") {
            return self.leave(pass.node, format!("{url} speaks TLS to a port that does not"));
        }
        match lead {
            Lead::Stays => self.uses(pass.node, format!("proxy_pass {url} leads there, and stays")),
            Lead::Unreachable => return self.leave(pass.node, format!("proxy_pass {url} {UNREACHABLE}")),
            Lead::Becomes(instead) => {
                let authority = url.split("://").nth(1).unwrap_or_default();
                let authority = authority.split(['/', '?']).next().unwrap_or_default();
                let to = url.replacen(authority, &instead.to_string(), 1);
                self.uses(pass.node, format!("proxy_pass {url} leads to a container itself, and becomes {to}"));
                self.found.edits.extend(replace_word(pass.node, 1, &to));
            }
        }
        self.leave(pass.node, format!("{url} names an address: keep-alive needs an `upstream` block with that server"));
    }

    /// HTTP/1.1 without `Connection: close`, where nothing else is written.
    fn keep_alive(&mut self, pass: &Pass<'_>) {
        let node = pass.node;
        let block = pass.within.last().copied();
        if node.name() != "proxy_pass" || pass.scheme.eq_ignore_ascii_case("https") {
            let what = format!("`{} {}` does not speak HTTP as Teal does", node.name(), node.value());
            return self.leave(node, what);
        }
        let mut lines = Vec::new();
        match pass.in_force("proxy_http_version").last() {
            None => lines.push("proxy_http_version 1.1;".to_owned()),
            Some(version) if version.value() == "1.0" => {
                return self
                    .leave(*version, "proxy_http_version 1.0 is written, so connections are not kept".to_owned());
            }
            Some(_) => {}
        }
        let headers = pass.in_force("proxy_set_header");
        match headers.iter().find(|header| header.value().eq_ignore_ascii_case("Connection")) {
            Some(own) if own.args().nth(1) == Some("") => {}
            Some(own) => {
                let value = own.args().nth(1).unwrap_or_default();
                let what = format!("the Connection header is set to `{value}` there (for WebSockets?)");
                return self.leave(*own, what);
            }
            None => {
                // A block that sets one header inherits none, so those from above come along.
                let own = block.is_some_and(|block| !block.children_named("proxy_set_header").is_empty());
                if !own {
                    lines.extend(headers.iter().map(|header| header.text().to_owned()));
                }
                lines.push("proxy_set_header Connection \"\";".to_owned());
            }
        }
        if lines.is_empty() {
            return;
        }
        if block.is_none_or(|block| block.name() != "location") {
            let within = block.map_or("", Node::name);
            return self.leave(node, format!("it stands in an `{within}`, which cannot hold what keep-alive needs"));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let edit = insert_after(node, &lines);
        match self.found.edits.iter().position(|other| other.file == edit.file && other.span == edit.span) {
            None => self.found.edits.push(edit),
            Some(at) if self.found.edits[at] == edit => {}
            Some(_) => {
                self.found.contested.insert((edit.file, edit.span));
                self.leave(node, "this file is included in several places, and each needs other headers".to_owned());
            }
        }
    }

    fn uses(&mut self, node: Node<'_>, what: String) {
        self.found.uses.push(Said { place: node.place(), what });
    }

    fn leave(&mut self, node: Node<'_>, what: String) {
        let said = Said { place: node.place(), what };
        if !self.found.left.contains(&said) {
            self.found.left.push(said);
        }
    }
}

impl Found {
    fn into_move(self, served: &Served) -> Option<Move> {
        let Found { uses, mut edits, left, waits, contested } = self;
        edits.retain(|edit| !contested.contains(&(edit.file.clone(), edit.span)));
        let nothing = uses.is_empty() && left.is_empty();
        (!nothing).then(|| Move { service: served.service.clone(), uses, edits, left, waits })
    }
}

fn lead(served: &Served, from: &Standpoint, address: &Address) -> Option<Lead> {
    let (ips, port) = match address {
        Address::Ip(address) => (vec![address.ip()], address.port()),
        // It may be either.
        Address::Host { name, port } if name == "localhost" => {
            (vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)], *port)
        }
        Address::Host { name, port } if name == HOST_NAME && !from.on_host => (from.addresses.clone(), *port),
        Address::Host { name, port } => {
            let called = !from.on_host && served.names.contains(name);
            let answers = served.ports.iter().any(|candidate| candidate.target == *port);
            // nginx looks a name up when it loads its configuration: the adopted container keeps that address to its end.
            return (called && answers).then(|| match served.dockers {
                true => past(served.ports.iter().find(|candidate| candidate.target == *port), from),
                false => Lead::Stays,
            });
        }
        Address::Unix(_) | Address::Any { .. } => return None,
    };
    for candidate in &served.ports {
        if candidate.published == port && ips.iter().any(|ip| from.reaches(candidate, *ip)) {
            return Some(Lead::Stays);
        }
        if candidate.target == port && ips.iter().any(|ip| served.containers.contains(ip)) {
            return Some(past(Some(candidate), from));
        }
    }
    None
}

/// The address that takes the place of a container's own.
fn past(port: Option<&ServedPort>, from: &Standpoint) -> Lead {
    let Some(port) = port else { return Lead::Unreachable };
    let nearest = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let mut known = port.host_ip.iter().chain(&nearest).chain(&from.addresses);
    let ip = known.find(|ip| !ip.is_unspecified() && from.reaches(port, **ip));
    ip.map_or(Lead::Unreachable, |ip| Lead::Becomes(SocketAddr::new(*ip, port.published)))
}

/// Places whose meaning depends on a request, or on files that are not here.
fn unknown(configuration: &Configuration, view: &View<'_>) -> Vec<Said> {
    let mut left = BTreeSet::new();
    for pass in &view.passes {
        let what = match pass.target {
            Target::Variable => "has a variable, so that where it leads is known for each request alone",
            Target::Unreadable => "cannot be read",
            Target::Upstream(_) | Target::Address(_) => continue,
        };
        left.insert(Said {
            place: pass.node.place(),
            what: format!("{} {} {what}", pass.node.name(), pass.node.value()),
        });
    }
    for include in configuration.unread() {
        let what = format!("include {}: these files are not here", include.value());
        left.insert(Said { place: include.place(), what });
    }
    let names: Vec<&str> = view.upstreams.iter().map(|upstream| upstream.name).collect();
    let mut open: Vec<Node<'_>> = configuration.directives();
    while let Some(node) = open.pop() {
        if matches!(node.name(), "map" | "geo" | "split_clients") {
            for entry in node.children() {
                let value = entry.args().last().unwrap_or_default();
                let host = value.rsplit("://").next().unwrap_or_default();
                if names.contains(&host) {
                    let what = format!("a `{}` chooses upstream {host} by the request", node.name());
                    left.insert(Said { place: entry.place(), what });
                }
            }
        } else {
            open.extend(node.children());
        }
    }
    left.into_iter().collect()
}
