//! What the app writes to stdout: one line an event, each in one write, so that lines of threads never mix.

use std::io::Write;

/// A line on stdout. A reader that went away is no reason to fail a request.
pub fn line(text: &str) {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
}

pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "sample-app: {text}");
}
