//! Words, `;`, `{` and `}` of a text, as `ngx_conf_read_token` of nginx tells them apart.

use super::tree::{Span, Word};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    Semicolon,
    Open,
    Close,
}

/// A token, its bytes, and the line that it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub token: Token,
    pub span: Span,
    pub line: usize,
}

/// Line and reason.
pub(super) type Broken = (usize, String);

pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    /// A quoted word ended just here: nginx wants a space, `;` or `{` after it.
    closed_quote: bool,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1, closed_quote: false }
    }

    pub fn line(&self) -> usize {
        self.line
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self) {
        if self.byte() == Some(b'\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    /// None: the text has ended.
    pub fn next(&mut self) -> Result<Option<Placed>, Broken> {
        if self.closed_quote {
            self.closed_quote = false;
            match self.byte() {
                None | Some(b';' | b'{') => {}
                Some(byte) if is_space(byte) => {}
                // It begins the next word at once: `"^(a)"` before the `)` of an `if`.
                Some(b')') => {}
                Some(_) => {
                    let found = self.text[self.at..].chars().next().unwrap_or_default();
                    return Err((self.line, format!("unexpected \"{found}\" after a closing quote")));
                }
            }
        }
        self.skip_to_token();
        let (start, line) = (self.at, self.line);
        let Some(byte) = self.byte() else { return Ok(None) };
        let token = match byte {
            b';' => Token::Semicolon,
            b'{' => Token::Open,
            b'}' => Token::Close,
            b'"' | b'\'' => return self.quoted(byte).map(Some),
            _ => return self.bare().map(Some),
        };
        self.step();
        Ok(Some(Placed { token, span: Span { start, end: self.at }, line }))
    }

    fn skip_to_token(&mut self) {
        while let Some(byte) = self.byte() {
            if byte == b'#' {
                while self.byte().is_some_and(|byte| byte != b'\n') {
                    self.step();
                }
            } else if is_space(byte) {
                self.step();
            } else {
                return;
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<Placed, Broken> {
        let (start, line) = (self.at, self.line);
        self.step();
        loop {
            match self.byte() {
                None => return Err((line, format!("the quote {} is not closed", char::from(quote)))),
                Some(b'\\') => self.escaped(),
                Some(byte) => {
                    self.step();
                    if byte == quote {
                        break;
                    }
                }
            }
        }
        self.closed_quote = true;
        Ok(self.word(start, line, Span { start: start + 1, end: self.at - 1 }, true))
    }

    /// Up to a space, `;` or `{`; the `{` of `${name}` belongs to the word, and so does a `}` inside of it.
    fn bare(&mut self) -> Result<Placed, Broken> {
        let (start, line) = (self.at, self.line);
        let mut variable = false;
        while let Some(byte) = self.byte() {
            match byte {
                b'{' if variable => self.step(),
                b'{' | b';' => break,
                byte if is_space(byte) => break,
                b'\\' => {
                    variable = false;
                    self.escaped();
                }
                byte => {
                    variable = byte == b'$';
                    self.step();
                }
            }
        }
        Ok(self.word(start, line, Span { start, end: self.at }, false))
    }

    /// A backslash, and whatever stands behind it.
    fn escaped(&mut self) {
        self.step();
        if self.byte().is_some() {
            self.step();
        }
    }

    fn word(&self, start: usize, line: usize, inner: Span, quoted: bool) -> Placed {
        let span = Span { start, end: self.at };
        let text = unescaped(inner.of(self.text));
        Placed { token: Token::Word(Word { text, span, line, quoted }), span, line }
    }

    /// The text of a block that is not nginx's own language, up to the `}` that closes it; strings and comments are Lua's.
    pub fn raw_block(&mut self) -> Result<Span, Broken> {
        let (start, line) = (self.at, self.line);
        let mut depth = 1;
        while let Some(byte) = self.byte() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => {
                    let span = Span { start, end: self.at };
                    self.step();
                    return Ok(span);
                }
                b'}' => depth -= 1,
                b'"' | b'\'' => {
                    self.step();
                    while self.byte().is_some_and(|inside| inside != byte && inside != b'\n') {
                        if self.byte() == Some(b'\\') { self.escaped() } else { self.step() }
                    }
                }
                b'-' if self.text[self.at..].starts_with("--") => {
                    while self.byte().is_some_and(|byte| byte != b'\n') {
                        self.step();
                    }
                    continue;
                }
                _ => {}
            }
            if self.byte().is_some() {
                self.step();
            }
        }
        Err((line, "a block that begins here is not closed".to_owned()))
    }
}

/// nginx takes the backslash away before quotes, itself, and in `\t`, `\r` and `\n`; before anything else it stays.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let replaced = match (char, chars.peek()) {
            ('\\', Some(next @ ('"' | '\'' | '\\'))) => Some(*next),
            ('\\', Some('t')) => Some('\t'),
            ('\\', Some('r')) => Some('\r'),
            ('\\', Some('n')) => Some('\n'),
            _ => None,
        };
        match replaced {
            Some(one) => {
                out.push(one);
                chars.next();
            }
            None => out.push(char),
        }
    }
    out
}

/// A word as it must be written to be read as this text.
pub(super) fn quoted(text: &str) -> String {
    let plain = |char: char| !char.is_whitespace() && !matches!(char, ';' | '{' | '}' | '"' | '\'' | '\\' | '#');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
