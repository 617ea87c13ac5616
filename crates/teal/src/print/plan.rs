//! A plan: what each service gets, and why.

use crate::print::words::{counted, setting, short_id, spoken};
use crate::print::{Paint, safety};
use teal_model::config::Strategy;
use teal_model::plan::{Batches, Member, Naming, Plan, PortPlan, Reach};
use teal_model::wire::ListenerKey;

pub fn text(plan: &Plan, paint: Paint) -> String {
    let mut text = match plan.members.len() {
        0 if !plan.orphans.is_empty() => format!("{}: nothing to deploy\n", paint.bold(&plan.project)),
        0 => format!("{}: nothing to do; what was asked for is live already.\n", paint.bold(&plan.project)),
        n => format!("{}: {}\n", paint.bold(&plan.project), deploys(n, plan.unchanged.len())),
    };
    for member in &plan.members {
        text.push('\n');
        text.push_str(&of_member(member, plan.unresolved.contains(&member.service.service), paint));
    }
    if !plan.unchanged.is_empty() {
        let unchanged: Vec<String> =
            plan.unchanged.iter().map(|one| format!("{} (release {})", one.service.service, one.release)).collect();
        let adopted: Vec<&str> =
            plan.unchanged.iter().filter(|one| one.adopted).map(|one| one.service.service.as_str()).collect();
        text.push_str(&format!("\nunchanged: {}\n", unchanged.join(", ")));
        if !adopted.is_empty() {
            text.push_str(&format!(
                "adopted, and going on as it was started (--force puts a release of Teal's own in its place): {}\n",
                adopted.join(", ")
            ));
        }
    }
    if !plan.orphans.is_empty() {
        let gone: Vec<String> =
            plan.orphans.iter().map(|one| format!("{} (release {})", one.service.service, one.release)).collect();
        text.push_str(&format!("\nremoved at the end, not in the file: {}\n", gone.join(", ")));
    }
    if !plan.warnings.is_empty() {
        text.push('\n');
        for warning in &plan.warnings {
            text.push_str(&format!("{} {warning}\n", paint.yellow("warning:")));
        }
    }
    text
}

fn deploys(changed: usize, unchanged: usize) -> String {
    let unchanged = if unchanged == 0 { String::new() } else { format!(", {unchanged} unchanged") };
    format!("{} to deploy{unchanged}", counted(changed as u64, "service"))
}

fn of_member(member: &Member, unresolved: bool, paint: Paint) -> String {
    let how = if member.job { "job" } else { strategy(member.strategy) };
    let mut text = format!("{}  {how}: {}\n", paint.bold(&member.service.service), member.why);
    let mut row =
        |name: &str, value: String| text.push_str(&format!("  {} {value}\n", paint.dim(&format!("{name:<8}"))));
    if let Some(because) = &member.because {
        row("because", because.clone());
    }
    let replicas = if member.replicas == 1 { String::new() } else { format!(", {} replicas", member.replicas) };
    row("release", format!("{} ({}){replicas}", releases(member), member.color));
    if let Some(batches) = &member.batches {
        row("batches", in_batches(batches, member.is_recreate()));
    }
    row("image", image(member, unresolved));
    let otherwise = if member.optional { "; if not, the others go on" } else { "" };
    row("ready", format!("{}, within {}{otherwise}", member.readiness, setting(member.deadline_ms)));
    let (published, inside): (Vec<&PortPlan>, Vec<&PortPlan>) =
        member.ports.iter().partition(|port| port.published.is_some());
    if !published.is_empty() {
        row("listens", ports(&published, &member.listeners));
    }
    let sockets: Vec<String> =
        member.listeners.iter().filter(|key| key.tcp().is_none()).map(ToString::to_string).collect();
    if !sockets.is_empty() {
        row("listens", sockets.join(", "));
    }
    if !inside.is_empty() {
        row("by name", ports(&inside, &member.listeners));
    }
    // A worker is called by nobody, so nothing can fail.
    if let Naming::Containers { .. } = &member.naming
        && !member.ports.is_empty()
        && !member.job
    {
        row("by name", "straight to its containers: a call may fail while it is recreated".to_owned());
    }
    if let Some(nginx) = &member.nginx {
        row(
            "clients",
            format!("through {}, upstream {} in {}", nginx.process.words(), nginx.upstream, nginx.process.file),
        );
    }
    if let Reach::Ports { why, .. } = &member.reach {
        row("reached", format!("at ports of this host that its containers keep, since {why}"));
    }
    if member.live.as_ref().is_some_and(|live| live.serves) {
        row("drain", format!("up to {}", setting(member.drain_ms)));
    }
    safety::rows(member).into_iter().for_each(|(name, value)| row(name, value));
    text
}

/// `2 at a time start, 10 s apart; the live ones stop at the end`.
fn in_batches(batches: &Batches, is_recreate: bool) -> String {
    let apart = match batches.delay_ms {
        0 => String::new(),
        delay => format!(", {} apart", setting(delay)),
    };
    match is_recreate {
        true => format!("{} at a time stop, and start as the new release{apart}", batches.size),
        false => format!("{} at a time start{apart}; the live ones stop at the end", batches.size),
    }
}

/// `80 -> 8080 HTTP (as release 3 does), 443 -> 8443 TCP, 9000 -> 9000 TCP (as the file says)`: a reason is told once.
fn ports(ports: &[&PortPlan], listeners: &[ListenerKey]) -> String {
    let mut text = String::new();
    for (at, port) in ports.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { ", " });
        if let Some(published) = port.published {
            text.push_str(&format!("{} -> ", addresses(published, listeners)));
        }
        text.push_str(&format!("{}{}", port.target, if port.udp { "/udp" } else { "" }));
        text.push_str(&port.protocol.map(|protocol| format!(" {}", spoken(protocol))).unwrap_or_default());
        if ports.get(at + 1).is_none_or(|next| next.why != port.why) {
            text.push_str(&format!(" ({})", port.why));
        }
    }
    text
}

/// `80` on every address, else `127.0.0.1:80`.
fn addresses(published: u16, listeners: &[ListenerKey]) -> String {
    let own = listeners.iter().filter_map(ListenerKey::tcp).filter(|addr| addr.port() == published);
    let own: Vec<String> = own.filter(|addr| !addr.ip().is_unspecified()).map(|addr| addr.to_string()).collect();
    if own.is_empty() { published.to_string() } else { own.join(" ") }
}

pub fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::BlueGreen => "blue-green",
        Strategy::Recreate => "recreate",
    }
}

/// `3 -> 4`, or that it is the first.
pub fn releases(member: &Member) -> String {
    match &member.live {
        Some(live) if live.adopted.is_some() => {
            format!("{} (adopted) -> {}", live.release.number, member.candidate.number)
        }
        Some(live) => format!("{} -> {}", live.release.number, member.candidate.number),
        None => format!("{}, the first", member.candidate.number),
    }
}

/// `web 3 <- 4, db 1 goes`: what would be left of it.
pub fn taken_back(plan: &Plan) -> String {
    let back = |member: &Member| {
        let (name, candidate) = (&member.service.service, member.candidate.number);
        match &member.live {
            Some(live) => format!("{name} {} <- {candidate}", live.release.number),
            None => format!("{name} {candidate} goes"),
        }
    };
    plan.members.iter().map(back).collect::<Vec<_>>().join(", ")
}

fn image(member: &Member, unresolved: bool) -> String {
    match &member.image_id {
        Some(id) => format!("{} ({})", member.image, short_id(id)),
        None if unresolved => {
            format!("{} (pulled first; its id and its own volumes are known then)", member.image)
        }
        None => member.image.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};
    use std::num::NonZeroU32;

    #[test]
    fn a_plan_says_what_each_service_gets_and_why() {
        golden("plan.txt", &text(&made_up::plan(), Paint::NONE));
    }

    #[test]
    fn a_plan_names_jobs_those_that_go_along_and_those_that_go_away() {
        let mut plan = made_up::plan();
        plan.members[0].job = true;
        plan.members[0].optional = true;
        plan.members[0].why = "it is a job: it runs once, and nobody calls it".to_owned();
        plan.members[0].readiness = "it has exited 0".to_owned();
        plan.members[1].because = Some("it depends on db with `restart: true`, which gets a new release".to_owned());
        plan.orphans = vec![plan.unchanged[0].clone()];
        plan.unchanged.clear();
        plan.warnings.clear();
        golden("plan-jobs.txt", &text(&plan, Paint::NONE));
        plan.members.clear();
        golden("plan-orphans.txt", &text(&plan, Paint::NONE));
    }

    #[test]
    fn a_plan_says_how_containers_are_reached_where_that_is_not_at_their_addresses() {
        let mut plan = made_up::plan();
        let why = "this Docker is rootless: its networks are in a namespace of its own".to_owned();
        plan.members[1].reach = Reach::Ports { why, only: true };
        golden("plan-ports.txt", &text(&plan, Paint::NONE));
    }

    #[test]
    fn a_plan_says_how_many_change_at_a_time() {
        let mut plan = made_up::plan();
        let worker = &mut plan.members[0];
        worker.replicas = 4;
        worker.batches = Some(Batches { size: NonZeroU32::new(2).unwrap(), delay_ms: 10_000 });
        assert!(
            text(&plan, Paint::NONE).contains("batches  2 at a time stop, and start as the new release, 10 s apart\n")
        );
        let worker = &mut plan.members[0];
        worker.strategy = Strategy::BlueGreen;
        worker.batches = worker.batches.map(|batches| Batches { delay_ms: 0, ..batches });
        assert!(text(&plan, Paint::NONE).contains("batches  2 at a time start; the live ones stop at the end\n"));
    }

    #[test]
    fn a_plan_without_changes_says_so() {
        let mut plan = made_up::plan();
        plan.members.clear();
        plan.warnings.clear();
        golden("plan-unchanged.txt", &text(&plan, Paint::NONE));
    }
}
