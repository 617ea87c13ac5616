//! Deployments whose candidates share the requests with the live releases, for `teal status`.

use crate::agent::Agent;
use crate::journal::Kept;
use teal_model::api::{Shared, Watched};
use teal_model::config::Pace;
use teal_model::deployment::{Deployment, State};
use teal_model::plan::Member;

pub fn watched(agent: &Agent, kept: &Kept) -> Option<Watched> {
    let deployment = &kept.deployment;
    if !deployment.state.is_watched() {
        return None;
    }
    let judged = agent.handle(deployment.number).map(|handle| handle.judged.borrow().clone()).unwrap_or_default();
    let steps = matches!(deployment.state, State::Stepping { .. });
    let from_ms = if steps { deployment.entered_ms.max(judged.watched_from_ms) } else { deployment.entered_ms };
    let flips = deployment.plan.members.iter().filter(|member| !member.takes_its_turn());
    let shared = |member: &Member| Shared {
        candidate: member.candidate.clone(),
        share: deployment.share(member),
        replicas: deployment.fit(member),
        of: member.replicas,
        grows_to: match deployment.state {
            State::Growing { step, .. } => Some(member.replicas_in(step)),
            _ => None,
        },
    };
    Some(Watched {
        deployment: deployment.number,
        shares: flips.map(shared).collect(),
        since_ms: deployment.entered_ms,
        until_ms: lasts_ms(deployment).map(|ms| from_ms + ms),
        turned_down: deployment.cap.is_some(),
        frozen: deployment.frozen.clone(),
        held: judged.held,
        notes: deployment.notes.clone(),
    })
}

/// None: until somebody says so.
fn lasts_ms(deployment: &Deployment) -> Option<u64> {
    let members = &deployment.plan.members;
    if deployment.frozen.is_some() {
        return None;
    }
    let step = match &deployment.state {
        State::Stepping { step } => step,
        // They are waited for, however long they take.
        State::Growing { .. } => return None,
        _ => return members.iter().map(|member| member.bake_ms).max(),
    };
    let paces = members.iter().filter_map(|member| Some(member.safety.steps.get(*step)?.pace));
    let paces = paces.map(|pace| match pace {
        Pace::For { ms } => Some(ms),
        Pace::Manual => None,
    });
    paces.collect::<Option<Vec<u64>>>()?.into_iter().max()
}
