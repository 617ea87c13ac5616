//! What is spoken on the ports of a release's containers: written in the file, or found by asking the containers.

use crate::config::{Mode, Probe, Protocol as Transport, Service};
use crate::wire::Protocol;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A container port on which a replica takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    pub port: u16,
    pub protocol: Protocol,
}

/// Doors by their port; in the order of the ports.
pub fn spoken(doors: &[Door], port: u16) -> Option<Protocol> {
    doors.iter().find(|door| door.port == port).map(|door| door.protocol)
}

/// What a service says of one of its container ports. None: nothing, so its containers are asked.
pub fn written(service: &Service, port: u16) -> Option<Protocol> {
    match service.teal.mode {
        Mode::Http => return Some(Protocol::Http),
        Mode::Tcp | Mode::Direct => return Some(Protocol::Tcp),
        Mode::Auto => {}
    }
    if service.teal.nginx.as_ref().is_some_and(|nginx| nginx.port == Some(port)) {
        return Some(Protocol::Http);
    }
    let published: Vec<_> =
        service.ports.iter().filter(|one| one.target == port && one.protocol == Transport::Tcp).collect();
    for one in &published {
        match one.app_protocol.as_deref() {
            Some("tcp") => return Some(Protocol::Tcp),
            Some("http" | "ws") => return Some(Protocol::Http),
            _ => {}
        }
        // A route by host or path can only be that of a request.
        if service.teal.routes.iter().any(|rule| rule.port.is_none_or(|only| only == one.published)) {
            return Some(Protocol::Http);
        }
    }
    // So can one that holds for every way to the service.
    if service.teal.listen.iter().any(|one| one.target == port)
        && service.teal.routes.iter().any(|rule| rule.port.is_none())
    {
        return Some(Protocol::Http);
    }
    match &service.teal.health.probe {
        Probe::Http { port: asked, .. } if asked.or_else(|| first_port(service)) == Some(port) => Some(Protocol::Http),
        _ => None,
    }
}

/// The container port that clients of the host come to first: of the first published one, else of the first socket; or the one
/// that nginx calls.
pub fn first_port(service: &Service) -> Option<u16> {
    let published = service.ports.iter().find(|port| port.protocol == Transport::Tcp).map(|port| port.target);
    let published = published.or_else(|| service.teal.listen.first().map(|listen| listen.target));
    service.teal.nginx.as_ref().and_then(|nginx| nginx.port).or(published)
}

/// All of them.
pub fn client_ports(service: &Service) -> BTreeSet<u16> {
    let published = service.ports.iter().filter(|port| port.protocol == Transport::Tcp).map(|port| port.target);
    match &service.teal.nginx {
        Some(nginx) => nginx.port.into_iter().collect(),
        None => published.chain(service.teal.listen.iter().map(|listen| listen.target)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Port, RouteRule};

    fn service(app_protocol: Option<&str>) -> Service {
        let port =
            Port { published: 80, target: 8080, app_protocol: app_protocol.map(str::to_owned), ..Port::default() };
        Service { ports: vec![port], ..Service::default() }
    }

    #[test]
    fn what_is_written_goes_before_what_is_found() {
        assert_eq!(written(&service(None), 8080), None);
        assert_eq!(written(&service(Some("tcp")), 8080), Some(Protocol::Tcp));
        let mut routed = service(None);
        routed.teal.routes.push(RouteRule { host: Some("a.example".into()), path: "/".into(), port: None });
        assert_eq!(written(&routed, 8080), Some(Protocol::Http));
        assert_eq!(written(&routed, 9000), None);
        routed.teal.mode = Mode::Tcp;
        assert_eq!(written(&routed, 8080), Some(Protocol::Tcp));
    }

    #[test]
    fn a_path_to_be_probed_says_that_its_port_speaks_http() {
        let mut probed = service(None);
        probed.teal.health.probe = Probe::Http { path: "/up".into(), port: None, status: None, host: None };
        assert_eq!(written(&probed, 8080), Some(Protocol::Http));
        probed.teal.health.probe = Probe::Http { path: "/up".into(), port: Some(9090), status: None, host: None };
        assert_eq!((written(&probed, 8080), written(&probed, 9090)), (None, Some(Protocol::Http)));
    }
}
