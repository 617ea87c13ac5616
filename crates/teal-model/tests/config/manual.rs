//! The manual's tables are the tables that the reader works by.

use crate::problems::golden;
use std::fmt::Write as _;
use std::path::Path;
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
