//! How does a suite read? A row per scenario, and one word for all of them.

use comfy_table::Color;

use super::text::{finish, grid, grouped, mark, shorten, wrap};
use crate::record::SuiteEntry;
use crate::verdict::{Decision, Verdict};

/// The table, and what to think of it.
pub fn text(entries: &[SuiteEntry], width: u16, colour: bool) -> String {
    let mut table = grid(&["scenario", "commits/s", "p95", "refused", "decision"], width, colour);
    for entry in entries {
        let word = if entry.was_run { entry.decision.word() } else { "NOT RUN" };
        table.add_row(vec![
            entry.name.as_str().into(),
            entry.committed_per_second.map_or("-".into(), |n| grouped(n.round() as u64)).into(),
            entry.p95_ms.map_or("-".into(), super::run::milliseconds).into(),
            entry.refused.map_or("-".into(), grouped).into(),
            mark(word, shade(entry.decision)),
        ]);
    }
    let mut lines = vec![finish(&table), String::new()];
    for entry in entries.iter().filter(|entry| entry.decision != Decision::Go) {
        for reason in entry.reasons.iter().take(3) {
            lines.push(wrap(&format!("{}: {}", entry.name, shorten(reason, 300)), width, "  "));
        }
        lines.push(wrap(&format!("again:  {}", entry.command), width, "  "));
    }
    let verdict = Verdict::worst(entries.iter().map(|entry| entry.verdict));
    let decision = decision(entries);
    lines.push(format!("{} ({}): {} of {} scenarios say GO", decision.word(), verdict.word(), go(entries), entries.len()));
    lines.join("\n")
}

fn go(entries: &[SuiteEntry]) -> usize {
    entries.iter().filter(|entry| entry.decision == Decision::Go).count()
}

/// NO-GO wins over what is not known, that over a warning; only GO everywhere is GO.
fn decision(entries: &[SuiteEntry]) -> Decision {
    let any = |decision| entries.iter().any(|entry| entry.decision == decision);
    match () {
        () if any(Decision::NoGo) => Decision::NoGo,
        () if any(Decision::Inconclusive) || entries.is_empty() => Decision::Inconclusive,
        () if any(Decision::Warn) => Decision::Warn,
        () => Decision::Go,
    }
}

fn shade(decision: Decision) -> Color {
    match decision {
        Decision::Go => Color::Green,
        Decision::NoGo => Color::Red,
        Decision::Warn | Decision::Inconclusive => Color::Yellow,
    }
}
