//! YAML as a tree in which every node knows its line.
//!
//! ```text
//! text ─▶ saphyr-parser's events ─▶ Builder (anchors, merge keys, limits) ─▶ Node
//! ```
//!
//! Scalars stay text: what `8080`, `yes` or `1.10` means is decided by the reader that knows the key, so a number in
//! `environment` keeps its spelling and `restart: no` is a word (as in Compose's YAML reader, which follows YAML 1.2 here).

use super::problem::Problem;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Nodes after aliases were expanded, each 64 bytes of text counting as one more: far above any real file, far below
/// what a handful of nested aliases ("billion laughs") asks for.
const MAX_WEIGHT: usize = 200_000;
const MAX_DEPTH: usize = 64;

/// A place in a file, line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Which of the project's files, as the report counts them.
    pub file: u16,
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub mark: Mark,
    pub value: Value,
    pub how: How,
}

/// What becomes of the value of the same key in a file before this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum How {
    #[default]
    Merge,
    /// `!reset`: the key is gone, and so is what stands here.
    Reset,
    /// `!override`: this takes its place.
    Override,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `plain` tells that it was written without quotes, so that it may stand for null, a boolean or a number.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A value whose variables could not be filled in: that was reported, and the readers say nothing more about it.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub key_mark: Mark,
    pub node: Node,
}

impl Node {
    pub fn new(mark: Mark, value: Value) -> Self {
        Self { mark, value, how: How::Merge }
    }

    fn null(mark: Mark) -> Self {
        Self::new(mark, Value::Scalar { text: String::new(), plain: true })
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// How a person would call what stands here.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { text, plain: true } if is_number(text) => "a number",
            Value::Scalar { text, plain: true } if is_bool(text) => "a boolean",
            Value::Scalar { .. } => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
            Value::Unknown => "an unknown value",
        }
    }
}

fn is_bool(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.parse::<f64>().is_ok()
}

/// The first document of the text, or the first place where the YAML breaks and every problem found before it.
pub(super) fn parse(number: u16, file: &str, text: &str) -> Result<Node, Vec<Problem>> {
    let mut builder = Builder::new(number, file);
    for next in Parser::new_from_str(text) {
        let step = match next {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                let at = Mark { file: number, line: error.marker().line(), column: error.marker().col() + 1 };
                let (what, hint) = explain(error.info());
                Err(builder.problem(at, what, hint))
            }
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            return Err(builder.problems);
        }
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    Ok(builder.root.unwrap_or(Node::null(Mark { file: number, line: 1, column: 1 })))
}

fn explain(info: &str) -> (String, Option<String>) {
    let hint = if info.contains("tab") {
        Some("YAML is indented with spaces, never with tabs.".to_owned())
    } else if info.contains("alias") || info.contains("anchor") {
        Some("Define the anchor (`&name`) above its first use (`*name`).".to_owned())
    } else {
        Some("Check the indentation and the quotes here and on the line before.".to_owned())
    };
    (format!("broken YAML: {info}"), hint)
}

/// A collection that is still open.
struct Open {
    mark: Mark,
    anchor: usize,
    weight: usize,
    how: How,
    holds: Holds,
}

enum Holds {
    List(Vec<Node>),
    /// `merged` is what `<<` brought, `key` waits for its value.
    Map {
        entries: Vec<Entry>,
        seen: HashSet<String>,
        merged: Vec<Entry>,
        key: Option<Key>,
    },
}

enum Key {
    Name(String, Mark),
    Merge(Mark),
    /// Reported already; its value is read and dropped.
    Refused,
}

struct Builder<'a> {
    number: u16,
    file: &'a str,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    /// Weight of everything that was built or copied so far.
    total: usize,
    root: Option<Node>,
    documents: usize,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn new(number: u16, file: &'a str) -> Self {
        Self {
            number,
            file,
            stack: Vec::new(),
            anchors: HashMap::new(),
            total: 0,
            root: None,
            documents: 0,
            problems: Vec::new(),
        }
    }

    fn problem(&self, mark: Mark, what: impl Into<String>, hint: Option<String>) -> Problem {
        let mut key = String::new();
        for open in &self.stack {
            match &open.holds {
                Holds::List(items) => key += &format!("[{}]", items.len()),
                Holds::Map { key: Some(Key::Name(name, _)), .. } => key = join(&key, name),
                Holds::Map { .. } => {}
            }
        }
        Problem { file: self.file.to_owned(), line: mark.line, column: mark.column, key, what: what.into(), hint }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = Mark { file: self.number, line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let hint = "Keep one document a file; take out the `---`.".to_owned();
                    return Err(self.problem(mark, "a second YAML document", Some(hint)));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let (as_string, how) = self.read_tag(mark, tag)?;
                let plain = style == ScalarStyle::Plain && !as_string;
                let weight = 1 + text.len() / 64;
                let node = Node { mark, value: Value::Scalar { text: text.into_owned(), plain }, how };
                self.spend(mark, weight)?;
                self.finish_node(node, anchor, weight)
            }
            Event::SequenceStart(anchor, tag) => {
                let (_, how) = self.read_tag(mark, tag)?;
                self.open(mark, anchor, how, Holds::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let (_, how) = self.read_tag(mark, tag)?;
                let holds = Holds::Map { entries: Vec::new(), seen: HashSet::new(), merged: Vec::new(), key: None };
                self.open(mark, anchor, how, holds)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(open) => self.close(open),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some((node, weight)) = self.anchors.get(&anchor) else {
                    let hint = "Define the anchor (`&name`) completely before its first use (`*name`).".to_owned();
                    return Err(self.problem(mark, "an alias inside of its own anchor", Some(hint)));
                };
                // Counted before the copy is made: the limit is there to protect the memory.
                let weight = *weight;
                if self.total + weight > MAX_WEIGHT {
                    return Err(self.too_large(mark));
                }
                self.total += weight;
                let node = node.clone();
                self.finish_node(node, 0, weight)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// Whether the tag makes a string of a plain scalar, and how the value is merged.
    fn read_tag(&self, mark: Mark, tag: Option<Cow<'_, Tag>>) -> Result<(bool, How), Problem> {
        let Some(tag) = tag else { return Ok((false, How::Merge)) };
        if tag.is_yaml_core_schema() {
            return match tag.suffix.as_str() {
                "str" => Ok((true, How::Merge)),
                "int" | "float" | "bool" | "null" | "map" | "seq" => Ok((false, How::Merge)),
                other => Err(self.problem(mark, format!("the tag `!!{other}` is not supported"), None)),
            };
        }
        match tag.suffix.as_str() {
            "reset" => Ok((false, How::Reset)),
            "override" => Ok((false, How::Override)),
            other => {
                let hint = "Take it out: `!reset` and `!override` are the tags that Compose knows.".to_owned();
                Err(self.problem(mark, format!("the tag `!{other}` is not supported"), Some(hint)))
            }
        }
    }

    fn spend(&mut self, mark: Mark, weight: usize) -> Result<(), Problem> {
        self.total += weight;
        if self.total > MAX_WEIGHT { Err(self.too_large(mark)) } else { Ok(()) }
    }

    fn too_large(&self, mark: Mark) -> Problem {
        let hint = "Aliases that hold aliases grow quickly: write fewer of them.".to_owned();
        self.problem(mark, format!("the file grows beyond {MAX_WEIGHT} values"), Some(hint))
    }

    fn open(&mut self, mark: Mark, anchor: usize, how: How, holds: Holds) -> Result<(), Problem> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.problem(mark, format!("nested deeper than {MAX_DEPTH} levels"), None));
        }
        self.spend(mark, 1)?;
        self.stack.push(Open { mark, anchor, weight: 1, how, holds });
        Ok(())
    }

    fn close(&mut self, open: Open) -> Result<(), Problem> {
        let value = match open.holds {
            Holds::List(items) => Value::List(items),
            Holds::Map { mut entries, seen, merged, .. } => {
                // What is written here goes before what was merged in, wherever the `<<` stands.
                entries.extend(merged.into_iter().filter(|entry| !seen.contains(&entry.key)));
                Value::Map(entries)
            }
        };
        self.finish_node(Node { mark: open.mark, value, how: open.how }, open.anchor, open.weight)
    }

    fn finish_node(&mut self, node: Node, anchor: usize, weight: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight += weight;
        match &mut open.holds {
            Holds::List(items) => {
                items.push(node);
                Ok(())
            }
            Holds::Map { key: None, .. } => self.take_key(node),
            Holds::Map { .. } => self.take_value(node),
        }
    }

    fn take_key(&mut self, node: Node) -> Result<(), Problem> {
        let mark = node.mark;
        let Value::Scalar { text, plain } = node.value else {
            return Err(self.problem(mark, "a list or a map cannot be a key", None));
        };
        let next = if plain && text == "<<" {
            Key::Merge(mark)
        } else if self.is_repeated(&text) {
            let mut problem = self.problem(mark, "written twice", Some("Keep one of the two.".to_owned()));
            problem.key = join(&problem.key, &text);
            self.problems.push(problem);
            Key::Refused
        } else {
            Key::Name(text, mark)
        };
        if let Some(Open { holds: Holds::Map { key, .. }, .. }) = self.stack.last_mut() {
            *key = Some(next);
        }
        Ok(())
    }

    fn is_repeated(&mut self, name: &str) -> bool {
        match self.stack.last_mut() {
            Some(Open { holds: Holds::Map { seen, .. }, .. }) => !seen.insert(name.to_owned()),
            _ => false,
        }
    }

    fn take_value(&mut self, node: Node) -> Result<(), Problem> {
        let Some(Open { holds: Holds::Map { entries, merged, key, .. }, .. }) = self.stack.last_mut() else {
            return Ok(());
        };
        match key.take() {
            Some(Key::Name(name, key_mark)) => {
                let mut node = node;
                let is_text = matches!(&node.value, Value::Scalar { text, .. } if !text.is_empty());
                // A block below its key, or nothing at all: the line to show is the key's.
                if !is_text && node.mark.line > key_mark.line {
                    node.mark = key_mark;
                }
                entries.push(Entry { key: name, key_mark, node });
            }
            Some(Key::Merge(mark)) => {
                let sources = match node.value {
                    Value::Map(more) => vec![more],
                    Value::List(items) => {
                        let count = items.len();
                        let maps: Vec<_> = items
                            .into_iter()
                            .filter_map(|item| match item.value {
                                Value::Map(more) => Some(more),
                                _ => None,
                            })
                            .collect();
                        if maps.len() < count {
                            return Err(self.wrong_merge(mark));
                        }
                        maps
                    }
                    Value::Scalar { .. } | Value::Unknown => return Err(self.wrong_merge(mark)),
                };
                let mut have: HashSet<String> = merged.iter().map(|entry| entry.key.clone()).collect();
                for entry in sources.into_iter().flatten() {
                    if have.insert(entry.key.clone()) {
                        merged.push(entry);
                    }
                }
            }
            Some(Key::Refused) | None => {}
        }
        Ok(())
    }

    fn wrong_merge(&self, mark: Mark) -> Problem {
        let hint = "Write `<<: *anchor`, or `<<: [*one, *two]`.".to_owned();
        self.problem(mark, "`<<` takes a map or a list of maps", Some(hint))
    }
}

/// `services` + `web` -> `services.web`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "yaml_tests.rs"]
mod tests;
