//! A directive where it stands: with its file, and with what it includes in place of the `include`.

use super::glob;
use super::{Body, Configuration, Directive, File};
use std::fmt;

/// An `include` that leads to itself is one that nginx refuses; here it must only end.
const MAX_INCLUDES: usize = 32;

/// File and line, for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub file: String,
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[derive(Clone, Copy)]
pub struct Node<'a> {
    configuration: &'a Configuration,
    file: &'a File,
    directive: &'a Directive,
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.place(), self.args().collect::<Vec<_>>())
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.directive, other.directive)
    }
}

impl<'a> Node<'a> {
    pub(super) fn all_of(configuration: &'a Configuration, file: &'a File) -> Vec<Node<'a>> {
        let mut nodes = Vec::new();
        gather(configuration, file, &file.directives, &mut vec![file.path.as_str()], &mut nodes);
        nodes
    }

    pub fn file(self) -> &'a File {
        self.file
    }

    pub fn directive(self) -> &'a Directive {
        self.directive
    }

    pub fn name(self) -> &'a str {
        self.directive.name()
    }

    pub fn args(self) -> impl ExactSizeIterator<Item = &'a str> {
        self.directive.args()
    }

    /// The first argument, or nothing.
    pub fn value(self) -> &'a str {
        self.args().next().unwrap_or_default()
    }

    pub fn place(self) -> Place {
        Place { file: self.file.path.clone(), line: self.directive.line }
    }

    /// As it is written.
    pub fn text(self) -> &'a str {
        self.directive.span.of(&self.file.text)
    }

    /// What stands in its block, each `include` followed by what it brings.
    pub fn children(self) -> Vec<Node<'a>> {
        let mut nodes = Vec::new();
        if let Body::Block { directives, .. } = &self.directive.body {
            let mut within = vec![self.file.path.as_str()];
            gather(self.configuration, self.file, directives, &mut within, &mut nodes);
        }
        nodes
    }

    pub fn children_named(self, name: &str) -> Vec<Node<'a>> {
        self.children().into_iter().filter(|node| node.name() == name).collect()
    }

    /// The last of that name in its block: the one that counts where nginx takes several.
    pub fn child(self, name: &str) -> Option<Node<'a>> {
        self.children_named(name).pop()
    }

    /// Whether the files of an `include` are known: they are here, or nginx itself has found none.
    pub(super) fn is_answered(self) -> bool {
        let found = !included(self.configuration, self.value()).is_empty();
        found || (self.configuration.whole && glob::is_pattern(self.value()))
    }
}

fn gather<'a>(
    configuration: &'a Configuration,
    file: &'a File,
    directives: &'a [Directive],
    within: &mut Vec<&'a str>,
    nodes: &mut Vec<Node<'a>>,
) {
    for directive in directives {
        nodes.push(Node { configuration, file, directive });
        if directive.name() != "include" || within.len() > MAX_INCLUDES {
            continue;
        }
        for other in included(configuration, directive.args().next().unwrap_or_default()) {
            if !within.contains(&other.path.as_str()) {
                within.push(&other.path);
                gather(configuration, other, &other.directives, within, nodes);
                within.pop();
            }
        }
    }
}

/// The files that an `include` names, in glob's order.
fn included<'a>(configuration: &'a Configuration, pattern: &str) -> Vec<&'a File> {
    let full = if pattern.starts_with('/') || configuration.folder().is_empty() {
        pattern.to_owned()
    } else {
        format!("{}/{pattern}", configuration.folder())
    };
    let named = |file: &&File| file.path == full || (glob::is_pattern(&full) && glob::matches(&full, &file.path));
    let mut files: Vec<&File> = configuration.files.iter().filter(named).collect();
    files.sort_by(|one, other| one.path.as_bytes().cmp(other.path.as_bytes()));
    files
}
