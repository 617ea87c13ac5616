//! Services that belong together: who lives in another's namespace, and who goes along when another changes.

use super::Member;
use crate::config::{Namespace, NetworkMode, Project, Service, Strategy};
use std::collections::BTreeSet;

/// Services in whose network, ipc or pid namespace it lives.
pub(super) fn joins(service: &Service) -> Vec<String> {
    let isolation = &service.container.isolation;
    let spaces = [&isolation.ipc, &isolation.pid].into_iter().flatten();
    let spaces = spaces.filter_map(|space| match space {
        Namespace::Service(name) => Some(name),
        _ => None,
    });
    let network = service.network_mode.iter().filter_map(|mode| match mode {
        NetworkMode::Service(name) => Some(name),
        _ => None,
    });
    network.chain(spaces).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Why a service that has not changed gets new containers with those that have. A job that has run is left alone.
pub(super) fn goes_along(service: &Service, members: &[Member]) -> Option<String> {
    match follows(service, &|name| members.iter().any(|member| member.service.service == name))? {
        Follows::Joined(name) => Some(format!("it lives in a namespace of {name}, which gets new containers")),
        Follows::Restarted(name) => {
            Some(format!("it depends on {name} with `restart: true`, which gets a new release"))
        }
    }
}

/// The service that another one follows: it is started again when that one changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// It lives in a namespace of it.
    Joined(String),
    /// `depends_on` with `restart: true`.
    Restarted(String),
}

pub fn follows(service: &Service, changes: &dyn Fn(&str) -> bool) -> Option<Follows> {
    if service.is_job {
        return None;
    }
    if let Some(name) = joins(service).into_iter().find(|name| changes(name)) {
        return Some(Follows::Joined(name));
    }
    let again = service.depends_on.iter().find(|(name, depends)| depends.restart && changes(name));
    again.map(|(name, _)| Follows::Restarted(name.clone()))
}

/// Whoever waits for it can do without.
pub(super) fn is_optional(project: &Project, name: &str) -> bool {
    let mut waiting = project.services.values().filter_map(|service| service.depends_on.get(name)).peekable();
    waiting.peek().is_some() && waiting.all(|depends| !depends.required)
}

/// Whoever lives in another's namespace starts behind it: where one of the two is recreated, both take their turn.
pub(super) fn keep_together(members: &mut [Member]) {
    let mut settled = false;
    while !settled {
        settled = true;
        for at in 0..members.len() {
            for name in members[at].joins.clone() {
                let Some(joined) = members.iter().position(|member| member.service.service == name) else { continue };
                let own = members[at].service.service.clone();
                if members[at].is_recreate() && !members[joined].takes_its_turn() {
                    members[joined].strategy = Strategy::Recreate;
                    members[joined].why = format!("{own} lives in its namespace and is recreated");
                    settled = false;
                }
                if members[joined].takes_its_turn() && members[at].flips_with.as_ref() == Some(&name) {
                    members[at].flips_with = None;
                    if !members[at].naming.is_holder() {
                        members[at].strategy = Strategy::Recreate;
                        members[at].why = format!("it lives in the network of {name}, which is recreated");
                    }
                    settled = false;
                }
            }
        }
    }
}
