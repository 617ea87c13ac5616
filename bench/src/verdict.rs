//! `make bench-verdict`: simulated bakes under the watch that the agent runs, with the limits of docs/verdict.md.

use crate::flip::Done;
use std::time::Instant;
use teal_bakes::{Limit, Measured, ROWS, Size};
use teal_e2e::figures::{Better, Figures};

/// A look at all rows in some seconds.
const SHORT: Size = Size { healthy: 1_600, troubled: 120, bad: 200 };

pub fn run(arguments: &[String]) -> Done {
    let short = arguments.iter().any(|argument| argument == "--short");
    let size = if short { SHORT } else { Size::FULL };
    let parts: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).collect();
    let mut figures = Figures::start("verdict");
    for row in ROWS.iter().filter(|row| parts.is_empty() || parts.contains(&row.name)) {
        let began = Instant::now();
        for measured in (row.measure)(size) {
            add(&mut figures, &measured);
            if row.ours {
                figures.is_an_aim();
            }
        }
        eprintln!("bench-verdict: {} took {:.0} s", row.name, began.elapsed().as_secs_f64());
    }
    Ok(figures.finish(&mut std::io::stdout())?)
}

fn add(figures: &mut Figures, measured: &Measured) {
    let Measured { id, value, unit, limit, detail } = measured;
    match limit {
        Limit::AtMost(limit) => figures.at_most(id, *value, unit, *limit, detail),
        Limit::AtLeast(limit) => figures.at_least(id, *value, unit, *limit, detail),
        Limit::None => figures.note(id, *value, unit, Better::Lower, detail),
    }
}
