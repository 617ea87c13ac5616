//! A deployment as it goes: what happened, one line each, with the time since it began.

use crate::print::Paint;
use crate::print::plan::strategy;
use crate::print::words::{ms, printable, us};
use teal_model::api::{Notice, What};
use teal_model::plan::Plan;

/// Where lines stay (a file, CI), progress is told this often; on a terminal it is redrawn in place.
const PROGRESS_EVERY_MS: u64 = 10_000;

#[derive(Debug)]
pub struct Steps {
    plan: Option<Plan>,
    paint: Paint,
    live: bool,
    number: u32,
    started_ms: Option<u64>,
    told_ms: u64,
    now: String,
}

impl Steps {
    pub fn new(plan: Option<Plan>, paint: Paint, live: bool) -> Self {
        Self { plan, paint, live, number: 0, started_ms: None, told_ms: 0, now: String::new() }
    }

    /// What goes on at the moment, for the line that is redrawn.
    pub fn now(&self) -> &str {
        &self.now
    }

    pub fn started_ms(&self) -> Option<u64> {
        self.started_ms
    }

    /// The lines of one notice; none for what is shown in place only.
    pub fn lines(&mut self, notice: &Notice) -> Vec<String> {
        let since = notice.at_ms.saturating_sub(*self.started_ms.get_or_insert(notice.at_ms));
        let told_ms = self.told_ms;
        let texts = self.texts(notice, since.saturating_sub(told_ms) >= PROGRESS_EVERY_MS);
        if !texts.is_empty() {
            self.told_ms = since;
        }
        let time = self.paint.dim(&format!("{:>6}.{} s", since / 1_000, since % 1_000 / 100));
        texts.into_iter().map(|text| format!("{time}  {text}")).collect()
    }

    fn begin(&mut self, step: &str) -> String {
        self.now = step.to_owned();
        self.number += 1;
        format!("{} {}", self.paint.cyan(&format!("{}.", self.number)), self.paint.bold(step))
    }

    fn texts(&mut self, notice: &Notice, progress_is_due: bool) -> Vec<String> {
        let paint = self.paint;
        match &notice.what {
            // Nothing to bake, nothing to drain.
            What::Entered { step, .. } if step.ends_with(": nothing to do") => Vec::new(),
            What::Entered { state, step } => {
                let step = if step.is_empty() { state.name() } else { step };
                match state.has_ended() {
                    true => vec![paint.bold(step)],
                    false => vec![self.begin(step)],
                }
            }
            What::Doing { words } => {
                self.now.clone_from(words);
                Vec::new()
            }
            What::Did { words, ms: took, published } => {
                let took = if *took == 0 { String::new() } else { format!(" ({})", ms(*took)) };
                let published = published.map_or_else(String::new, |published| {
                    let took = us(published.acknowledged_us.saturating_sub(published.sent_us));
                    format!("; every worker took table {} within {took}", published.table)
                });
                vec![format!("   {words}{took}{published}")]
            }
            What::Progress { words } => {
                let tell = !self.live && progress_is_due;
                self.now = printable(words);
                if tell { vec![format!("   {}", self.now)] } else { Vec::new() }
            }
            What::Planned { plan, step } => {
                let mut lines = changes(self.plan.as_ref(), plan);
                self.plan = Some((**plan).clone());
                lines.extend((!step.is_empty()).then(|| self.begin(step)));
                lines
            }
            What::Failed { fault } => {
                let mut lines = vec![format!("   {} {}", paint.red("failed:"), printable(&fault.what))];
                lines.extend(fault.detail.iter().map(|line| format!("     {}", printable(line))));
                lines
            }
            What::Warning { words } => vec![format!("   {} {}", paint.yellow("note:"), printable(words))],
            What::Ended { .. } => Vec::new(),
        }
    }
}

/// What the pulled images changed of the plan that was shown.
fn changes(before: Option<&Plan>, after: &Plan) -> Vec<String> {
    let Some(before) = before else { return Vec::new() };
    let mut lines = Vec::new();
    for member in &after.members {
        let name = &member.service.service;
        let earlier = before.members.iter().find(|one| one.service == member.service);
        if earlier.is_some_and(|earlier| earlier.strategy != member.strategy) {
            lines.push(format!("   {name}: {}, since {}", strategy(member.strategy), member.why));
        }
    }
    for unchanged in &after.unchanged {
        if before.members.iter().any(|member| member.service == unchanged.service) {
            lines.push(format!(
                "   {}: release {} has this image already",
                unchanged.service.service, unchanged.release
            ));
        }
    }
    lines.extend(
        after
            .warnings
            .iter()
            .filter(|warning| !before.warnings.contains(warning))
            .map(|warning| format!("   warning: {warning}")),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};
    use teal_model::deployment::{Phase, State};
    use teal_model::fault::{Code, Fault};

    fn told(notices: &[Notice], live: bool) -> String {
        let mut steps = Steps::new(Some(made_up::plan()), Paint::NONE, live);
        notices.iter().flat_map(|notice| steps.lines(notice)).map(|line| line + "\n").collect()
    }

    #[test]
    fn a_deployment_is_told_line_by_line() {
        golden("steps.txt", &told(&made_up::notices(), false));
    }

    #[test]
    fn progress_is_told_now_and_then_in_a_file_and_in_place_on_a_terminal() {
        let progress = |seconds: u64| {
            made_up::notice(seconds, seconds * 1_000, What::Progress { words: format!("{seconds} MB of 40 MB") })
        };
        let notices: Vec<Notice> = (0..25).map(progress).collect();
        assert_eq!(told(&notices, false).lines().count(), 2);
        assert_eq!(told(&notices, true), "");
        let mut steps = Steps::new(None, Paint::NONE, true);
        notices.iter().for_each(|notice| drop(steps.lines(notice)));
        assert_eq!(steps.now(), "24 MB of 40 MB");
    }

    #[test]
    fn a_revert_is_told_phase_by_phase() {
        let why = Fault::new(Code::NeverReady, "shop/web@4 was not ready within 180 s")
            .detail(vec!["last probe: 503".to_owned()]);
        let phases = [
            (Phase::Back, "revert"),
            (Phase::Drain, "revert: let the candidates finish"),
            (Phase::Clean, "revert: remove the candidates"),
        ];
        let mut notices = vec![made_up::notice(1, 0, What::Failed { fault: why.clone() })];
        for (i, (phase, step)) in phases.into_iter().enumerate() {
            let state =
                State::Reverting { why: why.clone(), from: Box::new(State::Warming { member: 1, batch: 0 }), phase };
            notices.push(made_up::notice(i as u64 + 2, 100 * i as u64, What::Entered { state, step: step.to_owned() }));
        }
        notices.push(made_up::notice(9, 900, What::Entered { state: State::Reverted { why }, step: String::new() }));
        golden("steps-revert.txt", &told(&notices, false));
    }

    #[test]
    fn what_the_pull_changed_of_the_plan_is_told() {
        let mut plan = made_up::plan();
        plan.members[1].strategy = teal_model::config::Strategy::Recreate;
        plan.members[1].why = "its image has a volume of its own at /data".to_owned();
        let notice =
            made_up::notice(1, 0, What::Planned { plan: Box::new(plan), step: "migrate for shop/web@4".into() });
        assert_eq!(
            told(&[notice], false),
            "     0.0 s     web: recreate, since its image has a volume of its own at /data\n     0.0 s  1. migrate for shop/web@4\n"
        );
    }
}
