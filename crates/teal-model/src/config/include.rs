//! `include`: other projects' files become part of this one, each read with its own folder and its own variables.

use super::dotenv;
use super::environment;
use super::keys;
use super::load::{Loader, Named, Origin, Source, Variables, section, take_out};
use super::merge::{alike, merge};
use super::read::Item;
use super::volumes::clean;
use super::yaml::{Entry, Mark, Node, Value};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What an included file may add to; the rest of it is its own.
const SECTIONS: [&str; 6] = ["services", "networks", "volumes", "secrets", "configs", "models"];

/// Takes `include` out of the tree, and puts in what it names.
pub(super) fn resolve(loader: &Loader<'_>, source: &mut Source, chain: &mut Vec<PathBuf>) {
    let Some(entry) = take_out(&mut source.root, "include") else { return };
    if entry.node.is_null() {
        return;
    }
    let item = Item { node: &entry.node, path: "include".to_owned(), report: loader.report };
    for item in item.list().unwrap_or_default() {
        let Some(wanted) = read(&item, source, loader) else { continue };
        let Some(tree) = load(loader, source, &wanted, chain) else { continue };
        import(loader, &mut source.root, tree);
    }
}

struct Wanted {
    /// With the place where each is named.
    paths: Vec<(PathBuf, Mark, String)>,
    origin: Origin,
}

fn read(item: &Item<'_>, source: &Source, loader: &Loader<'_>) -> Option<Wanted> {
    let mut env_files = None;
    let mut directory = None;
    let paths = if item.is_map() {
        let map = item.map(&keys::INCLUDE)?;
        let path = map.take("path");
        directory = map.take("project_directory");
        env_files = map.take("env_file");
        map.finish();
        if path.is_none() {
            item.problem("`path` is missing", "Name the file to include.");
        }
        path?.one_or_list()?
    } else {
        vec![item.clone()]
    };
    let here = source.origin.directory.as_path();
    let mut found = Vec::new();
    for path in paths {
        let text = path.word()?;
        if is_remote(text) {
            path.problem("only files of this host are read", "Fetch it first, and name the file.");
            return None;
        }
        found.push((absolute(here, text), path.mark(), path.path.clone()));
    }
    let (first, ..) = found.first()?;
    let directory = match directory.and_then(|item| item.word()) {
        Some(text) => absolute(here, text),
        None => first.parent().unwrap_or(Path::new("/")).to_owned(),
    };
    let variables = variables(loader, source, &directory, env_files);
    Some(Wanted { paths: found, origin: Origin { directory, variables: Rc::new(variables) } })
}

/// The includer's variables above those of the included project's own `.env`.
fn variables(loader: &Loader<'_>, source: &Source, directory: &Path, files: Option<Item<'_>>) -> Variables {
    let outer = &source.origin.variables;
    let mut out = Variables::new();
    let mut take = |name: &str, text: &str| {
        let file = dotenv::parse(text, &|name| outer.get(name).or_else(|| out.get(name)).cloned());
        environment::tell(&file, name, loader.report);
        out.extend(file.values);
    };
    match files {
        Some(files) => {
            for item in files.one_or_list().unwrap_or_default() {
                let Some(name) = item.word() else { continue };
                let at = Named { mark: item.mark(), key: &item.path, from: source };
                if let Some(text) = loader.read(&at, &absolute(&source.origin.directory, name)) {
                    take(name, &text);
                }
            }
        }
        None => {
            let path = directory.join(".env");
            if let Ok(text) = (loader.sources.read)(&path)
                && path != loader.sources.directory.join(".env")
            {
                take(&path.display().to_string(), &text);
            }
        }
    }
    out.extend(outer.iter().map(|(name, value)| (name.clone(), value.clone())));
    out
}

/// The files of one entry, merged as if each had been named with `-f`.
fn load(loader: &Loader<'_>, source: &Source, wanted: &Wanted, chain: &mut Vec<PathBuf>) -> Option<Node> {
    let mut merged: Option<Node> = None;
    for (path, mark, key) in &wanted.paths {
        let at = Named { mark: *mark, key, from: source };
        if chain.contains(path) {
            at.problem(loader.report, "files that include each other", "Take one of the includes out.");
            return None;
        }
        let source = loader.open(&at, path, wanted.origin.clone())?;
        let tree = loader.complete(source, merged.as_ref(), chain);
        merged = Some(match merged {
            Some(base) => merge(base, tree, "", loader.report),
            None => tree,
        });
    }
    merged
}

/// Two definitions of one thing are only accepted when they say the same.
fn import(loader: &Loader<'_>, root: &mut Node, tree: Node) {
    let Value::Map(theirs) = tree.value else {
        if !tree.is_null() {
            loader.report.problem(tree.mark, "", "an included file that is no map", None);
        }
        return;
    };
    if root.is_null() {
        root.value = Value::Map(Vec::new());
    }
    for entry in theirs {
        if entry.key == "x-teal" {
            let hint = "Write it into the file that includes this one.".to_owned();
            loader.report.warning(entry.key_mark, "x-teal", "has no effect in an included file", hint);
        }
        if matches!(entry.key.as_str(), "name" | "version") || entry.key.starts_with("x-") {
            continue;
        }
        if SECTIONS.contains(&entry.key.as_str()) {
            import_section(loader, root, entry);
        } else if let Value::Map(ours) = &mut root.value {
            // Unknown: the reader of the whole will say so, at its place.
            ours.push(entry);
        }
    }
}

fn import_section(loader: &Loader<'_>, root: &mut Node, theirs: Entry) {
    let Value::Map(definitions) = theirs.node.value else { return };
    let mut new = Vec::new();
    for definition in definitions {
        match section(root, &theirs.key).iter().find(|known| known.key == definition.key) {
            None => new.push(definition),
            Some(known) if alike(&known.node, &definition.node) => {}
            Some(known) => {
                let place = loader.report.place(definition.key_mark);
                loader.report.problem(
                    known.key_mark,
                    &format!("{}.{}", theirs.key, known.key),
                    format!("it is in an included file too, and differs there ({place})"),
                    Some(
                        "Give one of the two another name, or change the included one in an override file.".to_owned(),
                    ),
                );
            }
        }
    }
    let Value::Map(ours) = &mut root.value else { return };
    match ours.iter_mut().find(|entry| entry.key == theirs.key) {
        Some(entry) if entry.node.is_null() => entry.node.value = Value::Map(new),
        Some(Entry { node: Node { value: Value::Map(entries), .. }, .. }) => entries.extend(new),
        Some(_) => {}
        None => ours.push(Entry { node: Node { value: Value::Map(new), ..theirs.node }, ..theirs }),
    }
}

pub(super) fn absolute(directory: &Path, text: &str) -> PathBuf {
    PathBuf::from(clean(&directory.join(text)))
}

pub(super) fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@")
}
