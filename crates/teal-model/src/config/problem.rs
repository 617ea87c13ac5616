//! What is wrong with a compose file, and where: data first, worded once, never with the value of a variable in it.

use super::interpolate::MAX_TOTAL;
use super::yaml::Mark;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

/// One thing to change, or (as a warning) to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// As shown to people: `compose.yaml`, `.env`.
    pub file: String,
    /// From 1; 0 when the problem belongs to no line.
    pub line: usize,
    /// From 1, in characters; 0 when the problem belongs to no line.
    pub column: usize,
    /// Where in the tree: `services.web.ports[0]`. Empty for the file as a whole.
    pub key: String,
    pub what: String,
    /// What to do instead: whole sentences.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `compose.yaml:12: services.web.prots: unknown key. Did you mean `ports`?`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// Collects what the readers find, so that one reading reports everything.
#[derive(Debug)]
pub(super) struct Report {
    /// As shown to people, by [`Mark::file`].
    files: RefCell<Vec<String>>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    unset: RefCell<BTreeSet<String>>,
    /// Bytes that variables were filled in with.
    filled: Cell<usize>,
}

impl Report {
    pub fn new() -> Self {
        Self {
            files: RefCell::default(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            unset: RefCell::default(),
            filled: Cell::default(),
        }
    }

    /// The number that marks in the file carry.
    pub fn add_file(&self, name: &str) -> u16 {
        let mut files = self.files.borrow_mut();
        files.push(name.to_owned());
        u16::try_from(files.len() - 1).unwrap_or(u16::MAX)
    }

    fn file(&self, mark: Mark) -> String {
        self.files.borrow().get(usize::from(mark.file)).cloned().unwrap_or_default()
    }

    /// `compose.yaml:12`, for a problem that has to do with two places.
    pub fn place(&self, mark: Mark) -> String {
        format!("{}:{}", self.file(mark), mark.line)
    }

    pub fn problem(&self, mark: Mark, key: &str, what: impl Into<String>, hint: impl Into<Option<String>>) {
        self.problem_in(&self.file(mark), mark, key, what, hint);
    }

    /// A problem in another file than the compose file (`.env`, an `env_file`).
    pub fn problem_in(
        &self,
        file: &str,
        mark: Mark,
        key: &str,
        what: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.problems.borrow_mut().push(problem(file, mark, key, what.into(), hint.into()));
    }

    pub fn warning(&self, mark: Mark, key: &str, what: impl Into<String>, hint: impl Into<Option<String>>) {
        self.warning_in(&self.file(mark), mark, key, what, hint);
    }

    fn warning_in(&self, file: &str, mark: Mark, key: &str, what: impl Into<String>, hint: impl Into<Option<String>>) {
        self.warnings.borrow_mut().push(problem(file, mark, key, what.into(), hint.into()));
    }

    /// Once a variable, as Compose does: a file that uses it ten times has one thing to change.
    pub fn unset_variable(&self, file: Option<&str>, mark: Mark, key: &str, name: &str) {
        if self.unset.borrow_mut().insert(name.to_owned()) {
            let what = format!("variable `{name}` is not set; an empty string is used");
            let hint = format!("Set it in the environment or in `.env`, or write `${{{name}:-}}` if it may be empty.");
            let own = self.file(mark);
            self.warning_in(file.unwrap_or(&own), mark, key, what, hint);
        }
    }

    /// Whether another value of so many bytes still fits.
    pub fn allows(&self, bytes: usize) -> bool {
        self.filled.set(self.filled.get().saturating_add(bytes));
        self.filled.get() <= MAX_TOTAL
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Problems, each behind what is to know of the same value: a variable that is not set may be all that is wrong there.
    pub fn finish_failed(self) -> Vec<Problem> {
        let (problems, mut warnings) = self.finish();
        let mut all = Vec::new();
        for problem in problems {
            let place = |p: &Problem| (p.file.clone(), p.line, p.key.clone());
            all.extend(warnings.extract_if(.., |warning| place(warning) == place(&problem)));
            all.push(problem);
        }
        all
    }

    /// Problems and warnings, each in the order of the files.
    pub fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let files = self.files.into_inner();
        let mut problems = self.problems.into_inner();
        let mut warnings = self.warnings.into_inner();
        for list in [&mut problems, &mut warnings] {
            list.sort_by(|a, b| {
                let number = |p: &Problem| files.iter().position(|file| *file == p.file).unwrap_or(usize::MAX);
                let order = |p: &Problem| (number(p), p.file.clone(), p.line, p.column);
                order(a).cmp(&order(b))
            });
            // An alias and `extends` bring the same text to several places, and it is to be changed once.
            list.dedup_by(|a, b| {
                let text = |p: &Problem| (p.file.clone(), p.line, p.column, p.what.clone(), p.hint.clone());
                text(a) == text(b)
            });
        }
        (problems, warnings)
    }
}

fn problem(file: &str, mark: Mark, key: &str, what: String, hint: Option<String>) -> Problem {
    Problem { file: file.to_owned(), line: mark.line, column: mark.column, key: key.to_owned(), what, hint }
}

/// The known word that a misspelt one was most likely meant to be.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = word.to_lowercase().replace('-', "_");
    // A third of the letters may be wrong, so short words need a close match and `x` is never taken for `name`.
    let most = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&wanted, &k.to_lowercase().replace('-', "_")), k))
        .filter(|(distance, k)| *distance <= most && *distance < k.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// The first known word that this one leaves letters out of: `img`, `cmd`, `env`.
pub(super) fn written_out<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let leaves_out = |known: &str| {
        let mut letters = known.chars();
        known.starts_with(word.chars().next()?).then(|| word.chars().all(|c| letters.any(|letter| letter == c)))
    };
    // Two letters are in many words.
    known.into_iter().find(|k| word.len() >= 3 && leaves_out(k) == Some(true))
}

/// `Did you mean `ports`?`
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    did_you_mean(word, known).map(|k| format!("Did you mean `{k}`?"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_file_line_key_what_and_hint() {
        let mut p = Problem {
            file: "compose.yaml".into(),
            line: 12,
            column: 5,
            key: "services.web.prots".into(),
            what: "unknown key".into(),
            hint: Some("Did you mean `ports`?".into()),
        };
        assert_eq!(p.to_string(), "compose.yaml:12: services.web.prots: unknown key. Did you mean `ports`?");
        p.line = 0;
        p.key.clear();
        p.hint = None;
        assert_eq!(p.to_string(), "compose.yaml: unknown key");
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_finds_none() {
        let known = ["ports", "image", "environment", "env_file", "x-teal"];
        for (word, want) in [
            ("prots", Some("ports")),
            ("Image", Some("image")),
            ("enviroment", Some("environment")),
            ("env-file", Some("env_file")),
            ("x_teal", Some("x-teal")),
            ("q", None),
            ("volumes", None),
        ] {
            assert_eq!(did_you_mean(word, known), want, "{word}");
        }
    }

    #[test]
    fn a_short_word_finds_the_long_one() {
        let known = ["image", "command", "environment", "env_file", "volumes"];
        for (word, want) in [
            ("img", Some("image")),
            ("cmd", Some("command")),
            ("env", Some("environment")),
            ("vol", Some("volumes")),
            ("mage", None),
            ("im", None),
            ("gim", None),
            ("", None),
        ] {
            assert_eq!(written_out(word, known), want, "{word}");
        }
    }

    #[test]
    fn an_unset_variable_is_named_once() {
        let report = Report::new();
        report.add_file("compose.yaml");
        for line in 1..4 {
            report.unset_variable(None, Mark { file: 0, line, column: 1 }, "services.web.image", "TAG");
        }
        let (problems, warnings) = report.finish();
        assert!(problems.is_empty());
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].line, 1);
    }

    #[test]
    fn problems_travel_as_json() {
        let p = problem("compose.yaml", Mark { file: 0, line: 1, column: 2 }, "name", "wrong".into(), None);
        let text = serde_json::to_string(&p).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), p);
    }
}
