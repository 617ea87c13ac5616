//! The manual's tables are the tables that the reader works by.

use crate::common::web;
use crate::problems::golden;
use std::fmt::Write as _;
use std::path::Path;
use teal_model::config::Rollback;
use teal_model::config::keys::{LEVELS, Level, Standing};

fn table(level: &Level) -> String {
    let mut out = String::new();
    let mut section = |title: &str, rows: Vec<(&str, &str)>| {
        if !rows.is_empty() {
            write!(out, "\n| key | {title} |\n|---|---|\n").unwrap();
            for (name, text) in rows {
                writeln!(out, "| `{name}` | {} |", text.replace('|', "\\|")).unwrap();
            }
        }
    };
    let rows = |want: fn(&Standing) -> Option<&'static str>| {
        level.keys.iter().filter_map(|key| Some((key.name, want(&key.standing)?))).collect::<Vec<_>>()
    };
    section("honoured", rows(|s| if let Standing::Honoured(text) = s { Some(text) } else { None }));
    section("without effect", rows(|s| if let Standing::Accepted { why, .. } = s { Some(why) } else { None }));
    section("refused: what to do instead", rows(|s| if let Standing::Refused(text) = s { Some(text) } else { None }));
    section("not built yet", rows(|s| if let Standing::NotBuilt(text) = s { Some(text) } else { None }));
    out.push('\n');
    out
}

#[test]
fn the_manual_names_every_key_and_what_becomes_of_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for level in LEVELS {
        let open = format!("<!-- keys: {} -->\n", level.name);
        let start = text.find(&open).unwrap_or_else(|| panic!("no `{}` in the manual", open.trim())) + open.len();
        let end = start + text[start..].find("<!-- end -->").unwrap_or_else(|| panic!("`{open}` has no end"));
        text.replace_range(start..end, &table(level));
    }
    golden(&path, &text);
}

#[test]
fn the_settings_of_the_verdict_are_written_as_its_manual_says_and_are_what_it_says() {
    let manual = include_str!("../../../../docs/verdict.md");
    let chapter = manual.split("\n## Settings\n").nth(1).expect("the chapter");
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows = chapter.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| row.split('|').skip(1).take(2).map(cell).collect::<Vec<_>>());
    let settings: Vec<String> = rows.map(|row| format!("{}: {}", row[0], row[1])).collect();
    assert!(settings.len() >= 7, "{settings:?}");
    // A key that there is not is a problem, and `web` has none.
    let written = web(&format!("x-teal: {{rollback: {{{}}}}}", settings.join(", "))).teal.rollback;
    assert_eq!(written, Rollback::default(), "{settings:?}");
}

#[test]
fn what_the_manual_of_the_verdict_says_to_write_is_read() {
    let manual = include_str!("../../../../docs/verdict.md");
    let written: Vec<&str> = manual.split('`').skip(1).step_by(2).filter(|code| code.starts_with("on: ")).collect();
    assert!(!written.is_empty());
    for on in written {
        assert_ne!(web(&format!("x-teal: {{rollback: {{{on}}}}}")).teal.rollback.on, Rollback::default().on, "{on}");
    }
}
