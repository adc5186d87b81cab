//! How does a reader see within a minute which rule broke, on which rows, and by which operations?

use comfy_table::{Cell, CellAlignment, Color};
use serde::Serialize;

use super::text::{Paint, conclusion, finish, grid, mark, shorten, wrap};
use crate::annotated::is_name;
use crate::invariant::evidence::{ChangeLine, Lines, OperationLine, Operations};
use crate::invariant::self_test::{Outcome, Tried};
use crate::invariant::{Breach, Checked, Finding, Invariant, Subject};
use crate::verdict::Verdict;

/// Version of the JSON of `verify`; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that `verify` found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Version of this shape.
    pub schema_version: u32,
    /// The end of it.
    pub verdict: Verdict,
    /// The number that the shell sees.
    pub exit_code: u8,
    /// Why; the reason that decides comes first.
    pub reasons: Vec<String>,
    /// `host:port/database`.
    pub database: String,
    /// What is loaded there.
    pub dataset: Dataset,
    /// Names of the invariants that had to be shown.
    pub claimed: Vec<String>,
    /// Every check that was made.
    pub checks: Vec<Check>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// The command that does this again.
    pub again: String,
}

/// What is loaded in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// The number it was made from.
    pub rng_seed: i64,
    /// How many times the base size.
    pub scale: i32,
    /// The clock of the domain.
    pub as_of: String,
    /// SHA-256 of the generated rows.
    pub data_hash: String,
}

/// One check, and what is known about the rows that broke it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was found.
    #[serde(flatten)]
    pub checked: Checked,
    /// Whether it had to be shown.
    pub claimed: bool,
    /// The operations on the first subjects.
    pub operations: Vec<Operations>,
    /// Subjects among the rows kept whose operations are left out.
    pub subjects_left_out: usize,
}

/// The report for a terminal of `width` columns. The verdict comes last, since that is where one looks.
pub fn text(v: &Verification, width: u16, colour: bool) -> String {
    let paint = Paint { colour };
    let heading = format!(
        "{} with rng_seed {} and scale {} in {}, as of {}",
        v.dataset.name, v.dataset.rng_seed, v.dataset.scale, v.database, v.dataset.as_of
    );
    let mut parts = vec![wrap(&heading, width, "")];
    parts.push(checks_table(v, width, paint));
    let mut shown = Vec::new();
    for check in &v.checks {
        match &check.checked.finding {
            Finding::Violated { total, rows, .. } => parts.push(breaches(check, *total, rows, &mut shown, width, paint)),
            Finding::Errored(why) => {
                let heading = format!("{} could not be checked", check.checked.label());
                parts.push(format!("{}\n{}", paint.yellow(&heading), wrap(why, width, "  ")));
            }
            Finding::Holds { .. } | Finding::Vacuous => {}
        }
    }
    if !v.notes.is_empty() {
        parts.push(v.notes.iter().map(|n| wrap(&format!("note: {n}"), width, "")).collect::<Vec<_>>().join("\n"));
    }
    parts.push(conclusion(v.verdict, &v.reasons, width, paint));
    let mut hint = format!("again:    {}", v.again);
    // The comparison with the histories has no rule that could be shown.
    let is_rule = |check: &&Check| is_name(&check.checked.name) && matches!(check.checked.finding, Finding::Violated { .. });
    if let Some(check) = v.checks.iter().find(is_rule) {
        hint.push_str(&format!("\nthe rule: dbstress verify --show {}", check.checked.name));
    }
    parts.push(hint);
    parts.join("\n\n")
}

/// The report of the self-test.
pub fn self_test_text(tried: &[Tried], verdict: Verdict, reasons: &[String], width: u16, colour: bool) -> String {
    let paint = Paint { colour };
    let mut table = grid(&["", "id", "invariant", "when its rule is broken"], width, colour);
    let mut errors = Vec::new();
    for t in tried {
        let (mark, said) = match &t.outcome {
            Outcome::Fired { before, after, constraints_dropped } => {
                let without = if *constraints_dropped { ", constraints out of the way" } else { "" };
                (mark("ok", Color::Green), format!("fired: {before} -> {after} rows{without}"))
            }
            Outcome::Silent { before, after } => (mark("FAIL", Color::Red), format!("did not fire: {before} -> {after} rows")),
            Outcome::Errored(why) => {
                errors.push(format!("{}\n{}", paint.yellow(&format!("{} could not be tried", t.name)), wrap(why, width, "  ")));
                (mark("ERR", Color::Yellow), "errored".into())
            }
        };
        table.add_row(vec![mark, Cell::new(t.id.as_deref().unwrap_or("-")), Cell::new(&t.name), Cell::new(said)]);
    }
    let mut parts = vec![finish(&table)];
    parts.append(&mut errors);
    parts.push(conclusion(verdict, reasons, width, paint));
    parts.join("\n\n")
}

/// The catalogue.
pub fn list_text(invariants: &[Invariant], width: u16, colour: bool) -> String {
    let mut table = grid(&["invariant", "id", "when", "what holds"], width, colour);
    for i in invariants {
        table.add_row(vec![&i.name, i.id.as_deref().unwrap_or("-"), i.when.word(), &i.title]);
    }
    finish(&table)
}

fn checks_table(v: &Verification, width: u16, paint: Paint) -> String {
    let mut table = grid(&["", "id", "invariant", "claimed", "examined", "rows"], width, paint.colour);
    for check in &v.checks {
        let (mark, examined, rows) = match &check.checked.finding {
            Finding::Holds { examined } => (mark("ok", Color::Green), examined.to_string(), "0".into()),
            Finding::Violated { examined, total, .. } => (mark("FAIL", Color::Red), examined.to_string(), total.to_string()),
            Finding::Vacuous => (mark("-", Color::DarkGrey), "0".into(), "nothing to examine".into()),
            Finding::Errored(_) => (mark("ERR", Color::Yellow), "-".into(), "could not be checked".to_owned()),
        };
        table.add_row(vec![
            mark,
            Cell::new(check.checked.id.as_deref().unwrap_or("-")),
            Cell::new(&check.checked.name),
            Cell::new(if check.claimed { "yes" } else { "no" }),
            Cell::new(examined).set_alignment(CellAlignment::Right),
            Cell::new(rows).set_alignment(CellAlignment::Right),
        ]);
    }
    finish(&table)
}

/// The rows of a broken rule, and the operations on their subjects but those in `shown`, which are added to it.
fn breaches<'a>(
    check: &'a Check,
    total: i64,
    rows: &[Breach],
    shown: &mut Vec<(Subject, &'a str)>,
    width: u16,
    paint: Paint,
) -> String {
    let mut parts = vec![format!("{}\n{}", paint.red(&check.checked.label()), wrap(&check.checked.title, width, "  "))];
    let mut table = grid(&["subject", "expected", "actual"], width, paint.colour);
    for row in rows {
        table.add_row([&row.subject, &row.expected, &row.actual].map(|value| shorten(value.as_deref().unwrap_or("NULL"), 200)));
    }
    let mut found = finish(&table);
    if total > rows.len() as i64 {
        found.push_str(&format!("\nthese are the first {} of {total} rows", rows.len()));
    }
    parts.push(found);
    for operations in &check.operations {
        let subject = (operations.about, &*operations.subject);
        if shown.contains(&subject) {
            parts.push(format!("operations on {} {}: above", subject.0.word(), subject.1));
        } else {
            shown.push(subject);
            parts.push(operations_table(operations, width, paint));
        }
    }
    if check.subjects_left_out > 0 {
        parts.push(format!(
            "and {} more subject{}; --json has their rows",
            check.subjects_left_out,
            if check.subjects_left_out == 1 { "" } else { "s" }
        ));
    }
    parts.join("\n\n")
}

/// One operation: its columns, its strategy, and what a reader must see of it.
type Shown<'a> = (Vec<String>, &'a str, &'a str);

fn operations_table(operations: &Operations, width: u16, paint: Paint) -> String {
    let Operations { about, subject, total, lines } = operations;
    let (mut header, shown): (Vec<&str>, Vec<Shown<'_>>) = match lines {
        Lines::Units(lines) => {
            (vec!["run.vu.n", "try", "operation", "version", "used+sched/total", "written"], lines.iter().map(unit_line).collect())
        }
        Lines::Changes(lines) => {
            (vec!["run.vu.n", "try", "operation", "who", "where", "began", "written"], lines.iter().map(change_line).collect())
        }
    };
    let Some((_, first, _)) = shown.first() else {
        return format!("no operation on {} {subject} is in the ledger", about.word());
    };
    // Nearly always one strategy wrote them all: then it is said once, and the columns fit.
    let mixed = shown.iter().any(|(_, strategy, _)| strategy != first);
    if mixed {
        header.push("strategy");
    }
    header.push("");
    let mut table = grid(&header, width, paint.colour);
    for (columns, strategy, mark) in &shown {
        let mut row: Vec<Cell> = columns.iter().map(Cell::new).collect();
        if mixed {
            row.push(Cell::new(strategy));
        }
        row.push(if mark.is_empty() { Cell::new("") } else { Cell::new(format!("<- {mark}")).fg(Color::Red) });
        table.add_row(row);
    }
    let how_many = if shown.len() as i64 == *total { format!("all {total}") } else { format!("{} of {total}", shown.len()) };
    let by = if mixed { String::new() } else { format!(", strategy {first}") };
    let heading = format!("operations on {} {subject}: {how_many}{by}", about.word());
    format!("{}\n{}", wrap(&heading, width, ""), finish(&table))
}

fn unit_line(line: &OperationLine) -> Shown<'_> {
    let OperationLine { op, attempt, kind, units, version, balance, strategy, wrote, wrong, vu: _ } = line;
    let operation = format!("{kind} {units}");
    ([op, attempt, &operation, version, balance, wrote].map(String::clone).into(), strategy, wrong)
}

fn change_line(line: &ChangeLine) -> Shown<'_> {
    let ChangeLine { op, attempt, kind, who, place, strategy, began, wrote, overlaps, vu: _ } = line;
    ([op, attempt, kind, who, place, began, wrote].map(String::clone).into(), strategy, if *overlaps { "overlap" } else { "" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn checked(name: &str, finding: Finding) -> Checked {
        let title = "Units used and promised never exceed the units authorised.".into();
        Checked { name: name.into(), id: Some("INV-U1".into()), title, subject: None, finding, elapsed: Duration::ZERO }
    }

    fn sample() -> Verification {
        let rows: Vec<Breach> = (1..=20)
            .map(|n| Breach {
                subject: Some(n.to_string()),
                expected: Some("used + scheduled at most 50".into()),
                actual: Some("55 (0 used, 55 scheduled)".into()),
            })
            .collect();
        let line = |n: u32, wrong: &str| OperationLine {
            op: format!("12.499.{n}"),
            attempt: "1".into(),
            kind: "reserve".into(),
            units: "5".into(),
            version: n.to_string(),
            balance: format!("100+{}/1000", n * 5),
            strategy: "repeatable-read".into(),
            vu: "499".into(),
            wrote: "12:00:01.123".into(),
            wrong: wrong.into(),
        };
        let lines = Lines::Units(vec![line(10, ""), line(11, "over total")]);
        let operations = Operations { about: Subject::Authorisation, subject: "1".into(), total: 12, lines };
        let check = |checked, operations| Check { checked, claimed: true, operations, subjects_left_out: 2 };
        Verification {
            schema_version: SCHEMA_VERSION,
            verdict: Verdict::Violated,
            exit_code: 1,
            reasons: vec!["units-within-total (INV-U1) is violated: 25 rows".into()],
            database: "localhost:5432/app".into(),
            dataset: Dataset {
                name: "clinic".into(),
                rng_seed: 42,
                scale: 1,
                as_of: "2026-01-01 00:00:00".into(),
                data_hash: "ab".into(),
            },
            claimed: vec!["units-within-total".into()],
            checks: vec![
                check(checked("units-within-total", Finding::Violated { examined: 900, total: 25, rows }), vec![operations]),
                check(checked("ledger-replays", Finding::Vacuous), vec![]),
                check(checked("mine", Finding::Errored("syntax error at or near \"FORM\" (SQLSTATE 42601)".into())), vec![]),
                check(checked("counters-in-range", Finding::Holds { examined: 900 }), vec![]),
            ],
            notes: vec!["run 1 (contention, naive) is recorded as violated".into()],
            again: "dbstress verify".into(),
        }
    }

    #[test]
    fn it_says_everything_in_80_columns_without_colour() {
        let shown = text(&sample(), 80, false);
        assert!(shown.lines().all(|l| l.chars().count() <= 80), "{shown}");
        assert!(!shown.contains('\x1b'));
        for what in [
            "FAIL",
            "nothing to examine",
            "could not be checked",
            "SQLSTATE 42601",
            "first 20 of 25 rows",
            "12.499.11",
            "<- over total",
            "strategy repeatable-read",
            "and 2 more subjects",
            "note: run 1",
            "again:    dbstress verify",
            "--show units-within-total",
        ] {
            assert!(shown.contains(what), "`{what}` is missing:\n{shown}");
        }
        let (verdict, rows) = (shown.find("VIOLATED").unwrap(), shown.find("first 20 of 25").unwrap());
        assert!(verdict > rows, "the verdict comes last");
        assert!(text(&sample(), 80, true).contains("\x1b[1;31mVIOLATED"));
    }

    #[test]
    fn the_json_keeps_its_shape() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["schema_version"], 1);
        assert_eq!((&json["verdict"], &json["exit_code"]), (&"violated".into(), &1.into()));
        let check = &json["checks"][0];
        assert_eq!((&check["name"], &check["finding"]), (&"units-within-total".into(), &"violated".into()));
        assert_eq!((&check["detail"]["total"], &check["elapsed_ms"]), (&25.into(), &0.into()));
        assert_eq!(check["operations"][0]["lines"][1]["vu"], "499");
        assert_eq!(json["checks"][2]["detail"], "syntax error at or near \"FORM\" (SQLSTATE 42601)");
    }
}
