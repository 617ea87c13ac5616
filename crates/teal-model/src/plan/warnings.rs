//! What a plan warns of: the file says one thing, and here it means another.

use super::{ALL, Member, Plan};
use crate::config::{Attachment, Condition, PRIVATE_RANGES, Project, Restart, Service, Strategy, is_trusted};
use crate::deployment::percent;
use std::collections::BTreeSet;

pub(super) fn warn(project: &Project, plan: &mut Plan) {
    let said: Vec<String> = plan
        .members
        .iter()
        .flat_map(|member| warn_of(plan, member, &project.services[&member.service.service]))
        .collect();
    plan.warnings.extend(said);
    let adopted: Vec<String> = plan.members.iter().flat_map(of_adoption).collect();
    plan.warnings.extend(adopted);
    let nginx: Vec<String> =
        plan.members.iter().flat_map(|member| of_nginx(member, &project.services[&member.service.service])).collect();
    plan.warnings.extend(nginx);
    let crowded: Vec<String> = plan.members.iter().flat_map(of_crowding).collect();
    plan.warnings.extend(crowded);
    for member in &plan.members {
        let name = &member.service.service;
        let service = &project.services[name];
        plan.warnings.extend(of_preview(project, service));
        let external = service.networks.keys().filter_map(|key| project.networks.get(key)).find(|one| one.external);
        if let Some(network) = external.filter(|_| member.naming.is_holder()) {
            plan.warnings.push(format!(
                "the network {} is not Teal's, so addresses there are not fixed: when Docker restarts, the address of {name} may change, and who has kept it must look the name up again",
                network.name
            ));
        }
        if member.is_recreate() && service.teal.strategy == Some(Strategy::BlueGreen) {
            plan.warnings.push(format!("{name} is recreated, although blue-green is written: {}", member.why));
        }
        if member.is_recreate()
            && (!member.listeners.is_empty() || member.live.as_ref().is_some_and(|live| !live.doors.is_empty()))
            && service.teal.health.deadline_ms > service.teal.hold_ms
        {
            plan.warnings.push(format!(
                "{name} may take {} s to get ready, but its requests are held for {} s only; then they get 503.",
                service.teal.health.deadline_ms / 1000,
                service.teal.hold_ms / 1000
            ));
        }
    }
}

/// What the file says of a member and Teal does otherwise than one may think.
fn warn_of(plan: &Plan, member: &Member, service: &Service) -> Vec<String> {
    let name = &member.service.service;
    let mut said = Vec::new();
    if service.is_job && matches!(service.container.restart, Restart::Always | Restart::UnlessStopped) {
        said.push(format!("{name} is a job, so it is not started again when it has ended: `restart` has no effect"));
    }
    if member.naming.is_holder() {
        let fixed = |at: &Attachment| at.ipv4_address.is_some() || at.ipv6_address.is_some();
        if service.networks.values().any(fixed) {
            said.push(format!(
                "{name} is called at the address that is written down, and its container itself has another"
            ));
        }
        if service.mac_address.is_some() || service.networks.values().any(|at| at.mac_address.is_some()) {
            said.push(format!("`mac_address` is that of {name}'s container; callers by name meet another"));
        }
    }
    if let Some(called) = service.container_name.as_ref().filter(|called| member.naming.is_holder() && *called != name)
    {
        said.push(format!(
            "a call to `{called}` may reach {name}'s container itself, past the proxy, and is cut when it is recreated; others call it `{name}`"
        ));
    }
    for (on, depends) in &service.depends_on {
        let planned = plan.members.iter().find(|member| member.service.service == *on);
        let can_fail = depends.condition != Condition::ServiceStarted;
        match planned {
            Some(planned) if !depends.required && can_fail && !planned.optional => said.push(format!(
                "{name} does not require {on}; if {on} does not get ready, the whole deployment is taken back all the same{}",
                if planned.job { ", since others require it" } else { ". To leave it out, deploy the others by name" }
            )),
            Some(planned) if depends.restart && member.takes_its_turn() && !planned.takes_its_turn() => said.push(
                format!("{name} is started again before {on} takes over: services that are recreated go first"),
            ),
            _ => {}
        }
    }
    // Deployed with what the file says, although it was not asked for.
    if let (Some(_), Some(live)) = (&member.because, &member.live)
        && live.settings_hash != member.settings_hash
    {
        said.push(format!("{name} goes along, and gets what the file says of it now"));
    }
    said
}

/// Steps in which a replica has more requests than it has when all of them run.
fn of_crowding(member: &Member) -> Vec<String> {
    let (name, all) = (&member.service.service, member.replicas);
    let steps = member.safety.steps.iter().enumerate().map(|(at, step)| (step.share, member.replicas_in(at)));
    let crowded = steps.filter(|(share, runs)| u64::from(*share) * u64::from(all) > u64::from(ALL) * u64::from(*runs));
    crowded
        .map(|(share, runs)| {
            format!(
                "{name}: {} of the requests go to {runs} of {all} replicas of the candidate in that step: each has more of them than when it is live",
                percent(share)
            )
        })
        .collect()
}

/// A proxy of which nobody knows has the address of a neighbour, and passes on what strangers ask.
fn of_preview(project: &Project, service: &Service) -> Option<String> {
    let networks = &service.teal.preview.as_ref()?.networks;
    let is_private = |network: &&String| {
        let address = network.split('/').next().and_then(|address| address.parse().ok());
        address.is_some_and(|address| is_trusted(&PRIVATE_RANGES.map(str::to_owned), address))
    };
    let private: Vec<&str> = networks.iter().filter(is_private).map(String::as_str).collect();
    (!private.is_empty() && project.trusted_proxies.is_empty()).then(|| {
        format!(
            "{}: whoever calls from {} may ask for its candidate. If a proxy there passes requests on, name it in `x-teal.trusted_proxies`, or everybody may",
            service.name,
            private.join(", ")
        )
    })
}

/// What nginx cannot do as the proxy does.
fn of_nginx(member: &Member, service: &Service) -> Vec<String> {
    let Some(nginx) = &member.nginx else { return Vec::new() };
    let name = &member.service.service;
    let mut words = Vec::new();
    let published: Vec<String> = service.ports.iter().map(|port| port.published.to_string()).collect();
    if !published.is_empty() {
        words.push(format!(
            "{name}: port {} is not opened on the host: clients come through {}, and each color has ports of its own",
            published.join(", "),
            nginx.process.words()
        ));
    }
    if member.is_recreate() {
        words.push(format!(
            "{name} is recreated, and nginx cannot hold requests: from the end of the live release until the candidate is ready it answers 502"
        ));
    }
    words
}

/// What the end of adopted containers brings, said before.
fn of_adoption(member: &Member) -> Vec<String> {
    let Some(adopted) = member.adopted() else { return Vec::new() };
    let name = &member.service.service;
    let ports: BTreeSet<u16> =
        member.taken_over().filter_map(|listener| listener.tcp()).map(|addr| addr.port()).collect();
    let ports: Vec<String> = ports.into_iter().map(|port| port.to_string()).collect();
    let mut words = Vec::new();
    let drain = member.drain_ms / 1000;
    match &adopted.gap {
        _ if ports.is_empty() => {}
        None => words.push(format!(
            "{name}: port {} is published by Docker for the adopted containers. New connections are led to Teal while they still run, so none is refused; \
             one that a client holds open stays with its container for up to {drain} s, and ends with it",
            ports.join(", ")
        )),
        Some(why) => {
            let until = match member.is_recreate() {
                true => "until the candidate is ready",
                false => "for as long as they take to stop and about 300 ms more",
            };
            words.push(format!(
                "{name}: port {} is published by Docker for the adopted containers, and new connections cannot be led to Teal before they are stopped ({why}): \
                 from then on connections are refused {until}",
                ports.join(", ")
            ));
        }
    }
    if member.naming.is_holder() && !member.is_recreate() {
        words.push(format!(
            "{name}: until the adopted containers are stopped, a call by its name may reach one of them"
        ));
    }
    words
}
