//! All that Teal says: the only module that writes to the terminal. The rest of it turns values into text.
#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod adoption;
pub mod deployment;
pub mod diff;
pub mod fault;
pub mod history;
pub mod live;
pub mod logs;
pub mod nginx;
pub mod plan;
pub mod receipt;
pub mod safety;
pub mod status;
pub mod steps;
pub mod watched;
pub mod words;

use crate::cli::Output;
use serde::Serialize;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use teal_model::fault::Fault;

/// Where answers go: stdout for what was asked, stderr for everything about it.
#[derive(Debug)]
pub struct Out {
    output: Output,
    paint: Paint,
    paint_errors: Paint,
    closed: Cell<bool>,
}

impl Out {
    pub fn new(output: Output) -> Self {
        let colors = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            output,
            paint: Paint(colors && std::io::stdout().is_terminal()),
            paint_errors: Paint(colors && std::io::stderr().is_terminal()),
            closed: Cell::new(false),
        }
    }

    pub fn paint(&self) -> Paint {
        self.paint
    }

    pub fn paint_errors(&self) -> Paint {
        self.paint_errors
    }

    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Somebody sits there who can be asked and can see a line being redrawn.
    pub fn is_interactive(&self) -> bool {
        !self.is_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    pub fn is_live(&self) -> bool {
        !self.is_json() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Nobody reads any more (`teal logs | head`).
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Text without its last newline; nothing when it is empty.
    pub fn text(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        if !text.is_empty() {
            self.write(text.as_bytes());
        }
    }

    pub fn blank(&self) {
        self.write(b"");
    }

    pub fn json(&self, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(line) => self.write(&line),
            Err(error) => eprintln!("error: an answer could not be written as JSON: {error}"),
        }
    }

    /// The value itself for programs, its text for people.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T, Paint) -> String) {
        if self.is_json() { self.json(value) } else { self.text(&text(value, self.paint)) }
    }

    /// For people only, beside the answer.
    pub fn note(&self, text: &str) {
        if !self.is_json() {
            // A closed stderr is nothing that could be reported.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// The same, of text that ends with a newline, or is empty.
    pub fn note_lines(&self, text: &str) {
        if !text.is_empty() {
            self.note(text.trim_end_matches('\n'));
        }
    }

    pub fn fault(&self, fault: &Fault) {
        match self.output {
            Output::Text => self.note(fault::text(fault, self.paint_errors).trim_end()),
            Output::Json => self.json(&serde_json::json!({ "error": fault })),
        }
    }

    /// A question on stderr; the answer is read elsewhere.
    pub fn ask(&self, question: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question} ").and_then(|()| stderr.flush());
    }

    /// Bytes as they are: the output of a command that ran in a container.
    pub fn raw(&self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
            self.closed.set(true);
        }
    }

    fn write(&self, line: &[u8]) {
        // Not `println!`: it panics when a pipe's reader has gone, and a deployment is to be followed to its end all the same.
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush()).is_err() {
            self.closed.set(true);
        }
    }
}

/// Colors, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub bool);

impl Paint {
    pub const NONE: Paint = Paint(false);

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Compares with `tests/golden/NAME`, or rewrites it when UPDATE_GOLDEN is set.
#[cfg(test)]
pub fn golden(name: &str, text: &str) {
    golden_at(&format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR")), text);
}

#[cfg(test)]
pub fn golden_at(path: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(path).unwrap_or_default();
    assert!(wanted == text, "{path} differs; UPDATE_GOLDEN=1 rewrites it.\n--- wanted\n{wanted}\n--- printed\n{text}");
}

#[cfg(test)]
pub mod made_up;
