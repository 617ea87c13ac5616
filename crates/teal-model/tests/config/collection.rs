//! Compose files of the kinds that teams have, and what Teal makes of each: `collection/NAME.txt` beside it.
//!
//! The golden text has the warnings, then every setting that is not the default, one a line; or the problems.

use crate::problems::golden;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use teal_model::config::{
    Network, Parsed, Problem, Project, Service, SourceFile, Sources, Volume, find_override, parse,
};

/// Where the folder of each is, as far as the reader can tell.
const PLACE: &str = "/srv/shop";

fn read(path: &Path, profiles: &[&str]) -> Result<Parsed, Vec<Problem>> {
    let (folder, first) = match path.is_dir() {
        true => (path.to_owned(), path.join("compose.yaml")),
        false => (path.parent().unwrap().to_owned(), path.to_owned()),
    };
    let mut files = vec![("compose.yaml".to_owned(), std::fs::read_to_string(&first).unwrap())];
    if let Some(over) = find_override(&folder, &|path| path.is_file()) {
        let name = over.file_name().unwrap().to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(over).unwrap()));
    }
    let files: Vec<SourceFile<'_>> = files.iter().map(|(name, text)| SourceFile { name, text }).collect();
    let environment = BTreeMap::from(
        [("HOME", "/root"), ("NPM_TOKEN", "hunter2"), ("TLS_KEY", "hunter2"), ("GITLAB_HOME", "/srv/gitlab")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let here = |path: &Path| path.strip_prefix(PLACE).map_or(path.to_owned(), |rest| folder.join(rest));
    parse(&Sources {
        files: &files,
        directory: Path::new(PLACE),
        environment: &environment,
        dotenv: None,
        read: &|path| std::fs::read_to_string(here(path)),
        project_name: None,
        profiles: &profiles.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(),
        services: &[],
    })
}

/// What differs from the default, a line each.
fn differences(out: &mut String, path: &str, value: &Value, default: &Value) {
    match (value, default) {
        (value, default) if value == default => {}
        (Value::Object(map), Value::Object(defaults)) => {
            for (key, value) in map {
                differences(out, &format!("{path}.{key}"), value, defaults.get(key).unwrap_or(&Value::Null));
            }
        }
        (value, _) => writeln!(out, "{path} = {}", said(value)).unwrap(),
    }
}

/// Without what says nothing.
fn said(value: &Value) -> Value {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Number(number) => number.as_u64() != Some(0),
        Value::Bool(true) | Value::String(_) => true,
    };
    match value {
        Value::Array(items) => items.iter().map(said).collect(),
        Value::Object(map) => {
            map.iter().filter(|(_, value)| says(value)).map(|(key, value)| (key.clone(), said(value))).collect()
        }
        other => other.clone(),
    }
}

fn summary(project: &Project) -> String {
    let mut out = format!("project {}\n", project.name);
    for (name, service) in &project.services {
        differences(&mut out, name, &json(service), &json(&Service::default()));
    }
    for (key, network) in &project.networks {
        differences(&mut out, &format!("networks.{key}"), &json(network), &json(&Network::default()));
    }
    for (key, volume) in &project.volumes {
        differences(&mut out, &format!("volumes.{key}"), &json(volume), &json(&Volume::default()));
    }
    for (name, profiles) in &project.disabled {
        writeln!(out, "left alone: {name} ({})", profiles.join(", ")).unwrap();
    }
    out
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn told(result: &Result<Parsed, Vec<Problem>>) -> String {
    match result {
        Ok(parsed) => {
            let warnings: String = parsed.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            warnings + &summary(&parsed.project)
        }
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    }
}

fn collection() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/collection");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_of_the_collection_becomes_what_is_written_beside_it() {
    let files = collection();
    assert!(files.len() >= 40, "only {} files", files.len());
    for path in files {
        let told = told(&read(&path, &[]));
        assert!(!told.contains("hunter2") || told.starts_with("project"), "a secret in a problem:\n{told}");
        golden(&path.with_extension("txt"), &told);
    }
}

#[test]
fn a_project_of_the_collection_travels_as_json_unchanged() {
    for parsed in collection().iter().filter_map(|path| read(path, &["*"]).ok()) {
        let text = serde_json::to_string(&parsed.project).unwrap();
        assert_eq!(serde_json::from_str::<Project>(&text).unwrap(), parsed.project);
    }
}
