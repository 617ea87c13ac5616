//! Deployments, newest first.

use crate::print::Paint;
use crate::print::words::{date, ms, table};
use teal_model::api::Summary;
use teal_model::deployment::State;

/// `of_all`: of several projects, so that each line names its own.
pub fn text(summaries: &[Summary], of_all: bool, paint: Paint) -> String {
    if summaries.is_empty() {
        return "no deployment yet\n".to_owned();
    }
    let mut rows = vec![["NUMBER", "STARTED", "TOOK", "STATE", "RELEASES", "BY"].map(str::to_owned).to_vec()];
    for summary in summaries {
        rows.push(vec![
            summary.deployment.to_string(),
            date(summary.started_ms),
            summary.ended_ms.map_or_else(|| "-".to_owned(), |ended| ms(ended.saturating_sub(summary.started_ms))),
            state(&summary.state),
            if summary.releases.is_empty() { summary.services.join(", ") } else { summary.releases.join(", ") },
            summary.who.clone(),
        ]);
    }
    if of_all {
        let names = ["PROJECT"].into_iter().chain(summaries.iter().map(|summary| summary.project.as_str()));
        rows.iter_mut().zip(names).for_each(|(row, name)| row.insert(1, name.to_owned()));
    }
    table(&rows, paint)
}

/// The state, with its cause where it has one.
pub fn state(state: &State) -> String {
    match state {
        State::Reverting { why, .. } | State::Reverted { why } => format!("{} ({})", state.name(), why.code),
        State::Stuck { error, .. } => format!("{} ({})", state.name(), error.code),
        _ => state.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};

    #[test]
    fn history_is_one_line_a_deployment() {
        golden("history.txt", &text(&made_up::history(), false, Paint::NONE));
        golden("history-all.txt", &text(&made_up::history(), true, Paint::NONE));
        assert_eq!(text(&[], false, Paint::NONE), "no deployment yet\n");
    }
}
