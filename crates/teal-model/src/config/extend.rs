//! `extends`: a service takes what it does not say itself from another one, here or in another file.

use super::include::{absolute, is_remote};
use super::keys;
use super::load::{Loader, Named, Origin, Source, section, take_out};
use super::merge::merge;
use super::problem::suggestion;
use super::read::Item;
use super::yaml::{Entry, Mark, Node, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

/// More steps than anybody writes: what comes after them would only fill the stack.
const MAX_STEPS: usize = 100;

/// Replaces every service of the tree that extends another by what the two make together.
pub(super) fn resolve(loader: &Loader<'_>, source: &mut Source, earlier: Option<&Node>) {
    let names: Vec<String> = section(&source.root, "services").iter().map(|entry| entry.key.clone()).collect();
    let extended: Vec<(String, Node)> = {
        let mut extending = Extending {
            loader,
            earlier,
            files: BTreeMap::new(),
            done: BTreeMap::new(),
            told: BTreeSet::new(),
            chain: Vec::new(),
        };
        let scope = Scope { path: source.path.clone(), source };
        names.into_iter().filter_map(|name| extending.service(&scope, &name).map(|node| (name, node))).collect()
    };
    let Value::Map(entries) = &mut source.root.value else { return };
    let Some(Entry { node: Node { value: Value::Map(services), .. }, .. }) =
        entries.iter_mut().find(|entry| entry.key == "services")
    else {
        return;
    };
    for (name, node) in extended {
        if let Some(entry) = services.iter_mut().find(|entry| entry.key == name) {
            entry.node = node;
        }
    }
}

/// The services of one file.
struct Scope<'s> {
    path: PathBuf,
    source: &'s Source,
}

struct Extending<'a> {
    loader: &'a Loader<'a>,
    earlier: Option<&'a Node>,
    /// Files that were read already.
    files: BTreeMap<PathBuf, Option<Rc<Source>>>,
    /// Services that are whole already.
    done: BTreeMap<(PathBuf, String), Node>,
    /// Circles that were told, by the services in them.
    told: BTreeSet<BTreeSet<(PathBuf, String)>>,
    /// The way from the first service to the one being read.
    chain: Vec<(PathBuf, String)>,
}

struct Base {
    service: String,
    file: Option<String>,
    mark: Mark,
    key: String,
}

impl Extending<'_> {
    /// The service with all that it extends.
    fn service(&mut self, scope: &Scope<'_>, name: &str) -> Option<Node> {
        let known = section(&scope.source.root, "services").iter().find(|entry| entry.key == name);
        let mut node = match known {
            Some(entry) => entry.node.clone(),
            // An override file may extend what an earlier file defines; that has been extended already.
            None => return section(self.earlier?, "services").iter().find(|e| e.key == name).map(|e| e.node.clone()),
        };
        let Some(extends) = take_out(&mut node, "extends") else { return Some(node) };
        let step = (scope.path.clone(), name.to_owned());
        if let Some(done) = self.done.get(&step) {
            return Some(done.clone());
        }
        let Some(base) = read(self.loader, &extends, name) else { return Some(node) };
        self.chain.push(step);
        let found = self.base(scope, &base);
        if let Some(found) = found {
            node = merge(found, node, &format!("services.{name}"), self.loader.report);
        }
        self.done.extend(self.chain.pop().map(|step| (step, node.clone())));
        Some(node)
    }

    fn base(&mut self, scope: &Scope<'_>, base: &Base) -> Option<Node> {
        let at = Named { mark: base.mark, key: &base.key, from: scope.source };
        let report = self.loader.report;
        let other = match &base.file {
            Some(file) if is_remote(file) => {
                at.problem(report, "only files of this host are read", "Fetch it first, and name the file.");
                return None;
            }
            Some(file) => {
                let path = absolute(&scope.source.origin.directory, file);
                // A file that names itself means the services beside.
                if path == scope.path { None } else { Some(self.file(&at, path)?) }
            }
            None => None,
        };
        let scope = match &other {
            Some(source) => &Scope { path: source.path.clone(), source },
            None => scope,
        };
        let step = (scope.path.clone(), base.service.clone());
        if let Some(start) = self.chain.iter().position(|known| *known == step) {
            let circle = self.chain[start..].to_vec();
            let mut way: Vec<&str> = circle.iter().map(|(_, name)| name.as_str()).collect();
            way.push(&base.service);
            let what = format!("services that extend each other: {}", way.join(" -> "));
            if self.told.insert(circle.iter().cloned().collect()) {
                at.problem(report, what, "Take one of them out.");
            }
            return None;
        }
        if self.chain.len() >= MAX_STEPS {
            at.problem(report, format!("more than {MAX_STEPS} services that extend each other"), "Write fewer steps.");
            return None;
        }
        let found = self.service(scope, &base.service);
        if found.is_none() {
            let names = section(&scope.source.root, "services").iter().map(|entry| entry.key.as_str());
            let hint = suggestion(&base.service, names).unwrap_or_else(|| "Name a service of that file.".to_owned());
            at.problem(report, format!("{} has no service `{}`", scope.source.name, base.service), &hint);
        }
        found
    }

    fn file(&mut self, at: &Named<'_>, path: PathBuf) -> Option<Rc<Source>> {
        if let Some(known) = self.files.get(&path) {
            return known.clone();
        }
        let origin = Origin {
            directory: path.parent().unwrap_or(&path).to_owned(),
            variables: at.from.origin.variables.clone(),
        };
        let source = self.loader.open(at, &path, origin).map(|mut source| {
            self.loader.interpolate(&mut source);
            Rc::new(source)
        });
        self.files.insert(path, source.clone());
        source
    }
}

fn read(loader: &Loader<'_>, extends: &Entry, name: &str) -> Option<Base> {
    let item = Item { node: &extends.node, path: format!("services.{name}.extends"), report: loader.report };
    if item.node.is_null() {
        return None;
    }
    let (mark, key) = (item.mark(), item.path.clone());
    if !item.is_map() {
        return Some(Base { service: item.word()?.to_owned(), file: None, mark, key });
    }
    let map = item.map(&keys::EXTENDS)?;
    let service = map.take("service");
    let file = map.take("file");
    map.finish();
    if service.is_none() {
        item.problem("`service` is missing", "Name the service to extend.");
    }
    let mark = file.as_ref().map_or(mark, Item::mark);
    let file = match file {
        Some(file) => Some(file.word()?.to_owned()),
        None => None,
    };
    Some(Base { service: service?.word()?.to_owned(), file, mark, key })
}
