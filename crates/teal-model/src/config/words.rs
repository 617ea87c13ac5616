//! A command line as words, the way Compose splits `command` and `entrypoint`: quotes and backslashes, but no shell.

use super::read::Item;

/// Why a text is no list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsplit {
    /// A quote that is never closed, or a backslash at the end.
    Open,
    /// `&&`, `|`, `>`, `(` ...: only a shell understands them, and there is none.
    Shell(char),
}

/// Words as they are, or a line that is split into words.
pub(super) fn read(item: &Item<'_>) -> Option<Vec<String>> {
    if item.is_list() {
        return item.strings();
    }
    match split(item.text()?) {
        Ok(words) => Some(words),
        Err(Unsplit::Open) => {
            item.problem("a quote that is never closed", "Write a list: `[\"program\", \"argument\"]`.");
            None
        }
        Err(Unsplit::Shell(c)) => {
            item.problem(
                format!("`{c}` needs a shell, and none runs here"),
                "Write `[\"sh\", \"-c\", \"...\"]`, or put quotes around the word.",
            );
            None
        }
    }
}

/// The same, of a program of somebody's own: at least its name.
pub(super) fn read_program(item: &Item<'_>) -> Option<Vec<String>> {
    let words = read(item)?;
    if words.first().is_none_or(String::is_empty) {
        item.problem("an empty command", "Write a list: `[\"program\", \"argument\"]`.");
        return None;
    }
    Some(words)
}

fn split(text: &str) -> Result<Vec<String>, Unsplit> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                let next = chars.next().ok_or(Unsplit::Open)?;
                word.get_or_insert_default().push(match next {
                    't' => '\t',
                    'n' => '\n',
                    other => other,
                });
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (';' | '&' | '|' | '<' | '>' | '(' | ')', None) => return Err(Unsplit::Shell(c)),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Unsplit::Open);
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_compose_splits_them() {
        for (text, want) in [
            ("nginx -g 'daemon off;'", vec!["nginx", "-g", "daemon off;"]),
            ("  a   b\tc\nd ", vec!["a", "b", "c", "d"]),
            ("sh -c \"echo \\\"x\\\" && y\"", vec!["sh", "-c", "echo \"x\" && y"]),
            ("a\\ b 'c\\d' e'f g'h", vec!["a b", "c\\d", "ef gh"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("", vec![]),
            ("   ", vec![]),
            ("--x=$HOME", vec!["--x=$HOME"]),
        ] {
            assert_eq!(split(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_needs_a_shell_or_a_closing_quote_is_told() {
        for (text, want) in [
            ("a && b", Unsplit::Shell('&')),
            ("a | b", Unsplit::Shell('|')),
            ("a > b", Unsplit::Shell('>')),
            ("a; b", Unsplit::Shell(';')),
            ("$(date)", Unsplit::Shell('(')),
            ("a 'b", Unsplit::Open),
            ("a \"b", Unsplit::Open),
            ("a \\", Unsplit::Open),
        ] {
            assert_eq!(split(text), Err(want), "{text}");
        }
    }
}
