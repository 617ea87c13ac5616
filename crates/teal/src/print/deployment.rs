//! One deployment in full: its receipt (or how far it is), what happened when, and why it failed.

use crate::print::words::date;
use crate::print::{Paint, fault, history, plan, receipt, steps};
use teal_model::api::{Detail, What};
use teal_model::receipt::Outcome;

pub fn text(detail: &Detail, paint: Paint) -> String {
    let summary = &detail.summary;
    let mut text = match &detail.receipt {
        Some(receipt) => receipt::text(receipt, paint),
        None => {
            let name = format!("Deployment {} of {}", summary.deployment, summary.project);
            let began = format!("by {}, {}\n", summary.who, date(summary.started_ms));
            format!(
                "{} is {}\n{began}\n{}",
                paint.cyan(&name),
                history::state(&summary.state),
                plan::text(&detail.plan, paint)
            )
        }
    };
    let mut steps = steps::Steps::new(Some(detail.plan.clone()), paint, true);
    let lines: Vec<String> = detail.notices.iter().flat_map(|notice| steps.lines(notice)).collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n{}\n", paint.bold("What happened")));
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    }
    if let Some(Outcome::Reverted { why: failure } | Outcome::Stuck { error: failure, .. }) =
        detail.receipt.as_ref().map(|receipt| &receipt.outcome)
    {
        // The log lines stand above already when the journal kept the failure itself.
        let told =
            detail.notices.iter().any(|notice| matches!(&notice.what, What::Failed { fault } if fault == failure));
        let failure = if told { failure.clone().detail(Vec::new()) } else { failure.clone() };
        text.push_str(&format!("\n{}", fault::text(&failure, paint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};

    #[test]
    fn a_deployment_is_shown_in_full() {
        golden("show.txt", &text(&made_up::detail(), Paint::NONE));
    }

    #[test]
    fn a_failed_deployment_shows_the_last_log_lines_once() {
        golden("show-reverted.txt", &text(&made_up::reverted(), Paint::NONE));
    }

    #[test]
    fn a_deployment_that_runs_shows_its_plan_and_how_far_it_is() {
        let mut detail = made_up::detail();
        detail.receipt = None;
        detail.summary.ended_ms = None;
        detail.summary.state = teal_model::deployment::State::Warming { member: 1, batch: 0 };
        detail.notices.truncate(6);
        golden("show-running.txt", &text(&detail, Paint::NONE));
    }
}
