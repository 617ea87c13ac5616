//! From the texts to the [`Project`]: the one way in.
//!
//! ```text
//! .env ──▶ variables ─┐
//! compose files ──▶ one tree (load.rs) ─▶ networks, volumes, services, x-teal ─▶ cross checks ─▶ Project
//! ```

use super::check::{self, Services};
use super::files::{self, Definition, Kind};
use super::interpolate::interpolate_tree;
use super::keys;
use super::load::{self, Loaded, Origin, Source, Variables};
use super::networks;
use super::problem::{Problem, Report};
use super::profiles;
use super::project::{DEFAULT_NETWORK, Network, Project, ServiceSettings, Volume};
use super::read::{Item, MapReader};
use super::service;
use super::teal;
use super::volumes;
use super::yaml::{Mark, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Everything that a project is read from. Reading files is the caller's business, so that the same texts always give
/// the same project.
pub struct Sources<'a> {
    /// The compose files, at least one: each goes over those before it.
    pub files: &'a [SourceFile<'a>],
    /// The project's folder, absolute: relative paths are resolved against it.
    pub directory: &'a Path,
    /// The process's environment; it goes before `dotenv`.
    pub environment: &'a BTreeMap<String, String>,
    /// Name and text of the `.env` file, where there is one.
    pub dotenv: Option<(&'a str, &'a str)>,
    /// Reads what the files name: an `env_file`, an included or extended file; the path is absolute if `directory` is.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// `-p`. Goes before `COMPOSE_PROJECT_NAME`, the file's `name` and the folder's name.
    pub project_name: Option<&'a str>,
    /// `--profile`; those of `COMPOSE_PROFILES` come on top.
    pub profiles: &'a [String],
    /// Services that were named: each brings its own profiles along.
    pub services: &'a [String],
}

/// A compose file.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// As it is shown in problems.
    pub name: &'a str,
    pub text: &'a str,
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
    pub origins: &'a [Origin],
    pub project: &'a str,
    pub volumes: &'a BTreeMap<String, Volume>,
    /// Also those that could not be read, which are no "undefined volume".
    pub volume_keys: &'a BTreeSet<String>,
    pub network_keys: &'a BTreeSet<String>,
    pub secrets: &'a BTreeMap<String, Definition>,
    pub configs: &'a BTreeMap<String, Definition>,
    /// Of every service that does not say it itself.
    pub defaults: &'a ServiceSettings,
    pub report: &'a Report,
    /// Whether the service being read is part of the project, or waits for a profile.
    pub enabled: bool,
}

impl Context<'_> {
    /// Where relative paths start that were written here.
    pub fn directory(&self, mark: Mark) -> &Path {
        self.origins.get(usize::from(mark.file)).map_or(self.sources.directory, |origin| &origin.directory)
    }

    /// The environment as the file sees it: `.env` below the process's own.
    pub fn variables(&self, mark: Mark) -> &Variables {
        match self.origins.get(usize::from(mark.file)) {
            Some(origin) => &origin.variables,
            None => self.sources.environment,
        }
    }
}

/// Names of a compose file, in the order in which Compose looks for them.
pub const FILE_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Names of the file that is merged into it, where `-f` names none.
pub const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The compose file of a folder.
pub fn find_file(dir: &Path, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    FILE_NAMES.iter().map(|name| dir.join(name)).find(|path| exists(path))
}

/// The file beside it that goes over it.
pub fn find_override(dir: &Path, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    OVERRIDE_NAMES.iter().map(|name| dir.join(name)).find(|path| exists(path))
}

/// Reads a project.
///
/// # Errors
/// All problems at once, in the order of the files, each behind what is to know of the same value. Broken YAML hides what stands behind it.
pub fn parse(sources: &Sources<'_>) -> Result<Parsed, Vec<Problem>> {
    let report = Report::new();
    let loaded = match load::load(sources, &report) {
        Ok(loaded) => loaded,
        Err(broken) => return Err(report.finish().0.into_iter().chain(broken).collect()),
    };
    let project = read_project(&loaded, sources, &report);
    let failed = report.has_problems();
    match project {
        Some(project) if !failed => Ok(Parsed { project, warnings: report.finish().1 }),
        _ => Err(report.finish_failed()),
    }
}

/// `-p`, `COMPOSE_PROJECT_NAME`, `name:`, the folder: the first that is there.
pub(super) fn read_name(
    files: &mut [Source],
    sources: &Sources<'_>,
    variables: &Variables,
    report: &Report,
) -> Option<String> {
    const SHAPE: &str =
        "A project name is lower-case letters, digits, `-` and `_`, and starts with a letter or a digit.";
    let lookup = |name: &str| variables.get(name).cloned();
    let mut written = None;
    for file in files {
        let Value::Map(entries) = &mut file.root.value else { continue };
        let Some(entry) = entries.iter_mut().find(|entry| entry.key == "name") else { continue };
        interpolate_tree(&mut entry.node, "name", &lookup, report);
        let item = Item { node: &entry.node, path: "name".to_owned(), report };
        if !entry.node.is_null() {
            let read = |text: &str| is_project_name(text).then(|| text.to_owned());
            written = Some(item.parsed(read, "a project name", SHAPE));
        }
    }
    let environment = variables.get("COMPOSE_PROJECT_NAME").map(String::as_str).filter(|name| !name.is_empty());
    for (origin, name) in [("`-p`", sources.project_name), ("the variable COMPOSE_PROJECT_NAME", environment)] {
        let Some(name) = name else { continue };
        if is_project_name(name) {
            return Some(name.to_owned());
        }
        let what = format!("what {origin} says is not a project name");
        report.problem(Mark::default(), "name", what, Some(SHAPE.to_owned()));
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

/// Lower-case letters, digits, `-` and `_`, the first a letter or a digit.
pub fn is_project_name(name: &str) -> bool {
    !name.is_empty() && name == normalise(name)
}

/// As Compose makes a project name of a folder's name.
fn normalise(name: &str) -> String {
    let kept: String = name.to_lowercase().chars().filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-')).collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

fn read_project(loaded: &Loaded, sources: &Sources<'_>, report: &Report) -> Option<Project> {
    let item = Item { node: &loaded.root, path: String::new(), report };
    let name = loaded.name.clone().unwrap_or_default();
    if item.node.is_null() {
        item.problem("the file is empty", "Write at least one service: `services: {web: {image: ...}}`.");
        return None;
    }
    let map = item.map(&keys::PROJECT)?;
    // Read before everything else.
    map.take_even_null("name");
    map.take_even_null("include");
    if let Some(version) = map.take_even_null("version") {
        version.warning("`version` is obsolete and says nothing", "Take it out.");
    }
    let networks_item = map.take("networks");
    let networks = networks_item.as_ref().map(|item| networks::read_all(item, &name)).unwrap_or_default();
    let volumes_item = map.take("volumes");
    let volumes = volumes_item.as_ref().map(|item| volumes::read_all(item, &name)).unwrap_or_default();
    let (network_keys, volume_keys) = (keys_of(networks_item), keys_of(volumes_item));
    let teal = map.take("x-teal").map(|item| teal::read_project(&item)).unwrap_or_default();
    let nothing = BTreeMap::new();
    let mut context = Context {
        sources,
        origins: &loaded.origins,
        project: &name,
        volumes: &volumes,
        volume_keys: &volume_keys,
        network_keys: &network_keys,
        secrets: &nothing,
        configs: &nothing,
        defaults: &teal.defaults,
        report,
        enabled: true,
    };
    let secrets = files::read_all(map.take("secrets"), Kind::Secret, &context);
    let configs = files::read_all(map.take("configs"), Kind::Config, &context);
    (context.secrets, context.configs) = (&secrets, &configs);
    let from_environment = context.variables(Mark::default()).get("COMPOSE_PROFILES").map(String::as_str);
    let disabled = profiles::disabled(&loaded.root, sources.profiles, from_environment, sources.services);
    let mut services = read_services(&map, &mut context, &disabled);
    map.finish();
    check::check(&mut services, &disabled, &name);
    let services = services.into_iter().map(|(name, read)| (name, read.service)).collect();
    let networks = with_default(networks, &services, &name);
    let directory = sources.directory.to_string_lossy().into_owned();
    Some(Project { name, directory, services, disabled, networks, volumes, trusted_proxies: teal.trusted_proxies })
}

/// The network that services join which name none.
fn with_default(
    mut networks: BTreeMap<String, Network>,
    services: &BTreeMap<String, super::project::Service>,
    project: &str,
) -> BTreeMap<String, Network> {
    if services.values().any(|service| service.networks.contains_key(DEFAULT_NETWORK)) {
        let name = Project::network_name(project, DEFAULT_NETWORK);
        networks.entry(DEFAULT_NETWORK.to_owned()).or_insert(Network { name, ..Network::default() });
    }
    networks
}

fn keys_of(item: Option<Item<'_>>) -> BTreeSet<String> {
    let entries = item.filter(Item::is_map).and_then(|item| item.entries()).unwrap_or_default();
    entries.iter().map(|(entry, _)| entry.key.clone()).collect()
}

fn read_services<'a>(
    map: &MapReader<'a>,
    context: &mut Context<'_>,
    disabled: &BTreeMap<String, Vec<String>>,
) -> Services<'a> {
    let mut services = BTreeMap::new();
    let written = map.take("services").map(|item| (item.clone(), item.entries()));
    if let Some((item, Some(entries))) = &written
        && entries.is_empty()
    {
        item.problem("no services", "Write at least one: `web: {image: ...}`.");
    } else if written.is_none() {
        map.item.problem("no services", "Write at least one: `services: {web: {image: ...}}`.");
    }
    for (entry, item) in written.iter().filter_map(|(_, entries)| entries.as_ref()).flatten() {
        if !is_service_name(&entry.key) {
            item.report.problem(
                entry.key_mark,
                &item.path,
                "not a service name",
                Some("A name is letters, digits, `.`, `_` and `-`, and starts with a letter or a digit.".to_owned()),
            );
        }
        context.enabled = !disabled.contains_key(&entry.key);
        if let Some(read) = service::read(&entry.key, item.clone(), context)
            && context.enabled
        {
            services.insert(entry.key.clone(), read);
        }
    }
    if let Some((item, Some(entries))) = &written
        && !entries.is_empty()
        && entries.iter().all(|(entry, _)| disabled.contains_key(&entry.key))
    {
        let mut profiles: Vec<&str> = disabled.values().flatten().map(String::as_str).collect();
        profiles.sort_unstable();
        profiles.dedup();
        let hint = format!("Choose one with `--profile` or `COMPOSE_PROFILES`: {}.", profiles.join(", "));
        item.problem("every service waits for a profile", &hint);
    }
    services
}

fn is_service_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
