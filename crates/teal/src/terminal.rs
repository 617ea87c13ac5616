//! The terminal as something to read from: answers, and keys as they are typed.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Line(String),
    /// End of input, or it cannot be read.
    Gone,
}

/// One line. Read by a thread of its own, since a read of a terminal cannot be taken back: a question that was overtaken
/// leaves the thread waiting, and it goes with the process.
pub async fn answer() -> Answer {
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let answer = match std::io::stdin().lock().read_line(&mut line) {
            Ok(n) if n > 0 => Answer::Line(line),
            _ => Answer::Gone,
        };
        let _ = send.send(answer);
    });
    receive.await.unwrap_or(Answer::Gone)
}

/// Whether the next line says yes; no answer is none.
pub async fn confirmed() -> bool {
    matches!(answer().await, Answer::Line(line) if ["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}

/// While it lives, every key goes to the program in the container: no echo, no line editing, no signals from the keyboard.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// None where stdin is no terminal.
    pub fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs no settings.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
