//! What does a pass rest on, and what follows from everything that was found? Pure.

use super::Judged;
use crate::audit::Audit;
use crate::invariant::{self};
use crate::metrics::{Counts, percent};
use crate::outcome::{Abort, OutcomeClass, Refusal};
use crate::plan::{Mode, Plan};
use crate::probe::Sessions;
use crate::record::{Gate, Live};
use crate::strategy::{Mechanism, Strategy};
use crate::verdict::Verdict;

/// Contested blocks below which a run says too little: with 20, a fault in 15 % of them could still have been missed.
pub const LEAST_CONTESTED: u64 = 20;

/// The conditions without which a pass would rest on nothing.
pub(super) fn gates(
    plan: &Plan,
    strategy: Strategy,
    counts: &Counts,
    audit: &Audit,
    sessions: &Sessions,
    live: &Live,
) -> Vec<Gate> {
    let exposure = &audit.exposure;
    let longer = "run longer (--duration), or raise --vus".to_owned();
    let mut gates = vec![Gate {
        name: format!("contention in at least {LEAST_CONTESTED} {}", plan.mode.blocks()),
        met: exposure.contested_blocks >= LEAST_CONTESTED,
        measured: format!(
            "in {} of {}: {} of {} handovers contested, {} attempts turned down by concurrent ones",
            exposure.contested_blocks, exposure.blocks, exposure.contested, exposure.handovers, exposure.conflicts
        ),
        cure: longer.clone(),
    }];
    match strategy.mechanism() {
        Mechanism::LockWaits => gates.push(Gate {
            name: "sessions were seen waiting for locks".into(),
            met: sessions.with_lock_waits > 0,
            measured: format!(
                "in {} of {} samples, at most {} at once ({} samples missed)",
                sessions.with_lock_waits, sessions.samples, sessions.most_waiting, sessions.missed
            ),
            cure: longer.clone(),
        }),
        Mechanism::FailedAttempts(abort) => gates.push(Gate {
            name: format!("attempts failed with {}", abort.words()),
            met: counts.failed(abort) > 0,
            measured: format!("{} of {} attempts", counts.failed(abort), counts.attempts_made()),
            cure: longer.clone(),
        }),
        Mechanism::None => {}
    }
    let committed = counts.of(OutcomeClass::Committed);
    let capacity: u64 = counts.refused.iter().filter(|(r, _)| r.is_about_capacity()).map(|(_, n)| n).sum();
    gates.push(Gate {
        name: "some succeeded and some were refused for lack of units".into(),
        met: committed > 0 && capacity > 0,
        measured: format!("{committed} committed, {capacity} refused for lack of units"),
        cure: "lower --total or raise --vus so that units run out; run longer".into(),
    });
    gates.push(Gate {
        name: "the rules were checked during the load".into(),
        met: live.samples > 0,
        measured: format!(
            "in {} snapshots, {} missed, held {:.1} % of the time",
            live.samples,
            live.missed,
            live.duty_cycle * 100.0
        ),
        cure: longer,
    });
    if plan.mode == Mode::Churn {
        let strangers = counts.refused.get(&Refusal::WrongOrganisation).copied().unwrap_or(0);
        gates.push(Gate {
            name: "strangers tried and were refused".into(),
            met: strangers > 0,
            measured: format!("{strangers} of {} refused", counts.attacks),
            cure: "seed a dataset with more than one organisation; run longer".into(),
        });
    }
    gates
}

/// The verdict on one turn. A breach decides; short of one, anything that leaves the question open.
pub(super) fn judge(
    plan: &Plan,
    strategy: Strategy,
    counts: &Counts,
    judged: &Judged,
    live: &Live,
    gates: &[Gate],
) -> (Verdict, Vec<String>) {
    let mut violated = Vec::new();
    // What ended the load comes first: most of what is missing besides is missing because of it.
    let mut open: Vec<String> = judged.driven.failure.iter().map(ToString::to_string).collect();
    for (breach, count) in &judged.audit.breaches {
        violated.push(format!("{} ({count})", breach.words()));
    }
    let claimed: Vec<String> = plan.claims().into_iter().map(str::to_owned).collect();
    let (verdict, reasons) = invariant::judge(&judged.invariants, &claimed);
    match verdict {
        // The server was gone; that is said already, and once is enough.
        _ if judged.invariants.is_empty() && judged.driven.failure.is_some() => {}
        Verdict::Violated => violated.extend(reasons),
        Verdict::Pass => {}
        Verdict::Inconclusive | Verdict::Missed => open.extend(reasons),
    }
    if let Some((seconds, name)) = &live.first_breach {
        violated.push(format!("{name} was violated under load, first seen after {seconds:.1} s"));
    }
    if strategy != Strategy::CheckConstraint && counts.failed(Abort::CheckViolation) > 0 {
        violated.push(format!(
            "the database refused {} writes (23514) that {} had let through",
            counts.failed(Abort::CheckViolation),
            strategy.name()
        ));
    }
    if judged.driven.interrupted {
        open.push("interrupted".into());
    }
    if let Some(restless) = &judged.restless {
        open.push(format!("the database was not quiet when it was judged: {restless}"));
    }
    open.extend(judged.audit.incomplete.iter().cloned());
    for gate in gates.iter().filter(|g| !g.met) {
        open.push(format!("required: {}; measured: {}; to change that: {}", gate.name, gate.measured, gate.cure));
    }
    match (violated.is_empty(), open.is_empty()) {
        // What is missing for a pass no longer matters; the gates are in the record.
        (false, _) => (Verdict::Violated, violated),
        (true, false) => (Verdict::Inconclusive, open),
        (true, true) => (Verdict::Pass, vec![bound_in_words(plan.mode, &judged.audit)]),
    }
}

fn bound_in_words(mode: Mode, audit: &Audit) -> String {
    match audit.exposure.bound() {
        Some(bound) => format!(
            "no breach in {} contested {}; at 95 % confidence, fewer than {} of them have one",
            audit.exposure.contested_blocks,
            mode.blocks(),
            percent(bound)
        ),
        None => "no breach".into(),
    }
}
