//! A configuration of nginx as it is written: every directive with its file, line and bytes, so that one of them can be changed
//! and the rest stays as its author left it.
//!
//! ```text
//! nginx -T ─▶ dump ─▶ File ─▶ token ─▶ tree ─▶ Directive ─▶ Node (includes followed) ─▶ View
//!                                                  └──────────────── edit ◀──────────────┘
//! ```
//!
//! Words are split as nginx splits them (`ngx_conf_read_token`): what nginx takes, this takes, and with the same meaning.

pub mod behind;
pub mod edit;
mod glob;
mod lint;
mod node;
mod token;
mod tree;
mod view;

pub use lint::{Lint, Wanted, lint, names_upstream};
pub use node::{Node, Place};
pub use tree::{Body, Directive, Span, Word};
pub use view::{Address, Listen, Pass, Protocol, Server, Target, Upstream, UpstreamServer, View};

use std::fmt;

/// What `nginx -T` writes before each file.
const MARKER: &str = "# configuration file ";

/// All files that make one configuration, the main file first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    files: Vec<File>,
    /// It came from nginx itself: what an `include` does not find in it, nginx has not found either.
    whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub path: String,
    pub text: String,
    pub directives: Vec<Directive>,
}

/// Why a file is no configuration, in nginx's own words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl Configuration {
    /// What `nginx -T` has printed.
    ///
    /// # Errors
    /// The first problem of each file that has one, or that this is no output of `nginx -T`.
    pub fn of_dump(text: &str) -> Result<Self, Vec<Problem>> {
        let files = split(text);
        if files.is_empty() {
            let what = format!("no line begins with `{MARKER}`: it is not what `nginx -T` prints");
            return Err(vec![Problem { file: "nginx -T".to_owned(), line: 0, what }]);
        }
        Self::read(files, true)
    }

    /// Files by path and text, the main one first. An `include` leads to those that are among them.
    ///
    /// # Errors
    /// The first problem of each file that has one.
    pub fn of_files(files: &[(&str, &str)]) -> Result<Self, Vec<Problem>> {
        Self::read(files.to_vec(), false)
    }

    fn read(files: Vec<(&str, &str)>, whole: bool) -> Result<Self, Vec<Problem>> {
        let (mut read, mut problems) = (Vec::new(), Vec::new());
        for (path, text) in files {
            match tree::parse(text) {
                Ok(directives) => read.push(File { path: path.to_owned(), text: text.to_owned(), directives }),
                Err((line, what)) => problems.push(Problem { file: path.to_owned(), line, what }),
            }
        }
        if problems.is_empty() { Ok(Self { files: read, whole }) } else { Err(problems) }
    }

    pub fn files(&self) -> &[File] {
        &self.files
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The directives of the main file, and of what it includes, in nginx's order.
    pub fn directives(&self) -> Vec<Node<'_>> {
        self.files.first().map(|main| Node::all_of(self, main)).unwrap_or_default()
    }

    /// `include`s whose files are not here, so that nobody knows what they say.
    pub fn unread(&self) -> Vec<Node<'_>> {
        let mut unread = Vec::new();
        let mut open = self.directives();
        while let Some(node) = open.pop() {
            if node.name() == "include" && !node.is_answered() {
                unread.push(node);
            }
            open.extend(node.children());
        }
        unread.sort_by_key(|node| (node.file().path.as_str(), node.directive().span.start));
        unread.dedup_by_key(|node| (node.file().path.as_str(), node.directive().span.start));
        unread
    }

    /// An `include` names its files from the folder of the main one.
    fn folder(&self) -> &str {
        self.files.first().and_then(|main| main.path.rsplit_once('/')).map_or("", |(folder, _)| folder)
    }
}

/// Path and text of each file of a dump. nginx adds one line feed to each, and its own messages may stand before the first.
fn split(dump: &str) -> Vec<(&str, &str)> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in dump.split_inclusive('\n') {
        let path = line.trim_end_matches(['\n', '\r']).strip_prefix(MARKER).and_then(|rest| rest.strip_suffix(':'));
        if let Some(path) = path {
            starts.push((path, at, at + line.len()));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, marker, _)| *marker).chain([dump.len()]);
    let file = |((path, _, start), end): (&(_, _, usize), usize)| {
        let text = &dump[*start..end];
        (*path, text.strip_suffix('\n').unwrap_or(text))
    };
    starts.iter().zip(ends).map(file).collect()
}
