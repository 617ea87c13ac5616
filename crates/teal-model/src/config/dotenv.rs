//! `.env` and `env_file`: `NAME=value` lines with quotes, `export`, comments and variables.
//!
//! Values are secrets: a problem names the line and the variable, never what stands behind the `=`.

use super::interpolate::{Failure, Lookup, MAX_TOTAL, interpolate_leniently};
use std::collections::BTreeMap;

/// What is wrong with a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub line: usize,
    /// The variable, where one was read.
    pub name: String,
    pub what: String,
}

/// The variables of a file, and what must be said about it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Dotenv {
    pub values: BTreeMap<String, String>,
    pub faults: Vec<Fault>,
    /// Variables that were used and are not set: line, name.
    pub unset: Vec<(usize, String)>,
    /// Bytes of the values so far.
    filled: usize,
}

/// Compose's dotenv syntax. `lookup` is asked before the lines above.
pub(super) fn parse(text: &str, lookup: Lookup) -> Dotenv {
    let mut out = Dotenv::default();
    let mut lines = Lines { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 0 };
    while let Some(line) = lines.next() {
        let statement = line.trim();
        if statement.is_empty() || statement.starts_with('#') {
            continue;
        }
        let at = lines.line;
        match read_statement(statement, line, &mut lines) {
            Ok(Statement::Inherit(name)) => {
                if let Some(value) = lookup(name) {
                    out.values.insert(name.to_owned(), value);
                }
            }
            Ok(Statement::Set(name, value)) => match out.fill_in(at, value, lookup) {
                Ok(value) => {
                    out.values.insert(name.to_owned(), value);
                }
                Err(failure) => out.faults.push(Fault { line: at, name: name.to_owned(), what: failure.what() }),
            },
            Err((name, what)) => out.faults.push(Fault { line: at, name: name.to_owned(), what: what.to_owned() }),
        }
    }
    out
}

/// `format: raw`: everything after the first `=` is the value, as `docker run --env-file` reads it.
pub(super) fn parse_raw(text: &str, lookup: Lookup) -> Dotenv {
    let mut out = Dotenv::default();
    for (n, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line.trim_end(), lookup(line.trim_end())),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            out.faults.push(Fault { line: n + 1, name: String::new(), what: BAD_NAME.to_owned() });
        } else if let Some(value) = value {
            out.values.insert(name.to_owned(), value);
        }
    }
    out
}

const BAD_NAME: &str = "no `NAME=value`: a name is letters, digits, `_`, `.` and `-`";

impl Dotenv {
    fn fill_in(&mut self, line: usize, value: Raw, lookup: Lookup) -> Result<String, Failure> {
        let text = match value {
            Raw::Literal(text) => return Ok(text),
            Raw::Template(text) => text,
        };
        let values = &self.values;
        let both = |name: &str| lookup(name).or_else(|| values.get(name).cloned());
        let unset = &mut self.unset;
        let value = interpolate_leniently(&text, &both, &mut |name| unset.push((line, name.to_owned())))?;
        self.filled += value.len();
        if self.filled > MAX_TOTAL { Err(Failure::TooMuch) } else { Ok(value) }
    }
}

struct Lines<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }
}

enum Statement<'a> {
    Set(&'a str, Raw),
    /// A name alone takes the value of the environment.
    Inherit(&'a str),
}

enum Raw {
    /// From single quotes.
    Literal(String),
    Template(String),
}

type Wrong<'a> = (&'a str, &'static str);

fn read_statement<'a>(statement: &'a str, line: &'a str, lines: &mut Lines<'a>) -> Result<Statement<'a>, Wrong<'a>> {
    let body = match statement.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => statement,
    };
    let Some(at) = body.find(['=', ':']) else {
        return if is_name(body) { Ok(Statement::Inherit(body)) } else { Err(("", BAD_NAME)) };
    };
    let name = body[..at].trim_end();
    if !is_name(name) {
        return Err(("", BAD_NAME));
    }
    // Cut from the whole line: a quoted value may end in spaces, and may go on below.
    let value = line[line.len() - line.trim_start().len()..].get(statement.len() - body.len() + at + 1..).unwrap_or("");
    let value = value.trim_start();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let text = read_quoted(&value[1..], quote, lines).map_err(|what| (name, what))?;
            Ok(Statement::Set(name, if quote == '"' { Raw::Template(text) } else { Raw::Literal(text) }))
        }
        _ => Ok(Statement::Set(name, Raw::Template(without_comment(value).to_owned()))),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// A `#` starts a comment when a space is before it: `a#b` is a value, and so is `#b`.
fn without_comment(value: &str) -> &str {
    let comment = value.match_indices('#').map(|(at, _)| at).find(|at| value[..*at].ends_with(char::is_whitespace));
    value[..comment.unwrap_or(value.len())].trim_end()
}

/// The text up to the closing quote, over as many lines as it takes.
fn read_quoted<'a>(start: &'a str, quote: char, lines: &mut Lines<'a>) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut part = start;
    loop {
        let mut chars = part.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                let after = part[at + 1..].trim();
                let clean = after.is_empty() || after.starts_with('#');
                return if clean { Ok(out) } else { Err("text after the closing quote") };
            }
            if c == '\\' {
                match chars.next() {
                    Some((_, next)) => unescape(next, quote, &mut out),
                    None => out.push('\\'),
                }
            } else {
                out.push(c);
            }
        }
        match lines.next() {
            Some(line) => {
                out.push('\n');
                part = line;
            }
            None => return Err("a quote that is never closed"),
        }
    }
}

fn unescape(c: char, quote: char, out: &mut String) {
    match c {
        _ if c == quote => out.push(c),
        'n' if quote == '"' => out.push('\n'),
        'r' if quote == '"' => out.push('\r'),
        't' if quote == '"' => out.push('\t'),
        '\\' if quote == '"' => out.push('\\'),
        // Written so that the interpolation that follows leaves it a dollar.
        '$' if quote == '"' => out.push_str("$$"),
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "OUTER").then(|| "outside".to_owned())
    }

    fn values(text: &str) -> BTreeMap<String, String> {
        let out = parse(text, &lookup);
        assert_eq!(out.faults, [], "{text}");
        out.values
    }

    #[test]
    fn every_way_to_write_a_value_is_understood() {
        for (text, want) in [
            ("A=1", "1"),
            ("A = 1 ", "1"),
            ("A: 1", "1"),
            ("export A=1", "1"),
            ("A=", ""),
            ("A=a b", "a b"),
            ("A=a#b", "a#b"),
            ("A=#b", "#b"),
            ("A=a # b", "a"),
            ("A=a=b:c", "a=b:c"),
            ("A=\"a # b\" # c", "a # b"),
            ("A=\"x\\ty\\n\\\"z\\\" \\\\ \\$OUTER\"", "x\ty\n\"z\" \\ $OUTER"),
            ("A='a $OUTER \\n'", "a $OUTER \\n"),
            ("A='it\\'s'", "it's"),
            ("A=$OUTER/${NONE:-d}", "outside/d"),
            ("A=\"$OUTER\"", "outside"),
            ("A=pa$1word$", "pa$1word$"),
            ("A=a$$b", "a$b"),
            ("A=\"one\ntwo\n\"", "one\ntwo\n"),
            ("A='one\n  two'", "one\n  two"),
            ("A=1\r\n", "1"),
            ("\u{feff}A=1", "1"),
            ("A={\"k\": [1]}", "{\"k\": [1]}"),
            ("A=ключ", "ключ"),
        ] {
            assert_eq!(values(text).get("A").map(String::as_str), Some(want), "{text:?}");
        }
    }

    #[test]
    fn lines_build_on_the_lines_above_and_the_environment_comes_first() {
        let out = values("# head\n\nA=1\nB=${A}2\nOUTER=own\nC=$OUTER\nOUTER\nNONE\n");
        assert_eq!(out["B"], "12");
        assert_eq!(out["C"], "outside");
        assert_eq!(out["OUTER"], "outside", "a name alone is taken from the environment");
        assert!(!out.contains_key("NONE"));
    }

    #[test]
    fn a_fault_names_line_and_variable_but_never_the_value() {
        let out = parse("OK=1\nA=\"sesame\nB=2\n", &lookup);
        assert_eq!(out.faults.len(), 1);
        assert_eq!((out.faults[0].line, out.faults[0].name.as_str()), (2, "A"));
        for text in ["sesame value", "1A=sesame", "A=\"sesame\" more", "=sesame", "A B=sesame", "A=${X:?gone}"] {
            let out = parse(text, &lookup);
            assert_eq!(out.faults.len(), 1, "{text}");
            assert!(!format!("{:?}", out.faults).contains("sesame"), "{text}");
        }
    }

    #[test]
    fn unset_variables_are_told_with_their_line() {
        assert_eq!(parse("A=1\nB=$NONE\n", &lookup).unset, [(2, "NONE".to_owned())]);
    }

    #[test]
    fn variables_that_double_each_other_are_stopped() {
        let mut text = "A0=xxxxxxxxxx\n".to_owned();
        for n in 1..40 {
            text += &format!("A{n}=$A{}$A{}\n", n - 1, n - 1);
        }
        let out = parse(&text, &lookup);
        assert!(!out.faults.is_empty());
        assert!(out.values.values().all(|v| v.len() <= 1 << 20));

        let long = format!("A={}\n{}", "x".repeat(1 << 20), (0..100).map(|n| format!("B{n}=$A\n")).collect::<String>());
        assert!(parse(&long, &lookup).values.values().map(String::len).sum::<usize>() <= 17 << 20);
    }

    #[test]
    fn raw_files_are_taken_letter_by_letter() {
        let out = parse_raw("A=\"$OUTER\" # x\n# comment\n\nOUTER\nNONE\nB=\n", &lookup);
        assert_eq!(out.values["A"], "\"$OUTER\" # x");
        assert_eq!(out.values["OUTER"], "outside");
        assert_eq!(out.values["B"], "");
        assert!(!out.values.contains_key("NONE"));
        assert_eq!(parse_raw("=x\n", &lookup).faults.len(), 1);
    }
}
