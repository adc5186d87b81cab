//! Where does a line go? Results to stdout, everything else to stderr; the only place besides `main` that prints. It remembers what could not be
//! handed over, so that nothing ends as if it had been.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::wrap;
use crate::verdict::Exit;
use crate::{Error, files};

/// Whether something that was found out could not be printed or kept.
static LOST: AtomicBool = AtomicBool::new(false);
/// Whether it has been said that standard output takes nothing.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// The two streams of the terminal and what they can do.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// No notes, no progress; results only.
    pub quiet: bool,
    /// Colours on stdout.
    pub colour: bool,
    /// Whether stderr is a terminal: only then is progress drawn.
    pub interactive: bool,
    /// Results go to stderr: stdout is for something else.
    pub aside: bool,
    /// Columns to use for results.
    pub width: u16,
}

impl Screen {
    /// Looks at the real terminal. `NO_COLOR` and `TERM=dumb` turn colour off.
    pub fn new(quiet: bool, no_colour: bool) -> Self {
        let plain = no_colour
            || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Self {
            quiet,
            colour: !plain && std::io::stdout().is_terminal(),
            interactive: std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb"),
            aside: false,
            width: console_width(),
        }
    }

    /// A result, to stdout. A reader that went away (`| head`) is not an error of ours; a full disk is said, once.
    pub fn out(&self, text: &str) {
        if self.aside {
            return self.line(text);
        }
        match files::stdout().and_then(|mut stdout| stdout.write_all(format!("{text}\n").as_bytes())) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe && !UNPRINTED.swap(true, Ordering::Relaxed) => {
                self.lost(&Error::inconclusive("the results could not be written to standard output").because(error));
            }
            _ => {}
        }
    }

    /// Says what could not be printed or kept. [`Screen::exit`] knows of it.
    pub fn lost(&self, error: &Error) {
        LOST.store(true, Ordering::Relaxed);
        self.error(error);
    }

    /// How the program ends that came to `exit`: what could not be printed or kept is no pass. Whatever is not one stays what it is.
    pub fn exit(&self, exit: Exit) -> Exit {
        if exit == Exit::Pass && LOST.load(Ordering::Relaxed) { Exit::Inconclusive } else { exit }
    }

    /// A remark on the way, to stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let text = if self.interactive { wrap(text, self.width, "") } else { text.to_owned() };
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// A line for a program, to stderr, however quiet: somebody asked for it.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// A failure, to stderr, however quiet.
    pub fn error(&self, error: &dyn std::fmt::Display) {
        let _ = writeln!(std::io::stderr().lock(), "error: {error}");
    }

    /// A bar on stderr for `length` steps of `label`; invisible when quiet or not on a terminal. It keeps to one line: what does not fit is cut off.
    pub fn bar(&self, label: &str, length: u64) -> ProgressBar {
        let target = if self.quiet || !self.interactive { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template("{prefix:<13} {bar:12} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

fn console_width() -> u16 {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns_to_use(std::io::stdout().is_terminal().then(|| comfy_table::Table::new().width()), columns)
}

/// Columns of the terminal on stdout, `Some` if there is one; 80 of one that does not say. 100 where there is none, so that logs keep their tables.
fn columns_to_use(terminal: Option<Option<u16>>, variable: Option<u16>) -> u16 {
    let known = terminal.flatten().filter(|columns| *columns > 0);
    let usual = if terminal.is_some() { 80 } else { 100 };
    known.or(variable.filter(|columns| *columns >= 40)).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_does_not_know_its_width_is_taken_for_a_usual_one() {
        assert_eq!(columns_to_use(Some(Some(0)), None), 80);
        assert_eq!(columns_to_use(Some(None), None), 80);
        assert_eq!(columns_to_use(Some(Some(0)), Some(132)), 132);
        assert_eq!(columns_to_use(Some(Some(60)), Some(132)), 60);
        assert_eq!((columns_to_use(None, Some(5)), columns_to_use(None, Some(120)), columns_to_use(None, None)), (100, 120, 100));
    }
}
