//! Secrets and configs: a file of the host is mounted read-only, a text is written into the container.

use super::keys::{self, Level};
use super::parse::Context;
use super::problem::suggestion;
use super::project::{FileToWrite, Mount, MountKind};
use super::read::Item;
use super::volumes::{clean, host_path};
use std::collections::BTreeMap;
use std::path::Path;

/// Compose's default for what it writes.
const MODE: u32 = 0o444;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    Config,
}

impl Kind {
    pub fn section(self) -> &'static str {
        match self {
            Kind::Secret => "secrets",
            Kind::Config => "configs",
        }
    }

    fn level(self) -> &'static Level {
        match self {
            Kind::Secret => &keys::SECRET,
            Kind::Config => &keys::CONFIG,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Config => "config",
        }
    }

    /// Where a target that is no path from `/` lies.
    fn folder(self) -> &'static str {
        match self {
            Kind::Secret => "/run/secrets",
            Kind::Config => "/",
        }
    }
}

/// Where a secret or a config comes from.
#[derive(Clone)]
pub(super) enum Definition {
    /// An absolute path.
    File(String),
    /// The variable it is taken from, where it is one, and the text: None when the variable is not set.
    Text { variable: Option<String>, text: Option<String> },
    /// What is wrong with it was said.
    Unknown,
}

/// Top-level `secrets` or `configs`.
pub(super) fn read_all(item: Option<Item<'_>>, kind: Kind, context: &Context<'_>) -> BTreeMap<String, Definition> {
    let entries = item.and_then(|item| item.entries()).unwrap_or_default();
    let read = |item: &Item<'_>| read_definition(item, kind, context).unwrap_or(Definition::Unknown);
    entries.iter().map(|(entry, item)| (entry.key.clone(), read(item))).collect()
}

fn read_definition(item: &Item<'_>, kind: Kind, context: &Context<'_>) -> Option<Definition> {
    let map = item.map(kind.level())?;
    let file = map.take("file");
    let environment = map.take("environment");
    let content = if kind == Kind::Config { map.take("content") } else { None };
    let external = map.has("external");
    let sources = [&file, &environment, &content].into_iter().flatten().count();
    map.finish();
    if external {
        return None;
    }
    if sources != 1 {
        let words = if kind == Kind::Config { "`file`, `environment` or `content`" } else { "`file` or `environment`" };
        item.problem(format!("one of {words} is needed"), "A file of this host is `file: ./name.txt`.");
        return None;
    }
    if let Some(file) = file {
        return Some(Definition::File(host_path(&file, file.word()?, context)?));
    }
    if let Some(variable) = environment {
        let name = variable.word()?;
        let text = context.variables(variable.mark()).get(name).cloned();
        return Some(Definition::Text { variable: Some(name.to_owned()), text });
    }
    Some(Definition::Text { variable: None, text: content?.text().map(str::to_owned) })
}

/// What the containers of a service get.
#[derive(Default)]
pub(super) struct Granted {
    pub mounts: Vec<Mount>,
    pub files: Vec<FileToWrite>,
}

pub(super) fn read_grants(
    item: Option<Item<'_>>,
    kind: Kind,
    known: &BTreeMap<String, Definition>,
    granted: &mut Granted,
) {
    for item in item.and_then(|item| item.list()).unwrap_or_default() {
        let Some(grant) = read_grant(&item, kind) else { continue };
        let Some(definition) = find(&item, &grant.source, kind, known) else { continue };
        match definition {
            Definition::File(path) => {
                if grant.mode.is_some() || grant.uid.is_some() || grant.gid.is_some() {
                    item.warning(
                        "owner and mode of a file of the host stay as they are there",
                        "Change them on the host: as in Compose, the file is mounted.",
                    );
                }
                granted.mounts.push(Mount {
                    kind: MountKind::Bind,
                    source: Some(path.clone()),
                    target: grant.target,
                    read_only: true,
                    ..Mount::default()
                });
            }
            Definition::Text { text: Some(text), .. } => granted.files.push(FileToWrite {
                target: grant.target,
                content: text.clone(),
                mode: grant.mode.unwrap_or(MODE),
                uid: grant.uid,
                gid: grant.gid,
            }),
            Definition::Text { text: None, variable } => {
                let variable = variable.as_deref().unwrap_or_default();
                item.problem(
                    format!("variable `{variable}`, which the {} is made of, is not set", kind.word()),
                    "Set it in the environment or in `.env`.",
                );
            }
            Definition::Unknown => {}
        }
    }
}

/// The definition of a name, or a problem with it.
pub(super) fn find<'k>(
    item: &Item<'_>,
    name: &str,
    kind: Kind,
    known: &'k BTreeMap<String, Definition>,
) -> Option<&'k Definition> {
    let found = known.get(name);
    if found.is_none() {
        let hint = format!("Write `{name}:` under top-level `{}`.", kind.section());
        let near = suggestion(name, known.keys().map(String::as_str));
        let hint = near.map_or(hint.clone(), |near| format!("{near} {hint}"));
        item.problem(format!("{} `{name}` is not defined", kind.word()), &hint);
    }
    found
}

struct Grant {
    source: String,
    target: String,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

fn read_grant(item: &Item<'_>, kind: Kind) -> Option<Grant> {
    let inside = |target: &str| clean(&Path::new(kind.folder()).join(target));
    if !item.is_map() {
        let source = item.word()?;
        return Some(Grant { source: source.to_owned(), target: inside(source), mode: None, uid: None, gid: None });
    }
    let map = item.map(&keys::GRANT)?;
    let source = map.take("source");
    let target = map.take("target").and_then(|target| target.word());
    let id = |key: &str| map.take_filled(key).and_then(|v| v.count(0..=u32::MAX));
    let (uid, gid) = (id("uid"), id("gid"));
    let mode = map.take("mode").and_then(|mode| read_mode(&mode));
    map.finish();
    if source.is_none() {
        item.problem("`source` is missing", &format!("Name one of the top-level `{}`.", kind.section()));
    }
    let source = source?.word()?;
    Some(Grant { source: source.to_owned(), target: inside(target.unwrap_or(source)), mode, uid, gid })
}

/// `0440`, `0o440`, `440`: octal in every spelling, as the specification means it.
pub(super) fn read_mode(item: &Item<'_>) -> Option<u32> {
    let octal = |text: &str| {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777 && !digits.starts_with('+'))
    };
    item.parsed(octal, "an octal file mode", "Write it as `0440`.")
}
