//! Which check caught which mistake? The catalogue as lines, and what became of it as a matrix.

use std::collections::BTreeSet;

use comfy_table::Color;

use super::text::{Paint, finish, grid, mark, wrap};
use crate::audit::Breach;
use crate::bug::{Bug, Check, Entry};
use crate::invariant::Invariant;

/// What became of one row of the matrix.
pub struct Row {
    /// The bug; `None` = the right thing, of which nothing may be found.
    pub bug: Option<Bug>,
    /// Its name, or that of the scenario.
    pub name: String,
    /// The checks that found something.
    pub fired: BTreeSet<Check>,
    /// Why it could not be judged, if it could not.
    pub open: Option<String>,
    /// The commands that show it again.
    pub again: Vec<String>,
}

impl Row {
    fn entry(&self) -> Option<&'static Entry> {
        self.bug.map(Bug::entry)
    }

    /// What must have fired and did not.
    fn missed(&self) -> Vec<Check> {
        self.entry().map_or(Vec::new(), |entry| entry.missed(&self.fired))
    }

    /// What fired and should not have.
    fn by_accident(&self) -> Vec<Check> {
        self.entry().map_or_else(|| self.fired.iter().cloned().collect(), |entry| entry.by_accident(&self.fired))
    }

    /// Whether everything is as it must be: a bug caught by what is meant for it, of the right thing nothing found.
    pub fn is_right(&self) -> bool {
        self.open.is_none() && self.missed().is_empty() && self.by_accident().is_empty()
    }

    /// What became of it, in words.
    pub fn words(&self) -> String {
        if let Some(why) = &self.open {
            return why.clone();
        }
        let mut said = Vec::new();
        let (missed, by_accident) = (self.missed(), self.by_accident());
        if !missed.is_empty() {
            said.push(format!("NOT caught by {}", listed(&missed)));
        }
        if !by_accident.is_empty() {
            said.push(format!("by accident: {}", listed(&by_accident)));
        }
        match (self.entry(), said.is_empty()) {
            (_, false) => said.join("; "),
            (Some(entry), true) => format!("caught by {}", listed(entry.must)),
            (None, true) => "nothing was found, as it must be".into(),
        }
    }
}

fn listed(checks: &[Check]) -> String {
    checks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The catalogue: a line for the name, what must catch it and what it is.
pub fn list_text(bugs: &[Bug]) -> String {
    let lines = bugs.iter().map(|bug| {
        let entry = bug.entry();
        format!("{:<19} {:<24} {}", bug.name(), listed(&entry.must[..1]), entry.summary)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Columns of the legend.
const NARROW: u16 = 80;

/// The matrix, its legend, what is not as it must be, and one line for all of it.
pub fn text(rows: &[Row], invariants: &[Invariant], width: u16, colour: bool) -> String {
    let all: BTreeSet<Check> = rows.iter().flat_map(|row| row.fired.iter().cloned().chain(row.missed())).collect();
    let place = |check: &Check| match check {
        Check::Invariant(name) => invariants.iter().position(|invariant| invariant.name == **name),
        Check::Audit(_) => None,
    };
    let mut columns: Vec<Check> = all.into_iter().collect();
    columns.sort_by_key(place);
    let code = |check: &Check| code(check, invariants);
    let header: Vec<String> = std::iter::once("bug".to_owned()).chain(columns.iter().map(code)).collect();
    let mut table = grid(&header.iter().map(String::as_str).collect::<Vec<_>>(), width, colour);
    for row in rows {
        let (missed, by_accident) = (row.missed(), row.by_accident());
        let cells = columns.iter().map(|check| match row.fired.contains(check) {
            true if by_accident.contains(check) => mark("!", Color::Red),
            true if row.entry().is_some_and(|entry| entry.must.contains(check)) => mark("●", Color::Green),
            true => mark("○", Color::Green),
            false if missed.contains(check) => mark("✗", Color::Red),
            false => "·".into(),
        });
        table.add_row(std::iter::once(row.name.as_str().into()).chain(cells));
    }
    let mut lines = vec![finish(&table), String::new()];
    for (mark, means) in [
        ("●", "must find it, and did"),
        ("○", "may find it, as a consequence, and did"),
        ("✗", "must find it, and did not"),
        ("!", "found something by accident"),
    ] {
        lines.push(format!("  {mark}  {means}"));
    }
    let legend: Vec<String> = columns.iter().map(|check| format!("{} {check}", code(check))).collect();
    lines.push(wrap(&legend.join("; "), width.min(NARROW), "  "));
    for row in rows.iter().filter(|row| !row.is_right()) {
        lines.push(String::new());
        lines.push(wrap(&format!("{}: {}", row.name, row.words()), width, "  "));
        lines.extend(row.again.iter().map(|again| wrap(&format!("again: {again}"), width, "  ")));
    }
    lines.push(String::new());
    lines.push(conclusion(rows, Paint { colour }));
    lines.join("\n")
}

fn conclusion(rows: &[Row], paint: Paint) -> String {
    let (bugs, controls): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.bug.is_some());
    let right = |rows: &[&Row]| rows.iter().filter(|row| row.is_right()).count();
    let said = format!("{} of {} bugs caught by what is meant for them", right(&bugs), bugs.len());
    let clean = match (right(&controls), controls.len()) {
        (_, 0) => String::new(),
        (right, all) if right == all => "; nothing found without them".into(),
        (right, all) => format!("; {} of {all} runs without them NOT clean", all - right),
    };
    let line = format!("{said}{clean}");
    if rows.iter().all(Row::is_right) { paint.green(&line) } else { paint.red(&line) }
}

/// Two or three characters for a check: the number of an invariant, the initials of a breach.
fn code(check: &Check, invariants: &[Invariant]) -> String {
    match check {
        Check::Invariant(name) => {
            let id = invariants.iter().find(|invariant| invariant.name == **name).and_then(|invariant| invariant.id.as_deref());
            id.map_or_else(|| name.to_string(), |id| id.trim_start_matches("INV-").to_owned())
        }
        Check::Audit(breach) => initials(*breach).to_owned(),
    }
}

fn initials(breach: Breach) -> &'static str {
    match breach {
        Breach::Overbooked => "ob",
        Breach::Negative => "ne",
        Breach::LostUpdate => "lu",
        Breach::WriteOutsideLedger => "wo",
        Breach::AcknowledgedLost => "al",
        Breach::RefusedPresent => "rp",
        Breach::AbortedPresent => "ap",
        Breach::Duplicated => "du",
        Breach::Phantom => "ph",
        Breach::Misreported => "mr",
        Breach::OutOfOrder => "oo",
        Breach::TooManyWinners => "tw",
        Breach::UnjustifiedRefusal => "ur",
        Breach::CrossedTenant => "ct",
        Breach::KeyAppliedTwice => "kt",
        Breach::ReplayDiffers => "rd",
        Breach::WrongBody => "wb",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant;

    fn row(bug: Option<Bug>, fired: &[Check]) -> Row {
        let name = bug.map_or("(none) churn", Bug::name).to_owned();
        Row { bug, name, fired: fired.iter().cloned().collect(), open: None, again: vec!["dbstress bugs run x".into()] }
    }

    fn invariant(name: &'static str) -> Check {
        Check::Invariant(name.into())
    }

    fn shown(rows: &[Row]) -> String {
        text(rows, &invariant::built_in().unwrap(), 80, false)
    }

    #[test]
    fn a_row_says_who_caught_it() {
        let fired = [Check::Audit(Breach::Overbooked), invariant("units-within-total"), invariant("ledger-replays")];
        let text = shown(&[row(None, &[]), row(Some(Bug::LockAndRead), &fired)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["bug", "ob", "U1", "U4"]);
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["(none)", "churn", "·", "·", "·"]);
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["lock-and-read", "●", "●", "○"]);
        assert!(text.contains("ob overbooked; U1 units-within-total; U4 ledger-replays"), "{text}");
        assert!(text.ends_with("1 of 1 bugs caught by what is meant for them; nothing found without them"), "{text}");
        assert!(!text.contains("again"), "{text}");
    }

    #[test]
    fn what_was_missed_and_what_fired_by_accident_is_told_with_the_command_that_shows_it_again() {
        let rows = [row(Some(Bug::LockAndRead), &[Check::Audit(Breach::Phantom)]), row(None, &[Check::Audit(Breach::Negative)])];
        let text = shown(&rows);
        for said in [
            "lock-and-read: NOT caught by overbooked, units-within-total; by accident:",
            "(none) churn: by accident: counter below zero",
            "again: dbstress bugs run x",
            "0 of 1 bugs caught by what is meant for them; 1 of 1 runs without them NOT clean",
        ] {
            assert!(text.replace("\n  ", " ").contains(said), "{said}: {text}");
        }
        let row_of =
            |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().skip(1).collect::<Vec<_>>();
        assert_eq!(row_of("lock-and-read"), ["✗", "·", "!", "✗"]);
    }

    #[test]
    fn a_run_that_could_not_be_judged_is_not_right() {
        let caught = row(Some(Bug::SpuriousRefusal), &[Check::Audit(Breach::UnjustifiedRefusal)]);
        assert!(caught.is_right());
        assert!(!Row { open: Some("the server was lost".into()), ..caught }.is_right());
    }

    #[test]
    fn the_list_has_a_line_for_each_that_begins_with_its_name() {
        let text = list_text(&Bug::ALL);
        for (bug, line) in Bug::ALL.iter().zip(text.lines()) {
            assert!(line.starts_with(bug.name()) && line.ends_with(bug.entry().summary), "{line}");
        }
        assert_eq!(text.lines().count(), Bug::ALL.len());
    }
}
