//! What went wrong on purpose, how long it took to recover, and what became of every operation?

use comfy_table::{CellAlignment, ColumnConstraint};

use super::run::milliseconds;
use super::text::{finish, grid, grouped, wrap};
use crate::audit::Classes;
use crate::metrics::percent;
use crate::outcome::OutcomeClass;
use crate::record::{FaultRecord, RunRecord, StrikeRecord, TurnRecord};

/// Turns that stand side by side in the table of classes.
const SIDE_BY_SIDE: usize = 4;

/// The faults and what came of them, turn by turn; empty where none was planned.
pub fn faults(record: &RunRecord, width: u16, colour: bool) -> String {
    let mut parts = Vec::new();
    for turn in record.turns.iter().filter(|turn| !turn.faults.is_empty()) {
        let mut table = grid(&["fault", "struck", "lasted ms", "recovered ms"], width, colour);
        for fault in &turn.faults {
            table.add_row([
                fault.fault.to_string(),
                format!("{} of {}", fault.struck, fault.planned),
                spread(fault, |strike| Some(strike.lasted_ms)),
                recovered(fault),
            ]);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if index > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            } else {
                // As it is typed again.
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let prefix = if record.turns.len() > 1 { format!("{}: ", turn.name) } else { String::new() };
        let budget = wrap(&format!("{prefix}{}", budget(turn)), width, "  ");
        parts.push(format!("{}\n{budget}", finish(&table)));
    }
    parts.join("\n\n")
}

/// The middle and the longest: `3.1, at most 20`.
fn spread(fault: &FaultRecord, pick: impl Fn(&StrikeRecord) -> Option<f64>) -> String {
    let mut all: Vec<f64> = fault.strikes.iter().filter_map(pick).collect();
    all.sort_by(f64::total_cmp);
    match &all[..] {
        [] => "-".into(),
        [one] => milliseconds(*one),
        several => format!("{}, at most {}", milliseconds(several[several.len() / 2]), milliseconds(several[several.len() - 1])),
    }
}

fn recovered(fault: &FaultRecord) -> String {
    let never = fault.strikes.iter().filter(|strike| strike.recovery_ms.is_none()).count();
    let spread = spread(fault, |strike| strike.recovery_ms);
    match never {
        0 => spread,
        _ if spread == "-" => spread,
        n => format!("{spread} ({n} not seen)"),
    }
}

/// What the faults have cost: the operations that came to nothing, and those that nobody knows of.
fn budget(turn: &TurnRecord) -> String {
    let all = turn.counts.iterations();
    let (aborted, unknown) = (turn.counts.of(OutcomeClass::Aborted), turn.counts.of(OutcomeClass::Unknown));
    let share = if all == 0 { 0.0 } else { (aborted + unknown) as f64 / all as f64 };
    format!(
        "error budget spent: {} of {} iterations ({} aborted, {} never answered), {}",
        grouped(aborted + unknown),
        grouped(all),
        grouped(aborted),
        grouped(unknown),
        percent(share)
    )
}

/// What became of every operation: what the client was told against what the database holds. Shown where faults were planned, or where
/// somebody was never answered.
pub fn classes(record: &RunRecord, width: u16, colour: bool) -> String {
    let is_worth_it = |turn: &&TurnRecord| !turn.faults.is_empty() || turn.counts.of(OutcomeClass::Unknown) > 0;
    let turns: Vec<&TurnRecord> = record.turns.iter().filter(is_worth_it).collect();
    if turns.is_empty() || !record.plan.keeps_ledger() {
        return String::new();
    }
    let tables = turns.chunks(SIDE_BY_SIDE).map(|turns| {
        let mut names = vec!["the client was told"];
        names.push("the database");
        names.extend(turns.iter().map(|turn| &*turn.name));
        let mut table = grid(&names, width, colour);
        let has_keys = record.plan.keys().is_some();
        for (told, found, pick) in ROWS.iter().filter(|(told, ..)| has_keys || ![STORED, LAPSED].contains(told)) {
            let mut row = vec![(*told).to_owned(), (*found).to_owned()];
            row.extend(turns.iter().map(|turn| grouped(pick(&turn.audit.classes))));
            table.add_row(row);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if index > 1 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        finish(&table)
    });
    tables.collect::<Vec<_>>().join("\n\n")
}

/// A class of operations: what the client was told, what the database holds, and how many.
type Row = (&'static str, &'static str, fn(&Classes) -> u64);

/// What who asks with a known key is told.
const STORED: &str = "the stored answer";
/// And who asks with one that has come to stand for something else.
const LAPSED: &str = "refused, key lapsed";

const ROWS: &[Row] = &[
    ("committed", "holds it", |c| c.acknowledged_present),
    ("committed", "has lost it", |c| c.acknowledged_lost),
    (STORED, "has another's effect", |c| c.replayed),
    (STORED, "holds it", |c| c.replayed_own),
    ("refused", "has nothing of it", |c| c.refused),
    ("refused", "holds it", |c| c.refused_present),
    (LAPSED, "holds it", |c| c.lapsed_present),
    ("aborted", "has nothing of it", |c| c.aborted),
    ("aborted", "holds it", |c| c.aborted_present),
    ("nothing", "holds it", |c| c.unknown_committed),
    ("nothing", "never will hold it", |c| c.unknown_absent),
    ("nothing", "could not be asked", |c| c.unknown_unresolved),
    ("whatever", "holds it twice", |c| c.duplicated),
    ("never asked", "holds it", |c| c.phantom),
];
