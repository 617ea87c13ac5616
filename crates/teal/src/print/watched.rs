//! A canary's step or a bake that goes on: who has which share, for how long, and what can be said to it.

use crate::print::Paint;
use crate::print::words::{for_how_long, printable};
use teal_model::api::{Shared, Watched};
use teal_model::deployment::{State, percent};
use teal_model::plan::ALL;

pub fn text(watched: &Watched, state: &State, now_ms: u64, paint: Paint) -> String {
    let mut text = String::new();
    for shared in &watched.shares {
        let share = if shared.share == ALL { "all".to_owned() } else { percent(shared.share) + " of the" };
        let share = paint.bold(&format!("{share} requests"));
        let down = if watched.turned_down { ", turned down" } else { "" };
        let since = for_how_long(now_ms.saturating_sub(watched.since_ms));
        let runs = if shared.replicas < shared.of {
            format!(" on {} of {} replicas", shared.replicas, shared.of)
        } else {
            String::new()
        };
        text.push_str(&format!("  {} has {share}{runs}{down}, for {since}\n", shared.candidate));
    }
    text.push_str(&format!("  {}\n", next(watched, state, now_ms)));
    let notes = watched.notes.iter().filter(|note| Some(*note) != watched.frozen.as_ref());
    notes.for_each(|note| text.push_str(&format!("  - {}\n", printable(note))));
    let promote = match state {
        State::Baking => "makes it live now",
        State::Growing { .. } => "takes it then in any case",
        _ => "takes the next step now",
    };
    text.push_str(
        &paint
            .dim(&format!("  `teal promote` {promote}, `teal freeze` leaves it as it is, `teal abort` takes it back")),
    );
    text + "\n"
}

fn next(watched: &Watched, state: &State, now_ms: u64) -> String {
    let bakes = *state == State::Baking;
    if let Some(why) = &watched.frozen {
        return format!("it stays so: {}", printable(why));
    }
    if matches!(state, State::Growing { .. }) {
        return format!("next step when {} are fit for it", grown(&watched.shares));
    }
    let Some(until) = watched.until_ms else { return "it stays so until it is promoted".to_owned() };
    let over = until <= now_ms;
    match &watched.held {
        Some(why) if bakes && over => format!("the bake is over, and goes on: {}", printable(why)),
        Some(why) if over => format!("the step is over, and the next one waits: {}", printable(why)),
        Some(why) => format!("it goes no further: {}", printable(why)),
        None if bakes && over => "the bake is over, and goes on: too little was seen to judge it by".to_owned(),
        None if over => "the step is over; the next one waits until it does well".to_owned(),
        None if bakes => format!("live in {}, unless it does worse", for_how_long(until - now_ms)),
        None => format!("next step in {}", for_how_long(until - now_ms)),
    }
}

/// `3 of 4 replicas of shop/web@8`
fn grown(shares: &[Shared]) -> String {
    let grows = shares.iter().filter_map(|shared| Some((shared, shared.grows_to.filter(|to| *to > shared.replicas)?)));
    let words = grows.map(|(shared, to)| format!("{to} of {} replicas of {}", shared.of, shared.candidate));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{golden, made_up};
    use teal_model::deployment::Growth;

    #[test]
    fn a_canary_and_a_bake_say_how_far_they_are() {
        let canary = Watched {
            deployment: 13,
            shares: vec![Shared {
                candidate: made_up::release("web", 4),
                share: 1_250,
                replicas: 2,
                of: 2,
                grows_to: None,
            }],
            since_ms: made_up::NOW_MS - 65_000,
            until_ms: Some(made_up::NOW_MS + 55_000),
            turned_down: false,
            frozen: None,
            held: None,
            notes: Vec::new(),
        };
        let failed = "green failed 3 of 120 requests, blue 0 of 11,880";
        let down = Watched {
            turned_down: true,
            until_ms: Some(made_up::NOW_MS - 1),
            held: Some(format!("the share of web is turned down until it does well for a while ({failed})")),
            notes: vec![format!("turned down: {failed}")],
            ..canary.clone()
        };
        let early = Watched { until_ms: canary.until_ms, ..down.clone() };
        let frozen = "frozen by bo@web1".to_owned();
        let frozen = Watched { frozen: Some(frozen.clone()), until_ms: None, notes: vec![frozen], ..canary.clone() };
        let manual = Watched { until_ms: None, ..canary.clone() };
        let step = State::Stepping { step: 0 };
        let mut told: Vec<String> =
            [&canary, &down, &early, &frozen, &manual].map(|one| text(one, &step, made_up::NOW_MS, Paint::NONE)).into();
        let few = Shared { replicas: 1, of: 4, ..canary.shares[0].clone() };
        let step_of_few = Watched { shares: vec![few.clone()], ..canary.clone() };
        told.push(text(&step_of_few, &step, made_up::NOW_MS, Paint::NONE));
        let grows = Watched { shares: vec![Shared { grows_to: Some(3), ..few }], until_ms: None, ..canary.clone() };
        let growing = State::Growing { from: 0, step: 1, part: Growth::Warming, promoted: false };
        told.push(text(&grows, &growing, made_up::NOW_MS, Paint::NONE));
        let bake = Watched { shares: vec![Shared { share: ALL, ..canary.shares[0].clone() }], ..canary };
        let over = Watched { until_ms: Some(made_up::NOW_MS), ..bake.clone() };
        told.extend([&bake, &over].map(|one| text(one, &State::Baking, made_up::NOW_MS, Paint::NONE)));
        golden("watched.txt", &told.join("\n"));
    }
}
