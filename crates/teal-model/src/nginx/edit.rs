//! Changes to single directives; every other byte stays.

use super::token::quoted;
use super::{Body, Node, Span};

/// What to put in the place of some bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub file: String,
    pub span: Span,
    pub text: String,
}

/// The whole directive becomes this text, its `;` included.
pub fn replace(node: Node<'_>, text: &str) -> Edit {
    Edit { file: node.file().path.clone(), span: node.directive().span, text: text.to_owned() }
}

/// One word of a directive (0 is its name) becomes this text, quoted where it has to be.
pub fn replace_word(node: Node<'_>, word: usize, text: &str) -> Option<Edit> {
    let span = node.directive().words.get(word)?.span;
    Some(Edit { file: node.file().path.clone(), span, text: quoted(text) })
}

/// Lines behind a directive, as far from the margin as that one; behind it on its own line where something follows it there.
pub fn insert_after(node: Node<'_>, lines: &[&str]) -> Edit {
    let (file, end) = (node.file(), node.directive().span.end);
    let line_end = file.text[end..].find('\n').map_or(file.text.len(), |at| end + at);
    let tail = file.text[end..line_end].trim();
    let (at, separator) = match tail.is_empty() || tail.starts_with('#') {
        true => (file.text[..line_end].trim_end_matches('\r').len(), format!("\n{}", margin(node))),
        false => (end, " ".to_owned()),
    };
    let text = lines.iter().map(|line| format!("{separator}{line}")).collect();
    Edit { file: file.path.clone(), span: Span { start: at, end: at }, text }
}

/// Behind the last directive of a block that stands in the block's own file; right behind the `{` of an empty one.
pub fn append(block: Node<'_>, text: &str) -> Option<Edit> {
    let Body::Block { inner, .. } = &block.directive().body else { return None };
    let mut own = block.children().into_iter().filter(|child| {
        let span = child.directive().span;
        std::ptr::eq(child.file(), block.file()) && inner.start <= span.start && span.end <= inner.end
    });
    Some(match own.next_back() {
        Some(last) => insert_after(last, &[text]),
        None => {
            let span = Span { start: inner.start, end: inner.start };
            Edit { file: block.file().path.clone(), span, text: format!(" {text} ") }
        }
    })
}

fn margin(node: Node<'_>) -> &str {
    let text = &node.file().text;
    let line = &text[text[..node.directive().span.start].rfind('\n').map_or(0, |at| at + 1)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// The text with the edits of this file in it; those at one place in the order given. None: two of them overlap.
pub fn apply(path: &str, text: &str, edits: &[Edit]) -> Option<String> {
    let mut own: Vec<&Edit> = edits.iter().filter(|edit| edit.file == path).collect();
    own.sort_by_key(|edit| edit.span);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for edit in own {
        out.push_str(text.get(at..edit.span.start)?);
        out.push_str(&edit.text);
        at = edit.span.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}
