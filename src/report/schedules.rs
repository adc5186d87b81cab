//! How does it read when schedules were changed at once? First the two transactions of a write skew, then what became of each contest.

use comfy_table::CellAlignment;

use super::run::ROOMY;
use super::text::{finish, grid, grouped, wrap};
use crate::audit::{Finding, Line, Skew};
use crate::record::{RunRecord, TurnRecord};
use crate::scenario::Contest;

/// Two transactions that each kept the rules and together did not, of each turn that has them: of the round with the fewest winners, in which there is
/// the least besides.
pub fn skews(record: &RunRecord, width: u16) -> String {
    let sections = record.turns.iter().filter_map(|turn| {
        let shown = turn.audit.findings.iter().filter_map(|finding| Some((finding, finding.skew.as_ref()?)));
        let (finding, skew) = shown.min_by_key(|(finding, _)| finding.operations.len())?;
        Some(skewed(&turn.name, finding, skew, width))
    });
    sections.collect::<Vec<_>>().join("\n\n")
}

fn skewed(name: &str, finding: &Finding, Skew { first, second }: &Skew, width: u16) -> String {
    let from = first.began.min(second.began);
    let line = |line: &Line| {
        let at = |micros: i64| format!("{:.3} ms", (micros - from) as f64 / 1e3);
        let said = format!(
            "{} (VU {}) began at {}, wrote at {}: {} {}",
            line.op,
            line.vu,
            at(line.began),
            at(line.wrote),
            line.kind,
            line.what
        );
        wrap(&said, width, "  ")
    };
    let heading = format!("what {name} let happen in programme {}: {}", finding.authorisation, finding.detail);
    let why = format!(
        "{second} had begun before {first} had written, and {first} before {second} had: each began before the other had committed. Each \
         change keeps the rules by itself; all of them together do not.",
        first = first.op,
        second = second.op
    );
    [wrap(&heading, width, ""), line(first), line(second), wrap(&why, width, "  ")].join("\n")
}

/// The rounds of each turn and contest, and those of them that had more winners than room.
pub fn contests(record: &RunRecord, width: u16, colour: bool) -> String {
    let turns: Vec<&TurnRecord> = record.turns.iter().filter(|turn| !turn.audit.contests.is_empty()).collect();
    if turns.is_empty() {
        return String::new();
    }
    let contests: Vec<Contest> =
        Contest::ALL.into_iter().filter(|c| turns.iter().any(|turn| turn.audit.contests.contains_key(c.name()))).collect();
    let cell = |turn: &TurnRecord, contest: Contest| match turn.audit.contests.get(contest.name()) {
        Some(contested) => format!("{} of {}", grouped(contested.broken), grouped(contested.rounds)),
        None => "-".into(),
    };
    // Names of strategies are long: of more than a few, each gets a row.
    let mut names = vec!["rounds broken"];
    let mut table = if turns.len() > 3 {
        names.extend(contests.iter().map(|contest| contest.name()));
        let mut table = grid(&names, width, colour);
        for turn in &turns {
            table.add_row(std::iter::once(turn.name.clone()).chain(contests.iter().map(|contest| cell(turn, *contest))));
        }
        table
    } else {
        names.extend(turns.iter().map(|turn| &*turn.name));
        let mut table = grid(&names, width, colour);
        for contest in &contests {
            table.add_row(std::iter::once(contest.name().to_owned()).chain(turns.iter().map(|turn| cell(turn, *contest))));
        }
        table
    };
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if width < ROOMY { 1 } else { 2 }));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    finish(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Breach;

    #[test]
    fn the_two_transactions_are_told_with_when_they_began_and_wrote() {
        let line = |vu: i32, kind: &str, what: &str, began, wrote| Line {
            op: format!("6.{vu}.2"),
            vu,
            kind: kind.into(),
            what: what.into(),
            began,
            wrote,
        };
        let skew = Skew {
            first: line(6, "call", "person 40, night of 2026-06-01", 1_000_000, 1_003_112),
            second: line(1, "assign", "person 40, half day 42 (2026-06-02 PM)", 1_000_214, 1_003_901),
        };
        let finding = Finding {
            breach: Breach::TooManyWinners,
            authorisation: 273,
            operations: vec!["6.6.2".into(), "6.1.2".into()],
            detail: "a contest of rest with room for 1, and 2 had what they wanted".into(),
            skew: Some(skew.clone()),
        };
        assert_eq!(
            skewed("repeatable-read", &finding, &skew, 132),
            "\
what repeatable-read let happen in programme 273: a contest of rest with room for 1, and 2 had what they wanted
  6.6.2 (VU 6) began at 0.000 ms, wrote at 3.112 ms: call person 40, night of 2026-06-01
  6.1.2 (VU 1) began at 0.214 ms, wrote at 3.901 ms: assign person 40, half day 42 (2026-06-02 PM)
  6.1.2 had begun before 6.6.2 had written, and 6.6.2 before 6.1.2 had: each began before the other had committed. Each \
change keeps
  the rules by itself; all of them together do not."
        );
    }
}
