//! How the host reaches a service's replicas: at the containers' own addresses, or at ports of its own.

use super::Running;
use crate::config::{NetworkMode, Service};
use serde::{Deserialize, Serialize};

/// How the host reaches a service's replicas.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "at")]
pub enum Reach {
    /// At the address that a container has on its network.
    #[default]
    Address,
    /// At ports of the host that Docker publishes for each replica, and that are kept for its color and index.
    Ports {
        why: String,
        /// The containers' addresses cannot be reached at all.
        #[serde(default)]
        only: bool,
    },
}

impl Reach {
    /// Every replica is published at ports of the host.
    pub fn is_ports(&self) -> bool {
        matches!(self, Reach::Ports { .. })
    }

    /// A container's own address leads to it.
    pub fn has_addresses(&self) -> bool {
        !matches!(self, Reach::Ports { only: true, .. })
    }
}

/// Reasons of a single service come before those of the Engine.
pub(super) fn reach(service: &Service, running: &Running) -> Reach {
    // Nothing can be published for a container that lives in another network namespace, and nobody asks for a job.
    let has_network = matches!(service.network_mode, None | Some(NetworkMode::Bridge));
    if service.teal.nginx.is_some() {
        return Reach::Ports { why: "nginx calls it there".to_owned(), only: running.unreachable.is_some() };
    }
    match &running.unreachable {
        Some(why) if has_network && !service.is_job => Reach::Ports { why: why.clone(), only: true },
        _ => Reach::Address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reached_is_published_where_that_can_be() {
        let running = |why: &str| Running {
            unreachable: Some(why.to_owned()).filter(|why| !why.is_empty()),
            ..Running::default()
        };
        let web = Service::default();
        assert_eq!(reach(&web, &running("")), Reach::Address);
        let ports = reach(&web, &running("it is rootless"));
        assert_eq!(ports, Reach::Ports { why: "it is rootless".to_owned(), only: true });
        assert!(ports.is_ports() && !ports.has_addresses());
        for without in [
            Service { network_mode: Some(NetworkMode::Host), ..Service::default() },
            Service { network_mode: Some(NetworkMode::Service("web".to_owned())), ..Service::default() },
            Service { is_job: true, ..Service::default() },
        ] {
            assert_eq!(reach(&without, &running("it is rootless")), Reach::Address);
        }
        let bridge = Service { network_mode: Some(NetworkMode::Bridge), ..Service::default() };
        assert!(reach(&bridge, &running("it is rootless")).is_ports());
    }
}
