//! Every file of the project as one tree.
//!
//! ```text
//! compose.yaml ─▶ tree ─▶ variables ─▶ + include ─▶ + extends ─┐
//! override     ─▶ tree ─▶ variables ─▶ + include ─▶ + extends ─┴▶ merged
//! ```
//!
//! A node keeps the number of the file that it was written in ([`Mark::file`]); what a relative path or a variable means
//! there is in the file's [`Origin`].

use super::dotenv;
use super::environment;
use super::extend;
use super::include;
use super::interpolate::{self, interpolate_tree};
use super::merge::{merge, settle};
use super::parse::{Sources, read_name};
use super::problem::{Problem, Report};
use super::yaml::{self, Entry, Mark, Node, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub type Variables = BTreeMap<String, String>;

/// More files than any project has; what comes after them is most likely an endless chain.
const MAX_FILES: usize = 1_000;

/// Where a file stands, and what its variables are.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Relative paths start here.
    pub directory: PathBuf,
    pub variables: Rc<Variables>,
}

/// A text of the project, its tree and where it was found.
pub(super) struct Source {
    pub root: Node,
    /// The file itself, where it is known: for cycles, and for files that lie beside it.
    pub path: PathBuf,
    /// As shown to people.
    pub name: String,
    pub origin: Origin,
}

pub(super) struct Loaded {
    pub root: Node,
    pub name: Option<String>,
    pub origins: Vec<Origin>,
}

pub(super) struct Loader<'a> {
    pub sources: &'a Sources<'a>,
    pub report: &'a Report,
    origins: RefCell<Vec<Origin>>,
    broken: RefCell<Vec<Problem>>,
}

/// All files as one tree.
///
/// # Errors
/// What is wrong with the YAML of a file, and what else was found by then.
pub(super) fn load(sources: &Sources<'_>, report: &Report) -> Result<Loaded, Vec<Problem>> {
    let loader = Loader { sources, report, origins: RefCell::default(), broken: RefCell::default() };
    let mut variables = read_variables(sources, report);
    let mut files = Vec::new();
    for file in sources.files {
        let origin = Origin { directory: sources.directory.to_owned(), variables: Rc::default() };
        let path = sources.directory.join(Path::new(file.name).file_name().unwrap_or_default());
        files.extend(loader.parse(file.name, file.text, path, origin));
    }
    let name = read_name(&mut files, sources, &variables, report);
    if let Some(name) = &name {
        variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    }
    let variables = Rc::new(variables);
    loader.origins.borrow_mut().iter_mut().for_each(|origin| origin.variables = variables.clone());
    let mut merged: Option<Node> = None;
    for mut source in files {
        source.origin.variables = variables.clone();
        let tree = loader.complete(source, merged.as_ref(), &mut Vec::new());
        merged = Some(match merged {
            Some(base) => merge(base, tree, "", report),
            None => tree,
        });
    }
    let broken = loader.broken.into_inner();
    match merged {
        Some(mut root) if broken.is_empty() => {
            settle(&mut root);
            Ok(Loaded { root, name, origins: loader.origins.into_inner() })
        }
        _ => Err(broken),
    }
}

/// The variables that a project's files see: `.env` below the process's environment.
pub fn variables(sources: &Sources<'_>) -> Variables {
    read_variables(sources, &Report::new())
}

fn read_variables(sources: &Sources<'_>, report: &Report) -> Variables {
    let mut variables = Variables::new();
    if let Some((name, text)) = sources.dotenv {
        let file = dotenv::parse(text, &|name| sources.environment.get(name).cloned());
        environment::tell(&file, name, report);
        variables = file.values;
    }
    variables.extend(sources.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
    variables
}

impl Loader<'_> {
    fn parse(&self, name: &str, text: &str, path: PathBuf, origin: Origin) -> Option<Source> {
        let number = self.report.add_file(name);
        self.origins.borrow_mut().push(origin.clone());
        match yaml::parse(number, name, text) {
            Ok(root) => Some(Source { root, path, name: name.to_owned(), origin }),
            Err(problems) => {
                self.broken.borrow_mut().extend(problems);
                None
            }
        }
    }

    /// The tree with its variables filled in, what it includes, and what its services extend. `chain` is the way of
    /// includes that led here, `earlier` what the files before this one made.
    pub fn complete(&self, mut source: Source, earlier: Option<&Node>, chain: &mut Vec<PathBuf>) -> Node {
        interpolate_values(&mut source.root, &source.origin.variables, self.report);
        chain.push(source.path.clone());
        include::resolve(self, &mut source, chain);
        chain.pop();
        extend::resolve(self, &mut source, earlier);
        source.root
    }

    /// A file that another one names at `mark`.
    pub fn open(&self, at: &Named<'_>, path: &Path, origin: Origin) -> Option<Source> {
        let shown = beside(at.from, path);
        if self.origins.borrow().len() >= MAX_FILES {
            at.problem(self.report, format!("more than {MAX_FILES} files"), "Look for files that include each other.");
            return None;
        }
        let text = self.read(at, path)?;
        self.parse(&shown, &text, path.to_owned(), origin)
    }

    pub fn read(&self, at: &Named<'_>, path: &Path) -> Option<String> {
        match (self.sources.read)(path) {
            Ok(text) => Some(text),
            Err(error) => {
                let (what, hint) = match error.kind() {
                    io::ErrorKind::NotFound => (
                        "the file does not exist".to_owned(),
                        "The path starts at the folder of the file that names it.",
                    ),
                    kind => (format!("the file cannot be read: {kind}"), ""),
                };
                at.problem(self.report, what, hint);
                None
            }
        }
    }

    pub fn interpolate(&self, source: &mut Source) {
        interpolate_values(&mut source.root, &source.origin.variables, self.report);
    }
}

/// Where a file is named: for problems with it.
pub(super) struct Named<'a> {
    pub mark: Mark,
    pub key: &'a str,
    /// The file that names it.
    pub from: &'a Source,
}

impl Named<'_> {
    pub fn problem(&self, report: &Report, what: impl Into<String>, hint: &str) {
        report.problem(self.mark, self.key, what, (!hint.is_empty()).then(|| hint.to_owned()));
    }
}

/// The path as a person would write it from where the file that names it is shown.
fn beside(from: &Source, path: &Path) -> String {
    let folder = from.path.parent().unwrap_or(Path::new("/"));
    let shown = Path::new(&from.name).parent().unwrap_or(Path::new(""));
    match path.strip_prefix(folder) {
        Ok(rest) => shown.join(rest).display().to_string(),
        Err(_) => path.display().to_string(),
    }
}

/// Extensions are left alone: what they hold is filled in where an alias brings it to a service.
fn interpolate_values(root: &mut Node, variables: &Variables, report: &Report) {
    let lookup: interpolate::Lookup<'_> = &|name| variables.get(name).cloned();
    let Value::Map(entries) = &mut root.value else { return };
    for entry in entries {
        let is_extension = entry.key.starts_with("x-") && entry.key != "x-teal";
        if !is_extension && entry.key != "name" {
            interpolate_tree(&mut entry.node, &entry.key, lookup, report);
        }
    }
}

/// The value of a key, taken out of the map.
pub(super) fn take_out(node: &mut Node, key: &str) -> Option<Entry> {
    let Value::Map(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.remove(at))
}

/// The entries of the map below a key.
pub(super) fn section<'n>(root: &'n Node, key: &str) -> &'n [Entry] {
    let Value::Map(entries) = &root.value else { return &[] };
    match entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node.value) {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    }
}
