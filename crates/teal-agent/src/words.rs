//! A deployment in words: its steps as they are shown, and the lines of its receipt.

use std::time::Duration;
use teal_model::api::{Notice, What};
use teal_model::deployment::{Action, Deployment, Growth, Phase, Published, State, percent};
use teal_model::plan::Member;
use teal_model::receipt::{ReleaseLine, StepTime};

/// Steps of which nobody is told.
const NO_BAKE: &str = "bake: nothing to do";
const NO_DRAIN: &str = "drain: nothing to do";
const NO_DELAY: &str = "delay: nothing to do";
const PREPARE: &str = "prepare networks and holders";

/// For people: what the deployment does in this state.
pub fn step_words(deployment: &Deployment, state: &State) -> String {
    let members = &deployment.plan.members;
    let of = |member: &usize| {
        members.get(*member).map_or_else(String::new, |member| {
            let replicas = match member.replicas_in(0) {
                all if all == member.replicas => plural(all, "replica"),
                first => format!("{first} of {}", plural(member.replicas, "replica")),
            };
            format!("{} ({}, {replicas})", member.candidate, member.color)
        })
    };
    let grown = |step: usize| {
        let grows = members.iter().filter(|member| member.safety.steps.iter().any(|step| step.replicas.is_some()));
        let grown = |member: &Member| {
            format!("{} of {} of {}", member.replicas_in(step), plural(member.replicas, "replica"), member.candidate)
        };
        grows.map(grown).collect::<Vec<_>>().join(", ")
    };
    let live = |member: &usize| {
        members
            .get(*member)
            .and_then(|member| member.live.as_ref())
            .map_or_else(String::new, |live| live.release.to_string())
    };
    let nth = |member: &usize, batch: &u32| match members.get(*member).map_or(1, Member::batch_count) {
        1 => String::new(),
        count => format!(", batch {} of {count}", batch + 1),
    };
    let delay = |member: &usize| members.get(*member)?.batches.map(|batches| batches.delay_ms).filter(|ms| *ms > 0);
    let candidates = || {
        members
            .iter()
            .filter(|member| !member.takes_its_turn())
            .map(|member| member.candidate.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let retiring = || {
        members
            .iter()
            .filter_map(|member| member.live.as_ref())
            .map(|live| live.release.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let job = |member: &usize| members.get(*member).is_some_and(|member| member.job);
    let behind = |member: &usize| members.get(*member).is_some_and(|member| member.nginx.is_some());
    let all_behind = || members.iter().filter(|member| !member.takes_its_turn()).all(|member| member.nginx.is_some());
    match state {
        State::Releasing { member } if behind(member) => format!("switch nginx to {}", of(member)),
        State::Shifting { .. } if all_behind() => format!("switch nginx to {}", candidates()),
        State::Holding { member } if behind(member) => format!("nginx answers 502; let {} finish", live(member)),
        // As a team with a script for it knows them.
        State::Pulling if members.iter().all(|member| member.nginx.is_some()) => "pull images, choose ports".to_owned(),
        State::Starting { member, .. } if behind(member) => format!("run {}", of(member)),
        State::Warming { member, .. } if behind(member) => format!("health check of {}", of(member)),
        State::Retiring if all_behind() && !retiring().is_empty() => format!("stop and remove {}", retiring()),
        State::Planned => "plan".to_owned(),
        State::Pulling => "pull images".to_owned(),
        State::Migrating { member, .. } => format!("migrate for {}", of(member)),
        State::Holding { member } => format!("hold requests, let {} finish", live(member)),
        State::Stopping { member, batch } => format!("stop {}{}", live(member), nth(member, batch)),
        State::Warming { member, .. } if job(member) => format!("wait until {} has exited 0", of(member)),
        State::Releasing { member } if job(member) => format!("{} is done", of(member)),
        State::Starting { member, batch } => format!("start {}{}", of(member), nth(member, batch)),
        State::Warming { member, batch } => format!("wait until {} is ready{}", of(member), nth(member, batch)),
        State::Delaying { member, .. } => match delay(member) {
            Some(ms) => format!("wait {:?} before the next batch", Duration::from_millis(ms)),
            None => NO_DELAY.to_owned(),
        },
        State::Releasing { member } => format!("send held requests to {}", of(member)),
        State::Proving { member: Some(member) } => format!("warm up and test {}", of(member)),
        State::Proving { member: None } => format!("warm up and test {}", candidates()),
        State::Shifting { step } if *step < deployment.last_step() => {
            format!("{} of the requests to {}", share_of(deployment, *step), candidates())
        }
        State::Stepping { step } => format!("watch {} at {}", candidates(), share_of(deployment, *step)),
        State::Growing { step, part, .. } => {
            let grown = grown(*step);
            match part {
                Growth::Starting => format!("start {grown}"),
                Growth::Warming => format!("wait until {grown} are ready"),
                Growth::Proving => format!("warm up and test {grown}"),
            }
        }
        State::Shifting { .. } => format!("flip to {}", candidates()),
        State::Baking if members.iter().all(|member| member.bake_ms == 0) => NO_BAKE.to_owned(),
        State::Baking => "bake".to_owned(),
        State::Draining { closing: false } => match retiring() {
            none if none.is_empty() => NO_DRAIN.to_owned(),
            some => format!("drain {some}"),
        },
        State::Draining { closing: true } => "the drain time is over: close what is left".to_owned(),
        State::Retiring => match retiring() {
            none if none.is_empty() => "finish".to_owned(),
            some => format!("retire {some}"),
        },
        State::Done => "done".to_owned(),
        State::Reverting { phase, .. } => match phase {
            Phase::Back => "revert".to_owned(),
            Phase::Hold { member } => format!("revert: hold requests, let {} finish", of(member)),
            Phase::Swap { member } => format!("revert: start {} again", live(member)),
            Phase::Release { member } => format!("revert: send held requests to {}", live(member)),
            Phase::Drain => "revert: let the candidates finish".to_owned(),
            Phase::Clean => "revert: remove the candidates".to_owned(),
        },
        State::Reverted { .. } => "reverted".to_owned(),
        State::Stuck { .. } => "stuck".to_owned(),
    }
}

/// The share of those that go by steps.
fn share_of(deployment: &Deployment, step: usize) -> String {
    let steps = deployment.plan.members.iter().filter_map(|member| member.safety.steps.get(step));
    steps.map(|step| percent(step.share)).next().unwrap_or_default()
}

fn plural(n: u32, word: &str) -> String {
    if n == 1 { format!("{n} {word}") } else { format!("{n} {word}s") }
}

/// What the deployment brought, a line a service.
pub fn release_lines(deployment: &Deployment) -> Vec<ReleaseLine> {
    let lines = deployment.plan.members.iter().map(|member| ReleaseLine {
        service: member.service.service.clone(),
        from: member.live.as_ref().map(|live| live.release.number),
        to: member.candidate.number,
        back: member.safety.back.map(|back| back.to),
        color: member.color.to_string(),
        strategy: match (member.job, member.is_recreate()) {
            (true, _) => "job",
            (false, true) => "recreate",
            (false, false) => "blue-green",
        }
        .to_owned(),
        image: member.image.clone(),
        image_id: member.image_id.clone().unwrap_or_default(),
        repo_digests: member.repo_digests.clone(),
        replicas: member.replicas,
    });
    lines.collect()
}

/// How long each state lasted, from the journal's own times. What prepares the ground for containers, member by member, is
/// told once, for all of them.
pub fn steps(notices: &[Notice], started_ms: u64, ended_ms: u64) -> Vec<StepTime> {
    let mut steps: Vec<StepTime> = Vec::new();
    let mut began = started_ms;
    let mut current = ("plan".to_owned(), None::<Published>);
    let preparing = Action::EnsureNetwork.words();
    let mut prepared = None::<(usize, u64)>;
    let close = |steps: &mut Vec<StepTime>, (step, published): (String, Option<Published>), from: u64, to: u64| {
        let acknowledged_in_us = published.map(|published| published.acknowledged_us.saturating_sub(published.sent_us));
        steps.push(StepTime {
            step,
            ms: to.saturating_sub(from),
            table: published.map(|published| published.table),
            acknowledged_in_us,
        });
    };
    for notice in notices {
        match &notice.what {
            What::Entered { step, .. } | What::Planned { step, .. } if !step.is_empty() => {
                close(&mut steps, std::mem::replace(&mut current, (step.clone(), None)), began, notice.at_ms);
                began = notice.at_ms;
            }
            What::Failed { .. } => {
                close(&mut steps, std::mem::replace(&mut current, ("revert".to_owned(), None)), began, notice.at_ms);
                began = notice.at_ms;
            }
            What::Did { words, ms, .. } if *words == preparing => {
                prepared.get_or_insert((steps.len(), 0)).1 += ms;
                began += ms;
            }
            What::Did { published: Some(published), .. } => current.1 = Some(*published),
            _ => {}
        }
    }
    close(&mut steps, current, began, ended_ms);
    if let Some((at, ms)) = prepared {
        steps.insert(at, StepTime { step: PREPARE.to_owned(), ms, table: None, acknowledged_in_us: None });
    }
    steps.retain(|step| !matches!(step.step.as_str(), "done" | "reverted" | NO_BAKE | NO_DRAIN | NO_DELAY));
    steps
}
