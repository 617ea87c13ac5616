//! `$VAR`, `${VAR:-default}` and their kin, by the Compose specification's chapter on interpolation.

use super::problem::Report;
use super::yaml::{Node, Value, join};

/// What one value may grow to: variables that hold variables multiply quickly.
const MAX_LEN: usize = 1 << 20;
/// What all values of a file may grow to.
pub(super) const MAX_TOTAL: usize = 16 << 20;
const MAX_DEPTH: usize = 32;

/// The variables that are set, by name.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a text cannot be interpolated. It never holds the value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// `${VAR:?message}` and VAR is not there; the message is as written in the file.
    Required {
        name: String,
        message: String,
    },
    Syntax(&'static str),
    /// This value alone.
    TooLong,
    /// All values of the file together.
    TooMuch,
}

impl Failure {
    pub fn what(&self) -> String {
        match self {
            Failure::Required { name, message } if message.is_empty() => format!("variable `{name}` is required"),
            Failure::Required { name, message } => format!("variable `{name}` is required: {message}"),
            Failure::Syntax(what) => (*what).to_owned(),
            Failure::TooLong => format!("grows beyond {MAX_LEN} bytes when its variables are filled in"),
            Failure::TooMuch => format!("the file grows beyond {MAX_TOTAL} bytes when its variables are filled in"),
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Failure::Required { .. } => Some("Set it in the environment or in `.env`.".to_owned()),
            Failure::Syntax(_) => Some("Write `${NAME}` for a variable, and `$$` for a `$`.".to_owned()),
            Failure::TooLong | Failure::TooMuch => None,
        }
    }
}

/// The text with its variables filled in; `unset` hears of each that is empty because nobody set it.
pub(super) fn interpolate(text: &str, lookup: Lookup, unset: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    Interpolation { lookup, unset, stray_dollars: false }.expand(text, 0)
}

/// The same with a `$` that starts no variable kept as it is, as dotenv files have it (`PASSWORD=pa$1`).
pub(super) fn interpolate_leniently(
    text: &str,
    lookup: Lookup,
    unset: &mut dyn FnMut(&str),
) -> Result<String, Failure> {
    Interpolation { lookup, unset, stray_dollars: true }.expand(text, 0)
}

struct Interpolation<'a> {
    lookup: Lookup<'a>,
    unset: &'a mut dyn FnMut(&str),
    stray_dollars: bool,
}

impl Interpolation<'_> {
    fn expand(&mut self, text: &str, depth: usize) -> Result<String, Failure> {
        if depth > MAX_DEPTH {
            return Err(Failure::Syntax("variables nested too deeply"));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out += &rest[..at];
            let after = &rest[at + 1..];
            let name = &after[..name_len(after)];
            if let Some(next) = after.strip_prefix('$') {
                out.push('$');
                rest = next;
            } else if !name.is_empty() {
                out += &self.value_or_empty(name);
                rest = &after[name.len()..];
            } else if let Some((value, next)) = self.braced(after, depth)? {
                out += &value;
                rest = next;
            } else {
                out.push('$');
                rest = after;
            }
            if out.len() > MAX_LEN {
                return Err(Failure::TooLong);
            }
        }
        out += rest;
        if out.len() > MAX_LEN { Err(Failure::TooLong) } else { Ok(out) }
    }

    fn value_or_empty(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            (self.unset)(name);
            String::new()
        })
    }

    /// `{NAME...}` after the dollar, and what follows it. None: the `$` stands for itself.
    fn braced<'t>(&mut self, after: &'t str, depth: usize) -> Result<Option<(String, &'t str)>, Failure> {
        let stray = |what| if self.stray_dollars { Ok(None) } else { Err(Failure::Syntax(what)) };
        let Some(inside) = after.strip_prefix('{') else {
            return stray("a `$` that starts no variable");
        };
        let Some(end) = closing_brace(inside) else {
            return stray("a `${` without its `}`");
        };
        let (body, next) = (&inside[..end], &inside[end + 1..]);
        let (name, rest) = body.split_at(name_len(body));
        if name.is_empty() {
            return stray("a `${` without the name of a variable");
        }
        if rest.is_empty() {
            return Ok(Some((self.value_or_empty(name), next)));
        }
        let (empty_counts_as_unset, rest) = match rest.strip_prefix(':') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let value = (self.lookup)(name).filter(|value| !(empty_counts_as_unset && value.is_empty()));
        let Some(word) = rest.get(1..) else {
            return stray("a `${NAME:` without what to do");
        };
        let value = match (&rest[..1], value) {
            ("-", Some(value)) | ("?", Some(value)) => value,
            ("-", None) | ("+", Some(_)) => self.expand(word, depth + 1)?,
            ("+", None) => String::new(),
            ("?", None) => return Err(Failure::Required { name: name.to_owned(), message: word.to_owned() }),
            _ => return stray("a `${NAME...}` that is none of `:-`, `-`, `:?`, `?`, `:+`, `+`"),
        };
        Ok(Some((value, next)))
    }
}

/// How many bytes of the text are a variable's name.
fn name_len(text: &str) -> usize {
    match text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => 0,
        Some(end) => end,
        None => text.len(),
    }
}

/// Where the brace closes that was opened just before the text; only `${` opens another, as in Compose.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (at, c) in text.char_indices() {
        if c == '}' {
            open -= 1;
            if open == 0 {
                return Some(at);
            }
        } else if c == '$' && text[at + 1..].starts_with('{') {
            open += 1;
        }
    }
    None
}

/// Fills in the variables of every value below the node; keys stay as written.
pub(super) fn interpolate_tree(node: &mut Node, path: &str, lookup: Lookup, report: &Report) {
    let mark = node.mark;
    match &mut node.value {
        Value::Scalar { text, plain } if text.contains('$') => {
            let filled = interpolate(text, lookup, &mut |name| report.unset_variable(None, mark, path, name))
                .and_then(|value| if report.allows(value.len()) { Ok(value) } else { Err(Failure::TooMuch) });
            match filled {
                Ok(value) => {
                    *text = value;
                    // Compose gives the readers a string here, so `${NOTHING}` is an empty string and not null.
                    *plain = false;
                }
                Err(failure) => {
                    report.problem(mark, path, failure.what(), failure.hint());
                    node.value = Value::Unknown;
                }
            }
        }
        Value::Scalar { .. } | Value::Unknown => {}
        Value::List(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                interpolate_tree(item, &format!("{path}[{n}]"), lookup, report);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                interpolate_tree(&mut entry.node, &join(path, &entry.key), lookup, report);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "TAG" => Some("1.2".to_owned()),
            "EMPTY" => Some(String::new()),
            "_x1" => Some("under".to_owned()),
            "DOLLAR" => Some("$TAG".to_owned()),
            "LONG" => Some("x".repeat(300_000)),
            _ => None,
        }
    }

    fn run(text: &str) -> Result<(String, Vec<String>), Failure> {
        let mut unset = Vec::new();
        interpolate(text, &lookup, &mut |name| unset.push(name.to_owned())).map(|out| (out, unset))
    }

    #[test]
    fn every_form_of_the_specification_is_filled_in() {
        for (text, want) in [
            ("app:$TAG", "app:1.2"),
            ("app:${TAG}-x", "app:1.2-x"),
            ("$_x1/$TAG.", "under/1.2."),
            ("${TAG:-d}", "1.2"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE-}", ""),
            ("${TAG:?no}", "1.2"),
            ("${EMPTY?no}", ""),
            ("${TAG:+alt}", "alt"),
            ("${EMPTY:+alt}", ""),
            ("${EMPTY+alt}", "alt"),
            ("${NONE+alt}", ""),
            ("${NONE:-${ALSO:-${TAG}}}", "1.2"),
            ("${NONE:-$TAG/${EMPTY:-e}}", "1.2/e"),
            ("${NONE:-a:b-c?d}", "a:b-c?d"),
            ("${NONE:-{\"a\":1}}", "{\"a\":1}"),
            ("$$TAG $${TAG} $$$TAG", "$TAG ${TAG} $1.2"),
            ("$DOLLAR", "$TAG"),
            ("no variable", "no variable"),
            ("", ""),
            ("ünï$TAG", "ünï1.2"),
            ("${NONE:-ü}", "ü"),
        ] {
            assert_eq!(run(text), Ok((want.to_owned(), vec![])), "{text}");
        }
    }

    #[test]
    fn an_unset_variable_without_default_is_empty_and_named() {
        assert_eq!(run("a$NONE-${ALSO}"), Ok(("a-".to_owned(), vec!["NONE".to_owned(), "ALSO".to_owned()])));
        assert_eq!(run("${TAG:-$NONE}"), Ok(("1.2".to_owned(), vec![])), "a default that is not used is not looked at");
    }

    #[test]
    fn a_required_variable_fails_with_its_message() {
        for text in ["${NONE:?set me}", "${NONE?set me}"] {
            assert_eq!(run(text), Err(Failure::Required { name: "NONE".into(), message: "set me".into() }));
        }
        assert!(matches!(run("${EMPTY:?}"), Err(Failure::Required { .. })));
    }

    #[test]
    fn a_dollar_that_starts_no_variable_is_refused_with_the_way_to_write_it() {
        for text in [
            "$",
            "a$",
            "$1",
            "$ x",
            "${",
            "${}",
            "${1}",
            "${TAG",
            "${TAG:}",
            "${TAG!x}",
            "${TAG:=x}",
            "${T A}",
            "${TAGü}",
        ] {
            let failure = run(text).unwrap_err();
            assert!(matches!(failure, Failure::Syntax(_)), "{text}: {failure:?}");
            assert!(failure.hint().unwrap().contains("$$"));
        }
    }

    #[test]
    fn dotenv_files_may_hold_stray_dollars() {
        for (text, want) in [("pa$1", "pa$1"), ("$", "$"), ("${", "${"), ("a$TAG$", "a1.2$"), ("${TAG!}", "${TAG!}")] {
            assert_eq!(interpolate_leniently(text, &lookup, &mut |_| {}), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn growth_and_nesting_are_bounded() {
        assert_eq!(run(&"$LONG".repeat(10)), Err(Failure::TooLong));
        let deep = format!("{}x{}", "${NONE:-".repeat(100), "}".repeat(100));
        assert!(run(&deep).is_err());
    }
}
