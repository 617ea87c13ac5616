//! How a new release proves itself, and what becomes of the one before: the rows of a plan.

use crate::print::words::{counted, setting};
use teal_model::config::{CanaryStep, FailureAction, Pace, Retain, Rollback};
use teal_model::deployment::percent;
use teal_model::plan::Member;

/// In the order in which it happens: name and value.
pub fn rows(member: &Member) -> Vec<(&'static str, String)> {
    let safety = &member.safety;
    let live = member.live.as_ref().map_or(0, |live| live.release.number);
    let mut rows = Vec::new();
    if let Some(back) = &safety.back {
        rows.push((
            "rollback",
            match back.retained {
                true => format!("back to release {}, which is warm: a flip alone", back.to),
                false if member.is_again() => {
                    format!("release {} is started again, since what it follows goes back", back.to)
                }
                false => format!("made again from release {}", back.to),
            },
        ));
    }
    if let Some(migrate) = &safety.migrate {
        let command = migrate.command.join(" ");
        rows.push(("migrate", format!("`{command}`, once, within {}", setting(migrate.timeout_ms))));
    }
    if let Some(warm) = safety.retained.as_ref().filter(|warm| **warm != member.candidate) {
        rows.push(("warm", format!("release {} was kept warm, and goes before this one starts", warm.number)));
    }
    if safety.proves {
        rows.push(("proves", proofs(safety.warmup, safety.smoke)));
    }
    if safety.preview {
        rows.push(("preview", "by `Teal-Preview: candidate`, whatever its share".to_owned()));
    }
    if !safety.steps.is_empty() {
        rows.push(("canary", canary(&safety.steps, member.replicas)));
    }
    if member.bake_ms > 0 {
        rows.push(("bake", bake(member.bake_ms, &safety.rollback)));
    }
    if safety.compared > 0 {
        let kept = percent(safety.compared);
        rows.push((
            "keeps",
            format!("release {live} keeps {kept} through the bake: nobody knows yet how often it fails"),
        ));
    }
    if let Some(retain) = safety.retain {
        rows.push((
            "retain",
            match retain {
                Retain::For { ms } => format!("release {live} stays warm for {}", setting(ms)),
                Retain::UntilNext => format!("release {live} stays warm until the next deployment"),
            },
        ));
    }
    rows
}

/// `100 warm-up requests a replica, 2 smoke tests`
fn proofs(warmup: u32, smoke: u32) -> String {
    let warmup = (warmup > 0).then(|| format!("{} a replica", counted(u64::from(warmup), "warm-up request")));
    let smoke = (smoke > 0).then(|| counted(u64::from(smoke), "smoke test"));
    warmup.into_iter().chain(smoke).collect::<Vec<_>>().join(", ")
}

/// `1 % on 1 of 4 replicas for 2 min, 5 % on 2 until promoted, then all`
fn canary(steps: &[CanaryStep], replicas: u32) -> String {
    let mut said = false;
    let mut on = |step: &CanaryStep| match step.replicas {
        None => String::new(),
        Some(runs) if std::mem::replace(&mut said, true) => format!(" on {runs}"),
        Some(runs) => format!(" on {runs} of {}", counted(u64::from(replicas), "replica")),
    };
    let step = |step: &CanaryStep| {
        let pace = match step.pace {
            Pace::For { ms } => format!("for {}", setting(ms)),
            Pace::Manual => "until promoted".to_owned(),
        };
        format!("{}{} {pace}, ", percent(step.share), on(step))
    };
    steps.iter().map(step).collect::<String>() + "then all"
}

/// `5 min; taken back where it does worse; also asked: orders`
fn bake(ms: u64, rollback: &Rollback) -> String {
    let on = rollback.on;
    let judged = on.errors || on.latency || on.facts || on.history || !rollback.judges.is_empty();
    let action = match rollback.action {
        _ if !judged => "nothing takes it back by itself",
        FailureAction::Rollback => "taken back where it does worse",
        FailureAction::Pause => "stays as it is where it does worse, until promoted or aborted",
        FailureAction::Continue => "only a warning where it does worse",
    };
    let judges: Vec<&str> = rollback.judges.iter().map(|judge| judge.name.as_str()).collect();
    let judges = if judges.is_empty() { String::new() } else { format!("; also asked: {}", judges.join(", ")) };
    format!("{}; {action}{judges}", setting(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};
    use teal_model::config::{Judge, JudgeAsks, Migrate};
    use teal_model::plan::Back;

    fn told(member: &Member) -> String {
        rows(member).into_iter().map(|(name, value)| format!("{name:<8} {value}\n")).collect()
    }

    #[test]
    fn a_release_proves_itself_step_by_step() {
        let mut web = made_up::plan().members.remove(1);
        web.bake_ms = 300_000;
        web.safety.migrate =
            Some(Migrate { command: vec!["bin/rails".into(), "db:migrate".into()], timeout_ms: 600_000 });
        web.safety.retained = Some(made_up::release("web", 2));
        (web.safety.proves, web.safety.warmup, web.safety.smoke) = (true, 100, 2);
        web.safety.preview = true;
        let step = |share, pace| CanaryStep { share, pace, replicas: None };
        web.safety.steps = vec![step(100, Pace::For { ms: 120_000 }), step(1_250, Pace::Manual)];
        web.safety.compared = 500;
        web.safety.retain = Some(Retain::For { ms: 600_000 });
        let whole = told(&web);
        web.safety.retain = Some(Retain::UntilNext);
        web.safety.rollback.action = FailureAction::Pause;
        let asks = JudgeAsks::Command { command: vec!["./orders.sh".into()] };
        web.safety.rollback.judges =
            vec![Judge { name: "orders".into(), asks, every_ms: 10_000, timeout_ms: 10_000, failures: 1 }];
        web.replicas = 4;
        web.safety.steps[0].replicas = Some(1);
        web.safety.steps[1].replicas = Some(3);
        golden("plan-safety.txt", &format!("{whole}\n{}", told(&web)));
    }

    #[test]
    fn a_rollback_says_what_it_goes_back_to() {
        let mut web = made_up::plan().members.remove(1);
        web.safety.back = Some(Back { to: 2, retained: true });
        assert_eq!(told(&web), "rollback back to release 2, which is warm: a flip alone\n");
        web.safety.back = Some(Back { to: 2, retained: false });
        assert_eq!(told(&web), "rollback made again from release 2\n");
    }
}
