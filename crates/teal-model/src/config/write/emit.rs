//! YAML as people write it: two spaces, block style, quotes where a reader could be in doubt.

#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// As it stands in the file.
    Scalar(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

pub fn strings(words: &[String]) -> Yaml {
    Yaml::List(words.iter().map(|word| Yaml::quoted(word)).collect())
}

impl Yaml {
    /// Text; `$` is doubled, since what stands here is interpolated.
    pub fn text(text: &str) -> Self {
        if is_plain(text) { Yaml::Scalar(text.to_owned()) } else { Self::quoted(text) }
    }

    pub fn quoted(text: &str) -> Self {
        Yaml::Scalar(in_quotes(&text.replace('$', "$$")))
    }

    /// A number, a time, a boolean: something that is none of people's words.
    pub fn plain(value: impl ToString) -> Self {
        Yaml::Scalar(value.to_string())
    }

    pub fn bool(value: bool) -> Self {
        Self::plain(value)
    }

    pub fn document(&self) -> String {
        let mut out = String::new();
        self.write(0, &mut out);
        out
    }

    /// A block, from the start of a line.
    fn write(&self, indent: usize, out: &mut String) {
        let margin = " ".repeat(indent);
        match self {
            Yaml::Scalar(text) => out.push_str(&format!("{margin}{text}\n")),
            Yaml::List(items) => {
                for item in items {
                    let mut block = String::new();
                    item.write(indent + 2, &mut block);
                    // The dash stands where the block begins.
                    out.push_str(&format!("{margin}- {}", &block[(indent + 2).min(block.len())..]));
                }
            }
            Yaml::Map(entries) => {
                for (key, value) in entries {
                    let key = if is_plain(key) { key.clone() } else { in_quotes(key) };
                    out.push_str(&format!("{margin}{key}:"));
                    value.write_value(indent, out);
                }
            }
        }
    }

    /// What follows `key:`.
    fn write_value(&self, indent: usize, out: &mut String) {
        match self {
            Yaml::Scalar(text) => out.push_str(&format!(" {text}\n")),
            Yaml::List(items) if items.is_empty() => out.push_str(" []\n"),
            Yaml::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
            // Words of a command line read best on one line.
            Yaml::List(items) if self.is_short() => {
                let words: Vec<&str> = items.iter().filter_map(Yaml::scalar).collect();
                out.push_str(&format!(" [{}]\n", words.join(", ")));
            }
            Yaml::List(_) | Yaml::Map(_) => {
                out.push('\n');
                self.write(indent + 2, out);
            }
        }
    }

    fn scalar(&self) -> Option<&str> {
        match self {
            Yaml::Scalar(text) => Some(text),
            Yaml::List(_) | Yaml::Map(_) => None,
        }
    }

    fn is_short(&self) -> bool {
        let Yaml::List(items) = self else { return false };
        let words: Option<Vec<&str>> = items.iter().map(Yaml::scalar).collect();
        // What is plain in a block might not be plain between brackets.
        let fits = |word: &&str| {
            word.starts_with('"') || word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        };
        words.is_some_and(|words| words.iter().all(fits) && words.iter().map(|word| word.len() + 2).sum::<usize>() < 90)
    }
}

/// A word that no version of YAML reads as anything but this text.
fn is_plain(text: &str) -> bool {
    const SAID_OTHERWISE: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan"];
    let first = |c: char| c.is_ascii_alphabetic() || c == '/' || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let mut chars = text.chars().peekable();
    let colons_inside = || {
        text.char_indices()
            .filter(|(_, c)| *c == ':')
            .all(|(at, _)| !matches!(text[at + 1..].chars().next(), None | Some(' ')))
    };
    chars.peek().is_some_and(|c| first(*c))
        && chars.all(|c| rest(c) || c == ':' || c == '@')
        && colons_inside()
        && !SAID_OTHERWISE.contains(&text.to_ascii_lowercase().as_str())
}

/// JSON's strings are YAML's, in double quotes.
fn in_quotes(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    // What YAML takes for the end of a line, or may not stand in a file at all.
    let odd = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    json.chars().map(|c| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}
