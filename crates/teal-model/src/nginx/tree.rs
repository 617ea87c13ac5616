//! Directives and their blocks, with the bytes that each of them takes in its file.

use super::token::{Broken, Token, Tokens};

/// nginx's own configurations nest five levels deep.
const MAX_DEPTH: usize = 64;

/// Bytes of a file: from `start` up to, not with, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn of(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Without quotes and escapes.
    pub text: String,
    /// As it is written, quotes included.
    pub span: Span,
    pub line: usize,
    pub quoted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The name, then the arguments; there is always a name.
    pub words: Vec<Word>,
    /// From the name to the `;` or `}`, both included.
    pub span: Span,
    /// The line of its name; the first is 1.
    pub line: usize,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `name arguments;`
    None,
    /// `inner` is what stands between the braces.
    Block { directives: Vec<Directive>, inner: Span },
    /// Another language between the braces: `content_by_lua_block`.
    Raw(Span),
}

impl Directive {
    pub fn name(&self) -> &str {
        self.words.first().map_or("", |word| word.text.as_str())
    }

    pub fn args(&self) -> impl ExactSizeIterator<Item = &str> {
        self.words.iter().skip(1).map(|word| word.text.as_str())
    }

    pub fn directives(&self) -> &[Directive] {
        match &self.body {
            Body::Block { directives, .. } => directives,
            Body::None | Body::Raw(_) => &[],
        }
    }
}

/// A block whose `}` has not come yet.
struct Open {
    words: Vec<Word>,
    inner: usize,
    directives: Vec<Directive>,
}

pub(super) fn parse(text: &str) -> Result<Vec<Directive>, Broken> {
    let mut tokens = Tokens::new(text);
    let (mut open, mut directives, mut words): (Vec<Open>, Vec<Directive>, Vec<Word>) = Default::default();
    while let Some(placed) = tokens.next()? {
        let unexpected = |token: &str| Err((placed.line, format!("unexpected \"{token}\"")));
        match placed.token {
            Token::Word(word) => words.push(word),
            Token::Semicolon if words.is_empty() => return unexpected(";"),
            Token::Semicolon => {
                directives.push(directive(std::mem::take(&mut words), placed.span.end, Body::None));
            }
            Token::Open if words.is_empty() => return unexpected("{"),
            Token::Open if words[0].text.ends_with("_by_lua_block") => {
                let body = Body::Raw(tokens.raw_block()?);
                let end = match &body {
                    Body::Raw(span) => span.end + 1,
                    _ => placed.span.end,
                };
                directives.push(directive(std::mem::take(&mut words), end, body));
            }
            Token::Open if open.len() >= MAX_DEPTH => {
                return Err((placed.line, format!("nested deeper than {MAX_DEPTH} levels")));
            }
            Token::Open => open.push(Open {
                words: std::mem::take(&mut words),
                inner: placed.span.end,
                directives: std::mem::take(&mut directives),
            }),
            Token::Close if !words.is_empty() => return unexpected("}"),
            Token::Close => {
                let Some(block) = open.pop() else { return unexpected("}") };
                let inner = Span { start: block.inner, end: placed.span.start };
                let body = Body::Block { directives: std::mem::replace(&mut directives, block.directives), inner };
                directives.push(directive(block.words, placed.span.end, body));
            }
        }
    }
    match (words.first(), open.last()) {
        (Some(word), _) => Err((word.line, format!("`{}` has no `;` or `{{` before the end of the file", word.text))),
        (None, Some(block)) => {
            let (line, name) = block.words.first().map_or((tokens.line(), ""), |word| (word.line, word.text.as_str()));
            Err((line, format!("the block `{name}` is not closed before the end of the file")))
        }
        (None, None) => Ok(directives),
    }
}

fn directive(words: Vec<Word>, end: usize, body: Body) -> Directive {
    let (start, line) = words.first().map_or((end, 0), |word| (word.span.start, word.line));
    Directive { words, span: Span { start, end }, line, body }
}
