//! `teal-bench table nginx`: the figures of the last run side by side, as docs/nginx.md has them.

use crate::flip::Done;
use serde_json::Value;
use teal_e2e::figures::directory;

/// Of each setup: what the manual calls it.
const ROWS: [(&str, &str); 5] = [
    ("script", "script: rewrite, reload, stop at once"),
    ("script_wait", "script: rewrite, reload, wait, stop"),
    ("mode", "nginx mode: Teal rewrites and reloads"),
    ("behind", "Teal behind nginx"),
    ("edge", "Teal at the edge"),
];
const COLUMNS: [&str; 6] =
    ["failed", "bad_gateway", "extra_stall_ms", "failed_full", "bad_gateway_full", "extra_stall_ms_full"];

pub fn run() -> Done {
    let file = directory().join("nginx.json");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| format!("{}: {error}: run `make bench-nginx`", file.display()))?;
    let figures: Value = serde_json::from_str(&text)?;
    println!(
        "One run at commit `{}`, {} s, on {}.\n",
        words(&figures["commit"]),
        figures["seconds"],
        words(&figures["machine"])
    );
    println!(
        "| | `failed` | `bad_gateway` | `extra_stall_ms` | `failed_full` | `bad_gateway_full` | `extra_stall_ms_full` |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (setup, called) in ROWS {
        let cells = COLUMNS.map(|column| cell(&figures, &format!("nginx.{setup}.{column}")));
        if cells.iter().any(Option::is_some) {
            let cells = cells.map(|cell| cell.unwrap_or_else(|| "unknown".to_owned()));
            println!("| {called} (`nginx.{setup}`) | {} |", cells.join(" | "));
        }
    }
    Ok(())
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

fn cell(figures: &Value, id: &str) -> Option<String> {
    let figure = figures["results"].as_array()?.iter().find(|figure| figure["id"] == id)?;
    let value = (figure["value"].as_f64()? * 10.0).round() / 10.0;
    Some(format!("{value}"))
}
