//! A service's environment: its files first, then what the compose file says, then the names that the caller's own
//! environment fills. All of it may be secret, so no value reaches a problem.

use super::dotenv::{self, Dotenv};
use super::keys;
use super::parse::Context;
use super::problem::Report;
use super::read::Item;
use super::yaml::Mark;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub(super) fn read(
    files: Option<Item<'_>>,
    environment: Option<Item<'_>>,
    context: &Context<'_>,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for item in files.and_then(|files| files.one_or_list()).unwrap_or_default() {
        read_file(&item, context, &mut out);
    }
    for (name, (value, item)) in environment.and_then(|item| item.pairs()).unwrap_or_default() {
        if value.as_ref().is_some_and(|value| value.contains('\0')) || name.contains('\0') {
            item.problem("holds a NUL character", "No process can be given one.");
            continue;
        }
        match value.or_else(|| context.variables(item.mark()).get(&name).cloned()) {
            Some(value) => out.insert(name, value),
            // Named without a value, and nobody set it: it is not there, whatever a file said.
            None => out.remove(&name),
        };
    }
    out
}

fn read_file(item: &Item<'_>, context: &Context<'_>, out: &mut BTreeMap<String, String>) {
    let mut required = true;
    let mut raw = false;
    let path = if item.is_map() {
        let Some(map) = item.map(&keys::ENV_FILE) else { return };
        required = map.take("required").and_then(|v| v.boolean()).unwrap_or(true);
        raw = map.take("format").and_then(|format| format.choice(&[("raw", true)])).unwrap_or(false);
        let path = map.take("path");
        if path.is_none() {
            item.problem("`path` is missing", "");
        }
        map.finish();
        path
    } else {
        Some(item.clone())
    };
    let Some((item, name)) = path.and_then(|path| path.word().map(|name| (path.clone(), name))) else { return };
    if !context.enabled {
        // Nothing is asked of a service that waits for its profile.
        return;
    }
    let text = match (context.sources.read)(&context.directory(item.mark()).join(Path::new(name))) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            item.problem("the file does not exist", "Create it, or write `{path: ..., required: false}`.");
            return;
        }
        Err(error) => {
            item.problem(format!("the file cannot be read: {}", error.kind()), "");
            return;
        }
    };
    let variables = context.variables(item.mark());
    // What earlier files set is known to later ones, below the caller's own environment.
    let known = |name: &str| variables.get(name).or_else(|| out.get(name)).cloned();
    let file = if raw { dotenv::parse_raw(&text, &known) } else { dotenv::parse(&text, &known) };
    tell(&file, name, context.report);
    out.extend(file.values);
}

/// `label_file`: lines `name=value`, later files win.
pub(super) fn read_label_files(item: &Item<'_>, context: &Context<'_>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for item in item.one_or_list().unwrap_or_default() {
        read_file(&item, context, &mut out);
    }
    out
}

/// Reports the faults of a dotenv file at its own lines.
pub(super) fn tell(file: &Dotenv, name: &str, report: &Report) {
    for fault in &file.faults {
        let mark = Mark { file: 0, line: fault.line, column: 1 };
        report.problem_in(name, mark, &fault.name, fault.what.clone(), None);
    }
    for (line, variable) in &file.unset {
        report.unset_variable(Some(name), Mark { file: 0, line: *line, column: 1 }, "", variable);
    }
}
