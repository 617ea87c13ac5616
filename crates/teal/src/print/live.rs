//! The line at the bottom of a terminal that is redrawn while something goes on.

use crate::print::words::for_how_long;
use std::io::Write;
use std::time::Duration;

pub const REDRAW: Duration = Duration::from_millis(120);
const FRAMES: &[&str] = &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Where the terminal does not say: safe almost anywhere.
const WIDTH: usize = 80;

/// Cleared when dropped, so that no error message lands behind it.
#[derive(Debug, Default)]
pub struct Live {
    frame: usize,
    drawn: bool,
}

impl Live {
    pub fn draw(&mut self, words: &str, since: Duration) {
        self.frame = (self.frame + 1) % FRAMES.len();
        let line = fitted(FRAMES[self.frame], words, since, width());
        self.drawn = true;
        put(&format!("\r{line}\x1b[K"));
    }

    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            put("\r\x1b[K");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One row at most: a wrapped line could not be redrawn. Control characters (a tab, a newline) would break it too.
fn fitted(frame: &str, words: &str, since: Duration, width: usize) -> String {
    let time = format!(" ({})", for_how_long(since.as_millis() as u64));
    let room = width.saturating_sub(time.len() + 4);
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let cut = if words.chars().count() <= room {
        words
    } else {
        words.chars().take(room.saturating_sub(1)).chain(['…']).collect()
    };
    format!("{frame} {cut}{time}").chars().take(width).collect()
}

fn width() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => WIDTH,
    }
}

fn put(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // A terminal that has gone is nobody to tell.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_the_terminal_whatever_is_said() {
        let since = Duration::from_secs(12);
        assert_eq!(fitted("*", "pull app:1.4", since, 80), "* pull app:1.4 (12 s)");
        for width in [0, 1, 10, 20, 40] {
            let line = fitted("*", &"pröbe\n".repeat(40), since, width);
            assert!(line.chars().count() <= width, "{width}: {line}");
            assert!(!line.contains('\n'));
        }
    }
}
