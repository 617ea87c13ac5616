//! From the texts to the [`Project`]: the one way in.
//!
//! ```text
//! .env ──▶ variables ─┐
//! compose.yaml ──▶ tree ─▶ interpolated tree ─▶ services, volumes, x-teal ─▶ cross checks ─▶ Project
//! ```

use super::check::{self, Services};
use super::dotenv;
use super::environment;
use super::interpolate::{self, interpolate_tree};
use super::keys;
use super::problem::{Problem, Report};
use super::project::{Project, Volume};
use super::read::{Item, MapReader};
use super::service;
use super::teal;
use super::volumes;
use super::yaml::{self, Mark, Node, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Everything that a project is read from. Reading files is the caller's business, so that the same texts always give
/// the same project.
pub struct Sources<'a> {
    /// The compose file's name as it is shown in problems.
    pub file_name: &'a str,
    pub text: &'a str,
    /// The project's folder, absolute: relative paths are resolved against it.
    pub directory: &'a Path,
    /// The process's environment; it goes before `dotenv`.
    pub environment: &'a BTreeMap<String, String>,
    /// Name and text of the `.env` file, where there is one.
    pub dotenv: Option<(&'a str, &'a str)>,
    /// Reads an `env_file`; the path is absolute if `directory` is.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// `-p`. Goes before `COMPOSE_PROJECT_NAME`, the file's `name` and the folder's name.
    pub project_name: Option<&'a str>,
}

/// A project, and what its owner should know about the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    pub project: Project,
    pub warnings: Vec<Problem>,
}

/// What the readers below share.
pub(super) struct Context<'a> {
    pub sources: &'a Sources<'a>,
    /// `.env` below the process's environment.
    pub variables: &'a BTreeMap<String, String>,
    pub volumes: &'a BTreeMap<String, Volume>,
    /// Also those that could not be read, which are no "undefined volume".
    pub volume_keys: &'a BTreeSet<String>,
    pub report: &'a Report,
}

/// Names of a compose file, in the order in which Compose looks for them.
pub const FILE_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Names of a file that Compose would merge into the first and Teal does not read.
pub const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The compose file of a folder.
pub fn find_file(dir: &Path, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    FILE_NAMES.iter().map(|name| dir.join(name)).find(|path| exists(path))
}

/// A file beside it that Compose would merge in: say so before the two tools disagree.
pub fn find_override(dir: &Path, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    OVERRIDE_NAMES.iter().map(|name| dir.join(name)).find(|path| exists(path))
}

/// Reads a project.
///
/// # Errors
/// All problems at once, in the order of the file. Broken YAML hides what stands behind it.
pub fn parse(sources: &Sources<'_>) -> Result<Parsed, Vec<Problem>> {
    let report = Report::new(sources.file_name);
    let mut variables = read_variables(sources, &report);
    let mut root = match yaml::parse(sources.file_name, sources.text) {
        Ok(root) => root,
        Err(problems) => return Err(report.finish().0.into_iter().chain(problems).collect()),
    };
    let name = read_name(&mut root, sources, &variables, &report);
    if let Some(name) = &name {
        variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    }
    interpolate_values(&mut root, &variables, &report);
    let name = name.unwrap_or_default();
    let item = Item { node: &root, path: String::new(), report: &report };
    let project = read_project(&item, name, sources, &variables);
    let failed = report.has_problems();
    let (problems, warnings) = report.finish();
    match project {
        Some(project) if !failed => Ok(Parsed { project, warnings }),
        _ => Err(problems),
    }
}

fn read_variables(sources: &Sources<'_>, report: &Report) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if let Some((name, text)) = sources.dotenv {
        let file = dotenv::parse(text, &|name| sources.environment.get(name).cloned());
        environment::tell(&file, name, report);
        variables = file.values;
    }
    variables.extend(sources.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
    variables
}

/// `-p`, `COMPOSE_PROJECT_NAME`, `name:`, the folder: the first that is there.
fn read_name(
    root: &mut Node,
    sources: &Sources<'_>,
    variables: &BTreeMap<String, String>,
    report: &Report,
) -> Option<String> {
    const SHAPE: &str =
        "A project name is lower-case letters, digits, `-` and `_`, and starts with a letter or a digit.";
    let lookup = |name: &str| variables.get(name).cloned();
    let mut written = None;
    if let Value::Map(entries) = &mut root.value
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "name")
    {
        interpolate_tree(&mut entry.node, "name", &lookup, report);
        let item = Item { node: &entry.node, path: "name".to_owned(), report };
        if !entry.node.is_null() {
            let read = |text: &str| is_project_name(text).then(|| text.to_owned());
            written = Some(item.parsed(read, "a project name", SHAPE));
        }
    }
    let environment = variables.get("COMPOSE_PROJECT_NAME").map(String::as_str).filter(|name| !name.is_empty());
    for (origin, name) in [("-p", sources.project_name), ("COMPOSE_PROJECT_NAME", environment)] {
        let Some(name) = name else { continue };
        if is_project_name(name) {
            return Some(name.to_owned());
        }
        report.problem(Mark::default(), "name", format!("`{origin}` is not a project name"), Some(SHAPE.to_owned()));
        return None;
    }
    if let Some(written) = written {
        return written;
    }
    let folder = sources.directory.file_name().map(|name| normalise(&name.to_string_lossy())).unwrap_or_default();
    if folder.is_empty() {
        let hint = "The folder's name gives none: write `name: ...` at the top of the file, or use `-p`.".to_owned();
        report.problem(Mark::default(), "name", "the project has no name", Some(hint));
        return None;
    }
    Some(folder)
}

fn is_project_name(name: &str) -> bool {
    !name.is_empty() && name == normalise(name)
}

/// As Compose makes a project name of a folder's name.
fn normalise(name: &str) -> String {
    let kept: String = name.to_lowercase().chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')).collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// Extensions are left alone: what they hold is filled in where an alias brings it to a service.
fn interpolate_values(root: &mut Node, variables: &BTreeMap<String, String>, report: &Report) {
    let lookup: interpolate::Lookup<'_> = &|name| variables.get(name).cloned();
    let Value::Map(entries) = &mut root.value else { return };
    for entry in entries {
        let is_extension = entry.key.starts_with("x-") && entry.key != "x-teal";
        if !is_extension && entry.key != "name" {
            interpolate_tree(&mut entry.node, &entry.key, lookup, report);
        }
    }
}

fn read_project(
    item: &Item<'_>,
    name: String,
    sources: &Sources<'_>,
    variables: &BTreeMap<String, String>,
) -> Option<Project> {
    if item.node.is_null() {
        item.problem("the file is empty", "Write at least one service: `services: {web: {image: ...}}`.");
        return None;
    }
    let map = item.map(&keys::PROJECT)?;
    // Read before everything else.
    map.take_even_null("name");
    if let Some(version) = map.take_even_null("version") {
        version.warning("`version` is obsolete and says nothing", "Take it out.");
    }
    if let Some(networks) = map.take("networks") {
        read_networks(&networks);
    }
    let volumes_item = map.take("volumes");
    let volumes = volumes_item.as_ref().map(|item| volumes::read_all(item, &name)).unwrap_or_default();
    let volume_keys = volumes_item
        .filter(Item::is_map)
        .and_then(|item| item.entries())
        .unwrap_or_default()
        .iter()
        .map(|(entry, _)| entry.key.clone())
        .collect();
    let context = Context { sources, variables, volumes: &volumes, volume_keys: &volume_keys, report: item.report };
    let mut services = read_services(&map, &context);
    let trusted_proxies = map.take("x-teal").map(|item| teal::read_project(&item)).unwrap_or_default();
    map.finish();
    check::check(&mut services);
    let default = super::Network { name: Project::network_name(&name, super::DEFAULT_NETWORK), ..Default::default() };
    for read in services.values_mut() {
        read.service.networks.insert(super::DEFAULT_NETWORK.to_owned(), Default::default());
    }
    Some(Project {
        name,
        directory: sources.directory.to_string_lossy().into_owned(),
        services: services.into_iter().map(|(name, read)| (name, read.service)).collect(),
        volumes,
        networks: BTreeMap::from([(super::DEFAULT_NETWORK.to_owned(), default)]),
        trusted_proxies,
        ..Project::default()
    })
}

fn read_services<'a>(map: &MapReader<'a>, context: &Context<'_>) -> Services<'a> {
    let mut services = BTreeMap::new();
    let written = map.take("services").map(|item| (item.clone(), item.entries()));
    if let Some((item, Some(entries))) = &written
        && entries.is_empty()
    {
        item.problem("no services", "Write at least one: `web: {image: ...}`.");
    } else if written.is_none() {
        map.item.problem("no services", "Write at least one: `services: {web: {image: ...}}`.");
    }
    for (entry, item) in written.and_then(|(_, entries)| entries).unwrap_or_default() {
        if !is_service_name(&entry.key) {
            item.report.problem(
                entry.key_mark,
                &item.path,
                "not a service name",
                Some("A name is letters, digits, `.`, `_` and `-`, and starts with a letter or a digit.".to_owned()),
            );
        }
        if let Some(read) = service::read(&entry.key, item, context) {
            services.insert(entry.key.clone(), read);
        }
    }
    services
}

fn is_service_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn read_networks(item: &Item<'_>) {
    for (entry, item) in item.entries().unwrap_or_default() {
        if entry.key == "default" {
            if let Some(map) = item.map(&keys::NETWORK) {
                map.finish();
            }
        } else {
            let hint = "Take it out: all services of a project share one network; a recreated service is reached by its name, a blue-green one through its published port.";
            let what = "networks other than `default` are not supported";
            item.report.problem(entry.key_mark, &item.path, what, Some(hint.to_owned()));
        }
    }
}
