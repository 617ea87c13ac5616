//! Reading a tree with one voice: each reader takes the keys it knows, says what is wrong with a value, and what nobody
//! took is refused by name at the end.

use super::keys::{Level, Standing};
use super::misplaced;
use super::problem::{Report, suggestion, written_out};
use super::quantity;
use super::yaml::{Entry, Mark, Node, Value, join};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

const NO_SIGN: &str = "a blank in a name that has no value";

/// A value, where it stands, and whom to tell about it.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub node: &'a Node,
    pub path: String,
    pub report: &'a Report,
}

impl<'a> Item<'a> {
    pub fn mark(&self) -> Mark {
        self.node.mark
    }

    pub fn problem(&self, what: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.report.problem(self.mark(), &self.path, what, hint);
    }

    pub fn warning(&self, what: impl Into<String>, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.report.warning(self.mark(), &self.path, what, hint);
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.as_text() == Some(word)
    }

    /// None: no text, which is not told here.
    pub fn as_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether a service's map has no `ports` at all; one that could not be read was reported as such.
    pub fn names_no_ports(&self) -> bool {
        match &self.node.value {
            Value::Map(entries) => !entries.iter().any(|entry| entry.key == "ports"),
            _ => false,
        }
    }

    fn expected(&self, what: &str) {
        if self.node.value != Value::Unknown {
            self.problem(format!("expected {what}, found {}", self.node.kind()), "");
        }
    }

    /// Any scalar as it is written; null is none.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_null() => Some(text),
            _ => {
                self.expected("a string");
                None
            }
        }
    }

    /// A string that says something.
    pub fn word(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() {
            self.problem("empty", "Write a value, or take the key out.");
            return None;
        }
        Some(text)
    }

    /// The value that `read` makes of the text, or a problem that says what was wanted. The text itself is not shown:
    /// it may have come out of a variable.
    pub fn parsed<T>(&self, read: impl Fn(&str) -> Option<T>, what: &str, hint: &str) -> Option<T> {
        let Value::Scalar { text, .. } = &self.node.value else {
            self.expected(what);
            return None;
        };
        let value = read(text);
        if value.is_none() {
            self.problem(format!("not {what}"), hint);
        }
        value
    }

    /// A name of somebody's own that stands in requests or in what is printed, without quotes.
    pub fn name(&self) -> Option<String> {
        let read = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            ((1..=64).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
        };
        self.parsed(read, "a name", "Write letters, digits, `-`, `_` and `.`.")
    }

    pub fn boolean(&self) -> Option<bool> {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" => Some(true),
            "false" | "no" | "n" | "off" => Some(false),
            _ => None,
        };
        self.parsed(read, "a boolean", "Write `true` or `false`.")
    }

    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(|text| text.parse().ok().filter(|n| range.contains(n)), &what, "")
    }

    pub fn signed(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(|text| text.parse().ok().filter(|n| range.contains(n)), &what, "")
    }

    /// Bytes, or -1 for no limit.
    pub fn bytes_or_unlimited(&self) -> Option<i64> {
        match &self.node.value {
            Value::Scalar { text, .. } if text == "-1" => Some(-1),
            _ => self.bytes().and_then(|bytes| i64::try_from(bytes).ok()),
        }
    }

    pub fn port(&self) -> Option<u16> {
        self.integer(1..=65_535).and_then(|n| u16::try_from(n).ok())
    }

    pub fn count(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.integer(range).and_then(|n| u32::try_from(n).ok())
    }

    pub fn duration_ms(&self) -> Option<u64> {
        self.parsed(quantity::duration_ms, "a duration", "Write a number with its unit: `500ms`, `10s`, `1m30s`.")
    }

    /// A duration that may not be 0.
    pub fn time_ms(&self) -> Option<u64> {
        let ms = self.duration_ms()?;
        if ms == 0 {
            self.problem("must be longer than 0", "");
            return None;
        }
        Some(ms)
    }

    pub fn bytes(&self) -> Option<u64> {
        self.parsed(quantity::bytes, "a size", "Write bytes, or a number with its unit: `64k`, `512m`, `1gb`.")
    }

    pub fn list(&self) -> Option<Vec<Item<'a>>> {
        let Value::List(items) = &self.node.value else {
            self.expected("a list");
            return None;
        };
        let item = |(n, node)| Item { node, path: format!("{}[{n}]", self.path), report: self.report };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// A list, or one value that stands for a list of one.
    pub fn one_or_list(&self) -> Option<Vec<Item<'a>>> {
        if self.is_list() { self.list() } else { Some(vec![self.clone()]) }
    }

    pub fn strings(&self) -> Option<Vec<String>> {
        // Every element is read before the first failure counts, so that all of them are reported.
        let read: Vec<_> = self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect();
        read.into_iter().collect()
    }

    /// A list of words, or one word that stands for a list of one.
    pub fn words(&self) -> Option<Vec<String>> {
        let read: Vec<_> = self.one_or_list()?.iter().map(|item| item.word().map(str::to_owned)).collect();
        read.into_iter().collect()
    }

    /// Every entry of a map whose keys are names and not words of the specification. Null is an empty map.
    pub fn entries(&self) -> Option<Vec<(&'a Entry, Item<'a>)>> {
        match &self.node.value {
            Value::Map(entries) => Some(
                entries
                    .iter()
                    .map(|entry| {
                        let path = join(&self.path, &entry.key);
                        (entry, Item { node: &entry.node, path, report: self.report })
                    })
                    .collect(),
            ),
            _ if self.node.is_null() => Some(Vec::new()),
            _ => {
                self.expected("a map");
                None
            }
        }
    }

    /// How many entries or elements it has.
    pub fn len(&self) -> usize {
        match &self.node.value {
            Value::Map(entries) => entries.len(),
            Value::List(items) => items.len(),
            Value::Scalar { .. } | Value::Unknown => 0,
        }
    }

    /// A map whose keys are words of the specification.
    pub fn map(&self, level: &'static Level) -> Option<MapReader<'a>> {
        self.entries().map(|entries| {
            let taken = RefCell::new(vec![false; entries.len()]);
            MapReader { item: self.clone(), level, entries, taken }
        })
    }

    /// A map or a list of `KEY=value`, as `environment` and `labels` are written. A value that is missing is None.
    pub fn pairs(&self) -> Option<BTreeMap<String, (Option<String>, Item<'a>)>> {
        let mut out = BTreeMap::new();
        if self.is_list() {
            for item in self.list()? {
                let Some(text) = item.text() else { continue };
                let (key, value) = match text.split_once('=') {
                    Some((key, value)) => (key.trim_end(), Some(value.to_owned())),
                    None => (text, None),
                };
                if key.is_empty() {
                    item.problem("a pair without a name", "Write `NAME=value`.");
                } else if value.is_none() && key.contains(char::is_whitespace) {
                    item.problem(NO_SIGN, "Write `NAME=value`.");
                } else {
                    // The last one counts, as in Compose.
                    out.insert(key.to_owned(), (value, item.clone()));
                }
            }
        } else {
            for (entry, item) in self.entries()? {
                let value = if item.node.is_null() { Some(None) } else { item.text().map(|v| Some(v.to_owned())) };
                if item.node.is_null() && entry.key.contains(char::is_whitespace) {
                    // Out of a list, in a file that goes over another; the key may hold the value, and is not shown.
                    self.report.problem(entry.key_mark, &self.path, NO_SIGN, Some("Write `NAME=value`.".to_owned()));
                } else if entry.key.is_empty() || entry.key.contains('=') {
                    item.problem("not a name", "A name is not empty and holds no `=`.");
                } else if let Some(value) = value {
                    out.insert(entry.key.clone(), (value, item));
                }
            }
        }
        Some(out)
    }

    /// Pairs whose missing value is an empty string (labels, driver options).
    pub fn string_map(&self) -> Option<BTreeMap<String, String>> {
        let pairs = self.pairs()?;
        Some(pairs.into_iter().map(|(key, (value, _))| (key, value.unwrap_or_default())).collect())
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let hint = suggestion(text, choices.iter().map(|(word, _)| *word));
        self.problem(format!("not one of {}", words.join(", ")), hint.as_deref().unwrap_or_default());
        None
    }
}

/// A map being read: what was not taken when it is finished is unknown, or known and refused.
pub(super) struct MapReader<'a> {
    pub item: Item<'a>,
    level: &'static Level,
    entries: Vec<(&'a Entry, Item<'a>)>,
    taken: RefCell<Vec<bool>>,
}

impl<'a> MapReader<'a> {
    /// The value of a key; null counts as not written.
    pub fn take(&self, key: &str) -> Option<Item<'a>> {
        self.take_even_null(key).filter(|item| !item.node.is_null())
    }

    /// The value of a key that `${NAME:-}` may leave empty: an empty string counts as not written, as in Compose.
    pub fn take_filled(&self, key: &str) -> Option<Item<'a>> {
        self.take(key).filter(|item| !matches!(&item.node.value, Value::Scalar { text, .. } if text.is_empty()))
    }

    pub fn take_even_null(&self, key: &str) -> Option<Item<'a>> {
        debug_assert!(
            matches!(self.level.standing(key), Some(Standing::Honoured(_) | Standing::Accepted { .. })),
            "`{key}` is read, but the table of {} does not take it",
            self.level.name
        );
        let at = self.entries.iter().position(|(entry, _)| entry.key == key)?;
        self.taken.borrow_mut()[at] = true;
        Some(self.entries[at].1.clone())
    }

    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(entry, _)| entry.key == key)
    }

    /// Refuses what nobody took.
    pub fn finish(self) {
        let taken = self.taken.borrow();
        for ((entry, item), _) in self.entries.iter().zip(taken.iter()).filter(|(_, taken)| !**taken) {
            if self.level.extensions && entry.key.starts_with("x-") {
                self.warn_of_misspelt_extension(entry, item);
                continue;
            }
            let (what, hint) = match self.level.standing(&entry.key) {
                // Taken by a reader that gave up earlier, and has said why.
                Some(Standing::Honoured(_) | Standing::Accepted { warns: false, .. }) => continue,
                Some(Standing::Accepted { why, .. }) => {
                    let hint = Some((*why).to_owned());
                    self.item.report.warning(entry.key_mark, &item.path, "has no effect here", hint);
                    continue;
                }
                Some(Standing::Refused(instead)) => ("not supported", Some((*instead).to_owned())),
                Some(Standing::NotBuilt(instead)) => ("not built yet", Some((*instead).to_owned())),
                None => ("unknown key", self.meant(&entry.key)),
            };
            self.item.report.problem(entry.key_mark, &item.path, what, hint.filter(|h| !h.is_empty()));
        }
    }

    /// A word of this level, or the same one elsewhere, or what it is short for.
    fn meant(&self, key: &str) -> Option<String> {
        suggestion(key, self.level.keys.iter().map(|k| k.name))
            .or_else(|| misplaced::suggestion(self.level, &self.item.path, key))
            .or_else(|| {
                let honoured = self.level.keys.iter().filter(|k| matches!(k.standing, Standing::Honoured(_)));
                written_out(key, honoured.map(|k| k.name)).map(|name| format!("Did you mean `{name}`?"))
            })
    }

    /// `x-` keys are anyone's, so a slip in `x-teal`, or one at a level that has none, would silently do nothing.
    fn warn_of_misspelt_extension(&self, entry: &Entry, item: &Item<'_>) {
        let Some(mut hint) = suggestion(&entry.key, ["x-teal"]) else { return };
        if self.level.standing("x-teal").is_none() {
            "Teal reads `x-teal` under a service, and at the top level of the file.".clone_into(&mut hint);
        }
        self.item.report.warning(entry.key_mark, &item.path, "an extension that Teal does not read", Some(hint));
    }
}
