//! The pieces that every report on the terminal is made of: tables, colours, wrapped lines, the verdict.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

pub use crate::metrics::grouped;
use crate::verdict::Verdict;

/// The verdict in one word, then why.
pub fn conclusion(verdict: Verdict, reasons: &[String], width: u16, paint: Paint) -> String {
    let word = paint.verdict(verdict);
    let reasons = reasons.iter().map(|reason| wrap(&shorten(reason, 400), width, "  "));
    std::iter::once(word).chain(reasons).collect::<Vec<_>>().join("\n")
}

/// A table without borders, as wide as the screen at most; its first row is the header.
pub fn grid(header: &[&str], width: u16, colour: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|h| Cell::new(h).add_attribute(Attribute::Bold)).collect::<Vec<_>>());
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table
}

/// The table as text.
pub fn finish(table: &Table) -> String {
    table.trim_fmt()
}

/// A coloured word in a table.
pub fn mark(word: &str, colour: Color) -> Cell {
    Cell::new(word).fg(colour)
}

/// Colours for whole words outside tables; every word carries its meaning without them.
#[derive(Clone, Copy)]
pub struct Paint {
    /// Whether there are any.
    pub colour: bool,
}

impl Paint {
    /// In the terminal colour of that code, bold.
    pub fn with(self, code: u8, text: &str) -> String {
        if self.colour { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The verdict in capitals: green, red, or yellow for what leaves the question open.
    pub fn verdict(self, verdict: Verdict) -> String {
        let word = verdict.word().to_uppercase();
        match verdict {
            Verdict::Pass => self.green(&word),
            Verdict::Violated => self.red(&word),
            Verdict::Missed | Verdict::Inconclusive => self.yellow(&word),
        }
    }

    /// Red, bold.
    pub fn red(self, text: &str) -> String {
        self.with(31, text)
    }

    /// Green, bold.
    pub fn green(self, text: &str) -> String {
        self.with(32, text)
    }

    /// Yellow, bold.
    pub fn yellow(self, text: &str) -> String {
        self.with(33, text)
    }
}

/// The first characters of a long text.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// `text` in lines of at most `width` columns, each behind `indent`; a longer word keeps a line to itself.
pub fn wrap(text: &str, width: u16, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = indent.to_owned();
        for word in paragraph.split_whitespace() {
            if line.len() > indent.len() && line.chars().count() + 1 + word.chars().count() > usize::from(width) {
                lines.push(std::mem::replace(&mut line, indent.to_owned()));
            }
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n")
}
