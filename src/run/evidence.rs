//! What does a pass rest on, and what follows from everything that was found? Pure.

use std::collections::BTreeMap;

use super::figures::Figures;
use super::turn::PATIENCE;
use super::{INTERRUPTED, Judged};
use crate::audit::{Audit, LEAST_CONTESTED};
use crate::history::Asking;
use crate::invariant::{self, Finding};
use crate::metrics::{Counts, grouped, percent};
use crate::outcome::{Abort, OutcomeClass, Refusal};
use crate::plan::{Load, Plan, Workload};
use crate::probe::{Sessions, Watched};
use crate::record::{Gate, Live};
use crate::request::Sum;
use crate::scenario::{Booking, InFlight, Keys};
use crate::strategy::{Mechanism, Strategy};
use crate::threshold::{Counter, Figure, Judgement, State, Threshold};
use crate::verdict::Verdict;
use crate::workload::contest::Contest;

/// The setting that says whether foreign keys and triggers fire.
pub(super) const REPLICATION_ROLE: &str = "session_replication_role";

/// Where foreign keys and triggers do not fire, what they would have refused is written: that nothing was broken rests on luck.
pub(super) fn enforced(settings: &BTreeMap<String, String>) -> Option<Gate> {
    let role = settings.get(REPLICATION_ROLE).filter(|role| *role == "replica")?;
    Some(Gate {
        name: "foreign keys and triggers fire".into(),
        met: false,
        measured: format!("{REPLICATION_ROLE} = {role} in the sessions of the load: neither does"),
        cure: format!("ALTER DATABASE … RESET {REPLICATION_ROLE}, or of the role or the server if it is set there"),
    })
}

/// The conditions without which a pass would rest on nothing.
pub(super) fn gates(
    plan: &Plan,
    strategy: Option<Strategy>,
    counts: &Counts,
    figures: &Figures<'_>,
    audit: &Audit,
    (sessions, watched): (&Sessions, &Watched),
    live: &Live,
) -> Vec<Gate> {
    let evidence = &plan.evidence;
    let longer = longer(&plan.load, counts).to_owned();
    let mut gates = Vec::new();
    // Where every contested block may have a breach, nothing can be claimed, whatever the scenario is content with.
    let least = match plan.keeps_ledger() && !plan.claims.is_empty() {
        true => evidence.contested.max(LEAST_CONTESTED),
        false => evidence.contested,
    };
    if least > 0 {
        gates.push(contested(plan, least, counts, audit, (sessions, watched), &longer));
    }
    if evidence.mechanism {
        gates.extend(strategy.and_then(|s| mechanism(s, counts, (sessions, watched), &longer)));
        gates.extend(strategy.and_then(|s| dangerous_structures(plan, s, counts, &longer)));
    }
    gates.push(done(plan, counts, figures.rows()));
    gates.extend(unresolved(plan, counts));
    gates.extend(asked_about(plan, figures));
    gates.extend(no_surprises(plan, counts));
    gates.extend(played(plan, audit, &longer));
    gates.extend(made(plan, counts));
    let idle = figures.never_done();
    gates.extend((!idle.is_empty()).then(|| Gate {
        name: "every operation that was tried was done or refused now and then".into(),
        met: false,
        measured: format!("never: {}", idle.join(", ")),
        cure: why_not(plan),
    }));
    for (operation, least) in &evidence.committed {
        let done = figures.changed(operation);
        let (unchanged, rolled_back) = (figures.committed(operation) - done, figures.rolled_back(operation));
        gates.push(Gate {
            name: format!("{operation} committed a change at least {least} times"),
            met: done >= *least,
            measured: match (unchanged, rolled_back) {
                (0, 0) => format!("{done} times"),
                (0, _) => format!("{done} times; {} times its script rolled back", grouped(rolled_back)),
                _ => format!("{done} times; {} times it committed and had changed nothing", grouped(unchanged)),
            },
            cure: match (unchanged, rolled_back) {
                (0, 0) => longer.clone(),
                (0, _) => "end its script with COMMIT".into(),
                _ => format!(
                    "{longer}; of what only reads --threshold '{operation}.committed.count>={least}' says how often it committed"
                ),
            },
        });
    }
    if evidence.refused > 0 {
        let refused: u64 = counts.refused.iter().filter(|(r, _)| r.is_about_capacity()).map(|(_, n)| n).sum();
        let (name, cure) = match &plan.workload {
            Workload::Booking(_) => {
                ("were refused for lack of units", "lower --total or raise --vus so that units run out; run longer")
            }
            Workload::Scheduling(_) => ("were refused by a rule of the schedule", "raise --vus, or run longer"),
            Workload::Sql(_) | Workload::Http(_) => ("were refused by a rule of the scenario", "make it scarcer, or run longer"),
        };
        gates.push(Gate {
            name: format!("at least {} {name}", evidence.refused),
            met: refused >= evidence.refused,
            measured: format!("{refused} {name}"),
            cure: cure.into(),
        });
    }
    if let Some(booking) = plan.booking()
        && let Some(keys) = booking.keys
    {
        gates.extend(keyed(booking, keys, counts, figures, audit, &longer));
    }
    if evidence.live {
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
    }
    if plan.booking().is_some_and(|b| b.strangers > 0.0) {
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

/// What there must be more of for more to happen: of whatever ended the load.
fn longer(load: &Load, counts: &Counts) -> &'static str {
    match load.iterations() {
        Some(_) if matches!(load, Load::Rounds { .. }) => "more --rounds, or more --vus",
        Some(all) if counts.iterations() + counts.warm_up >= all => "more --iterations, or more --vus",
        Some(_) => "run longer (--duration), or raise --vus: time was over before all iterations were made",
        None => "run longer, or raise --vus",
    }
}

/// Was anything done? Where rules are claimed of a user's own rows, that is a change of them: what only reads, meets no row or rolls back breaks no rule.
fn done(plan: &Plan, counts: &Counts, rows: Option<u64>) -> Gate {
    let committed = counts.of(OutcomeClass::Committed);
    let rolled_back = counts.of(OutcomeClass::RolledBack);
    let is_about_rows = matches!(plan.workload, Workload::Sql(_)) && !plan.claims.is_empty();
    let mut measured = format!("{committed} of {} iterations committed", counts.iterations());
    if is_about_rows {
        measured += &format!(", {} of them a change", counts.changed);
    }
    if rolled_back > 0 {
        measured += &format!(", {rolled_back} were rolled back by their script");
    }
    if is_about_rows && committed > 0 && rows == Some(0) {
        measured += "; the server counts no row as inserted, updated or deleted in a table that is not temporary";
    }
    Gate {
        name: if is_about_rows { "something was changed" } else { "something was done" }.into(),
        // What was done and never acknowledged is told by a replay.
        met: if is_about_rows { counts.changed > 0 } else { committed + counts.of(OutcomeClass::Replayed) + rolled_back > 0 },
        measured,
        cure: match (counts.iterations(), counts.warm_up) {
            (0, 1..) => "nothing was left after the warm-up: shorten --warm-up, or run longer".into(),
            _ if committed + rolled_back > 0 => "let operations change rows, and commit that".into(),
            _ => why_not(plan),
        },
    }
}

/// Of a user's own rows nobody can look up what became of a transaction that was not answered. Where answers get lost on purpose, that is what was
/// asked for.
fn unresolved(plan: &Plan, counts: &Counts) -> Option<Gate> {
    let measured = not_answered(plan, counts)?;
    if !plan.faults.is_empty() || has_budget(plan, OutcomeClass::Unknown) {
        return None;
    }
    let (unknown, allowed) = (counts.of(OutcomeClass::Unknown), plan.evidence.unknown);
    Some(Gate {
        name: match allowed > 0.0 {
            true => format!("of at most {} of the iterations it is unknown what became of them", percent(allowed)),
            false => "it is known of every iteration what became of it".into(),
        },
        met: unknown as f64 <= allowed * counts.iterations() as f64,
        measured,
        cure: "see what they waited for (locks are among what the server was seen at); or say how many are expected ([evidence] unknown = 0.01)"
            .into(),
    })
}

/// `18 iterations were cut off at the 10 s deadline; outcome unknown`, and those whose session ended.
pub(super) fn not_answered(plan: &Plan, counts: &Counts) -> Option<String> {
    let unknown = counts.of(OutcomeClass::Unknown);
    if unknown == 0 || !matches!(plan.workload, Workload::Sql(_)) {
        return None;
    }
    let cut_off = counts.cut_off.min(unknown);
    let were = |n: u64| if n == 1 { "iteration was" } else { "iterations were" };
    let said = [
        (cut_off > 0).then(|| {
            let deadline = plan.retry.deadline.max(PATIENCE).as_secs_f64();
            format!("{} {} cut off at the {deadline} s deadline; outcome unknown", grouped(cut_off), were(cut_off))
        }),
        (unknown > cut_off).then(|| {
            let lost = unknown - cut_off;
            format!("{} {} not answered before the session ended; outcome unknown", grouped(lost), were(lost))
        }),
    ];
    Some(said.into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Whether a threshold limits, from above and for all operations, what ends so: that so many commit says nothing of the others.
fn has_budget(plan: &Plan, class: OutcomeClass) -> bool {
    let is_budget = |threshold: &Threshold| {
        threshold.operation().is_none()
            && match threshold.figure() {
                Figure::Count(counter) | Figure::Share(counter)
                    if counter == Counter::Failed || counter == Counter::Class(class) =>
                {
                    !threshold.operator().is_floor()
                }
                Figure::Share(Counter::Class(OutcomeClass::Committed)) => threshold.operator().is_floor(),
                _ => false,
            }
    };
    plan.thresholds.iter().any(is_budget)
}

/// Operations of the user's own that fail for reasons which have nothing to do with others are not what the scenario says it does. A threshold on
/// what aborts says how much of that is expected.
fn no_surprises(plan: &Plan, counts: &Counts) -> Option<Gate> {
    let has_budget = has_budget(plan, OutcomeClass::Aborted);
    // How many checks of answers may fail is a budget for those that do, and for nothing else.
    let is_of_checks = |threshold: &Threshold| {
        threshold.operation().is_none() && threshold.figure() == Figure::Share(Counter::Checks) && threshold.operator().is_floor()
    };
    let has_checks = plan.thresholds.iter().any(is_of_checks);
    let surprises: Vec<String> = counts
        .aborted
        .iter()
        .filter(|(abort, _)| !abort.is_retryable())
        // Whoever lets things go wrong, or asks an API, has deadlines that pass; nothing else keeps a statement waiting for so long without a cause.
        .filter(|(abort, _)| **abort != Abort::Deadline || matches!(plan.workload, Workload::Sql(_)) && plan.faults.is_empty())
        .filter(|(abort, _)| !(has_checks && **abort == Abort::Expectation))
        .map(|(abort, n)| format!("{} {}", grouped(*n), abort.words()))
        .collect();
    (!plan.keeps_ledger() && !has_budget && !surprises.is_empty()).then(|| Gate {
        name: "no operation failed for reasons of its own".into(),
        met: false,
        measured: surprises.join(", "),
        cure: format!(
            "correct it; or say what it means (outcomes = {{ {} = \"refused\" }}); or how much is expected (--threshold 'aborted.rate<1%')",
            if plan.http().is_some() { "422" } else { "\"23505\"" }
        ),
    })
}

/// Where to look for why nothing was done.
fn why_not(plan: &Plan) -> String {
    match plan.http() {
        Some(_) => {
            "look at what was answered: refused, aborted and unknown are in the table; curl shows one answer; what a redirect means is for the \
             scenario to say (outcomes = { 303 = \"committed\" })"
        }
        None => "look at the failed attempts",
    }
    .into()
}

/// A rule about how often something was done says nothing of what never was.
fn asked_about(plan: &Plan, figures: &Figures<'_>) -> Option<Gate> {
    let claimed = plan.http()?.rules.iter().filter(|rule| plan.claims.contains(&rule.name));
    let sums: Vec<Sum> = claimed.filter_map(|rule| Sum::parse(&rule.with).ok()).collect();
    let mut never: Vec<&str> = sums.iter().flat_map(Sum::counted).map(|counted| counted.operation.as_str()).collect();
    never.retain(|operation| figures.committed(operation) == 0);
    never.sort_unstable();
    never.dedup();
    (!never.is_empty()).then(|| Gate {
        name: "what the claimed rules count was done".into(),
        met: false,
        measured: format!("never: {}", never.join(", ")),
        cure: "give it a weight, and rows that it can be done with; run longer".into(),
    })
}

/// What is said of contests is said of those that took place.
fn played(plan: &Plan, audit: &Audit, longer: &str) -> Option<Gate> {
    let missing: Vec<&str> =
        plan.scheduling()?.contested().map(Contest::name).filter(|name| !audit.contests.contains_key(*name)).collect();
    (!missing.is_empty()).then(|| Gate {
        name: "every contest took place".into(),
        met: false,
        measured: format!("never: {}", missing.join(", ")),
        cure: format!("{longer}; or give it the weight 0, and leave out what it is claimed for"),
    })
}

/// Nothing of ours keeps a change of a schedule from being made without a word; where something does, half of a contest cannot take place.
fn made(plan: &Plan, counts: &Counts) -> Option<Gate> {
    let vanished = counts.failed(Abort::Other);
    (plan.scheduling().is_some() && vanished > 0).then(|| Gate {
        name: "every change that was sent was made".into(),
        met: false,
        measured: format!("{} attempts came to nothing, or to an error that is none of the run's", grouped(vanished)),
        cure: "look for a trigger or a rule that somebody put on the tables of schema dbstress".into(),
    })
}

/// Each way of asking with a key must have come to what it is for.
fn keyed(booking: &Booking, keys: Keys, counts: &Counts, figures: &Figures<'_>, audit: &Audit, longer: &str) -> Vec<Gate> {
    let gate = |name: &str, seen: u64, of: String| Gate {
        name: name.to_owned(),
        met: seen > 0,
        measured: format!("{} {of}", grouped(seen)),
        cure: longer.to_owned(),
    };
    let requests = format!("of {} requests", grouped(counts.iterations()));
    let mut gates =
        vec![gate("known keys were answered with the stored response", counts.of(OutcomeClass::Replayed), requests.clone())];
    if keys.in_flight == InFlight::Refuse {
        let seen = counts.failed(Abort::KeyInFlight);
        gates.push(gate(
            "requests were told that their key is in flight",
            seen,
            format!("of {} attempts", grouped(counts.attempts_made())),
        ));
    }
    let is_asked = |asking| booking.operations.iter().any(|o| o.request == Some(asking) && o.weight > 0.0);
    if is_asked(Asking::HangUp) {
        let name = "a COMMIT that was not answered had taken effect, and the next request was told so";
        gates.push(gate(name, audit.classes.replayed_own, format!("of {} unanswered COMMITs", grouped(counts.unanswered))));
    }
    if is_asked(Asking::OtherBody) {
        let refused = counts.refused.get(&Refusal::KeyMismatch).copied().unwrap_or(0);
        gates.push(gate("another body under the same key was refused", refused, requests));
    }
    if is_asked(Asking::OtherTenant) {
        let of_other = booking.operations.iter().filter(|o| o.request == Some(Asking::OtherTenant));
        let committed = of_other.map(|o| figures.committed(&o.name)).sum();
        gates.push(gate("another organisation had it done under the same key", committed, "times".into()));
    }
    if is_asked(Asking::Late) {
        let renewed = audit.key_lifetimes.saturating_sub(audit.keys);
        gates.push(gate("keys were begun anew after their lifetime", renewed, format!("of {}", grouped(audit.keys))));
    }
    gates
}

/// Did operations really meet? A ledger shows where; without one, what the server said of conflicts and locks must do.
fn contested(
    plan: &Plan,
    least: u64,
    counts: &Counts,
    audit: &Audit,
    (sessions, watched): (&Sessions, &Watched),
    longer: &str,
) -> Gate {
    let exposure = &audit.exposure;
    if plan.keeps_ledger() {
        let overtaken = match exposure.overtaken {
            0 => String::new(),
            n => format!(", {n} refused who had begun before those wrote that they lost to"),
        };
        return Gate {
            name: format!("contention in at least {least} {}", plan.blocks()),
            met: exposure.contested_blocks >= least,
            measured: format!(
                "in {} of {}: {} of {} handovers contested, {} attempts turned down by concurrent ones{overtaken}",
                exposure.contested_blocks, exposure.blocks, exposure.contested, exposure.handovers, exposure.conflicts
            ),
            cure: longer.to_owned(),
        };
    }
    let seen = counts.conflicts() + sessions.with_lock_waits;
    Gate {
        name: format!("contention was seen at least {least} times"),
        met: seen >= least,
        measured: format!(
            "{} attempts turned down by concurrent ones, locks waited for in {}{}",
            counts.conflicts(),
            samples(sessions),
            gap(watched)
        ),
        cure: unseen(watched, longer),
    }
}

fn samples(sessions: &Sessions) -> String {
    format!("{} of {} samples", sessions.with_lock_waits, sessions.samples)
}

/// What is missing of the samples, if so much is that what was not seen may have been there.
fn gap(watched: &Watched) -> String {
    watched.gap().map_or(String::new(), |gap| format!("; {gap}"))
}

/// What to do where too little was seen: first see to it that somebody looks.
fn unseen(watched: &Watched, otherwise: &str) -> String {
    match watched.gap() {
        Some(_) if watched.interval_ms == 0 => "let the server be watched: --probe-interval 100ms".into(),
        Some(_) => "give the server, or the machine of dbstress, less to do, so that it can be watched; run longer".into(),
        None => otherwise.to_owned(),
    }
}

/// Was what protects the rows seen at work? A lock wait that was seen is one, however many samples are missing; that none was seen means
/// something only if somebody looked.
fn mechanism(strategy: Strategy, counts: &Counts, (sessions, watched): (&Sessions, &Watched), longer: &str) -> Option<Gate> {
    match strategy.mechanism() {
        Mechanism::LockWaits => Some(Gate {
            name: "sessions were seen waiting for locks".into(),
            met: sessions.with_lock_waits > 0,
            measured: format!("in {}, at most {} at once{}", samples(sessions), sessions.most_waiting, gap(watched)),
            cure: unseen(watched, longer),
        }),
        Mechanism::FailedAttempts(abort) => Some(Gate {
            name: format!("attempts failed with {}", abort.words()),
            met: counts.failed(abort) > 0,
            measured: format!("{} of {} attempts", counts.failed(abort), counts.attempts_made()),
            cure: longer.to_owned(),
        }),
        Mechanism::None => None,
    }
}

/// The routines of the server that find a dangerous structure of reads and writes; every other 40001 is snapshot isolation's, which repeatable
/// read has too: whoever updates a row first wins.
const FINDING_STRUCTURES: [&str; 5] = [
    "CheckForSerializableConflictIn",
    "CheckForSerializableConflictOut",
    "CheckForSerializableConflictOutNeeded",
    "OnConflict_CheckForSerializationFailure",
    "PreCommit_CheckForSerializationFailure",
];

/// Where schedules are changed, serializable is more than repeatable read only if it has turned somebody down for what others had read.
fn dangerous_structures(plan: &Plan, strategy: Strategy, counts: &Counts, longer: &str) -> Option<Gate> {
    let is_asked = plan.scheduling().is_some_and(|scheduling| scheduling.contested().any(|contest| !contest.is_about_one_row()));
    if strategy != Strategy::Serializable || !is_asked {
        return None;
    }
    let found: u64 = FINDING_STRUCTURES.iter().filter_map(|routine| counts.sqlstates.get(&format!("40001 {routine}"))).sum();
    Some(Gate {
        name: "the server turned transactions down for dangerous structures of reads and writes".into(),
        met: found > 0,
        measured: format!("{} of {} failures with 40001", grouped(found), grouped(counts.failed(Abort::SerializationFailure))),
        cure: longer.to_owned(),
    })
}

/// The verdict on one turn. A breach decides; short of one, anything that leaves the question open; short of that, a missed threshold.
pub(super) fn judge(
    plan: &Plan,
    strategy: Option<Strategy>,
    counts: &Counts,
    judged: &Judged,
    live: &Live,
    gates: &[Gate],
    thresholds: &[Judgement],
) -> (Verdict, Vec<String>) {
    let mut violated = Vec::new();
    // What ended the load comes first: most of what is missing besides is missing because of it.
    let mut open: Vec<String> = judged.driven.failure.iter().map(ToString::to_string).collect();
    for (breach, count) in &judged.audit.breaches {
        violated.push(format!("{} ({count})", breach.words()));
    }
    open.extend(judged.driven.wrong.clone());
    if let Some(pool) = judged.driven.pool.as_ref().filter(|pool| pool.books.in_use() > 0) {
        open.push(format!("{} connections of the pool were not given back: this is a bug in dbstress", pool.books.in_use()));
    }
    match (&judged.cleanup, plan.keys()) {
        (Some(cleanup), _) => {
            violated.extend(cleanup.wrongs());
            if cleanup.expired > 0 && cleanup.batches_beside == 0 {
                open.push("no expired key was deleted while the load ran: run longer".into());
            }
        }
        (None, Some(_)) => open.push("the clean-up of expired keys did not come to its end".into()),
        (None, None) => {}
    }
    let (verdict, reasons) = invariant::judge(&judged.invariants, &plan.claims);
    match verdict {
        // What is not claimed cannot be vacuous; but it is said to be examined, so that a check which was not made is missing all the same.
        Verdict::Inconclusive if plan.claims.is_empty() => {
            open.extend(judged.invariants.iter().filter_map(|checked| match &checked.finding {
                Finding::Errored(why) => Some(format!("{} could not be checked: {why}", checked.label())),
                _ => None,
            }));
        }
        // The server was gone; that is said already, and once is enough.
        _ if judged.invariants.is_empty() && judged.driven.failure.is_some() => {}
        // That nothing was claimed is no news where the plan claims nothing.
        Verdict::Violated => {
            violated.extend(reasons.into_iter().filter(|why| !plan.claims.is_empty() || why != "nothing was claimed"))
        }
        Verdict::Pass => {}
        Verdict::Inconclusive | Verdict::Missed => open.extend(reasons),
    }
    if let Some((seconds, name)) = &live.first_breach {
        violated.push(format!("{name} was violated under load, first seen after {seconds:.1} s"));
    }
    if let Some(strategy) = strategy.filter(|s| *s != Strategy::CheckConstraint)
        && counts.failed(Abort::CheckViolation) > 0
    {
        violated.push(format!(
            "the database refused {} writes (23514) that {} had let through",
            counts.failed(Abort::CheckViolation),
            strategy.name()
        ));
    }
    if judged.interrupted && violated.is_empty() {
        // Whatever is missing besides is missing because of it.
        let failure = judged.driven.failure.iter().map(ToString::to_string);
        return (Verdict::Inconclusive, failure.chain([INTERRUPTED.to_owned()]).collect());
    }
    let mut missed: Vec<String> = Vec::new();
    for judgement in thresholds {
        let said = format!("threshold {}: {} measured", judgement.threshold, judgement.measured_text);
        match judgement.state {
            State::Met => {}
            State::Missed => missed.push(said),
            State::Open => {
                open.push(format!(
                    "threshold {} cannot be judged: {}",
                    judgement.threshold,
                    judgement.why.as_deref().unwrap_or(&said)
                ));
            }
        }
    }
    missed.extend(judged.driven.given_up.clone());
    if let Some(restless) = &judged.restless {
        open.push(format!("the database was not quiet when it was judged: {restless}"));
    }
    open.extend(judged.audit.incomplete.iter().cloned());
    for gate in gates.iter().filter(|g| !g.met) {
        open.push(format!("required: {}; measured: {}; to change that: {}", gate.name, gate.measured, gate.cure));
    }
    match (violated.is_empty(), open.is_empty(), missed.is_empty()) {
        // What is missing for a pass no longer matters; the gates are in the record.
        (false, ..) => (Verdict::Violated, violated),
        (true, false, _) => {
            open.extend(missed);
            (Verdict::Inconclusive, open)
        }
        (true, true, false) => (Verdict::Missed, missed),
        (true, true, true) if plan.claims.is_empty() || !plan.keeps_ledger() => (Verdict::Pass, Vec::new()),
        (true, true, true) => {
            let mut said = vec![bound_in_words(plan.blocks(), &judged.audit)];
            said.extend(goodput_lost(counts));
            (Verdict::Pass, said)
        }
    }
}

/// That much was given up breaks no promise, but who reads of a pass should know.
fn goodput_lost(counts: &Counts) -> Option<String> {
    let (aborted, all) = (counts.of(OutcomeClass::Aborted), counts.iterations());
    (aborted * 10 > all).then(|| {
        format!(
            "{} of {} iterations were given up: nothing is wrong with what was done, but little was",
            grouped(aborted),
            grouped(all)
        )
    })
}

fn bound_in_words(blocks: &str, audit: &Audit) -> String {
    match audit.exposure.bound() {
        // Of two or three blocks, all may have it: that is no bound.
        Some(bound) if bound < 1.0 => format!(
            "no breach in {} contested {}; at 95 % confidence, fewer than {} of them have one",
            audit.exposure.contested_blocks,
            blocks,
            percent(bound)
        ),
        _ => "no breach".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::Exposure;
    use crate::metrics::Recorder;
    use crate::pace::{Ramp, Think};
    use crate::scenario::Scenario;

    fn gate(with_lock_waits: u64, watched: &Watched) -> Gate {
        let sessions = Sessions { samples: watched.samples, with_lock_waits, ..Sessions::default() };
        mechanism(Strategy::ForUpdate, &Counts::default(), (&sessions, watched), "run longer").unwrap()
    }

    #[test]
    fn what_ended_the_load_is_what_there_must_be_more_of() {
        let load =
            |iterations| Load::Closed { vus: Ramp::constant(8.0, Duration::from_secs(20)), iterations, think: Think::default() };
        let counts = Counts { warm_up: 400, ..Counts::default() };
        assert!(longer(&load(Some(400)), &counts).starts_with("more --iterations"));
        assert!(longer(&load(Some(401)), &counts).contains("--duration"), "time was over first");
        assert!(longer(&load(None), &counts).starts_with("run longer"));
    }

    #[test]
    fn that_no_lock_wait_was_seen_means_nothing_where_nobody_looked() {
        let well = Watched { interval_ms: 100, samples: 50, ..Watched::default() };
        let badly = Watched { missed: 50, ..well.clone() };
        let unmet = gate(0, &well);
        assert!(!unmet.met && unmet.cure == "run longer" && !unmet.measured.contains("missing"), "{unmet:?}");
        let unseen = gate(0, &badly);
        assert!(!unseen.met && unseen.measured.contains("50 of 100 samples of the server are missing"), "{unseen:?}");
        assert!(unseen.cure.contains("so that it can be watched"), "{unseen:?}");
        let nobody = gate(0, &Watched::default());
        assert!(
            !nobody.met && nobody.measured.contains("nobody watched") && nobody.cure.contains("--probe-interval"),
            "{nobody:?}"
        );
    }

    #[test]
    fn a_lock_wait_that_was_seen_is_one_and_what_is_missing_is_told_all_the_same() {
        let watched = Watched { interval_ms: 100, samples: 50, missed: 50, ..Watched::default() };
        let met = gate(1, &watched);
        assert!(met.met && met.measured.contains("missing"), "{met:?}");
    }

    /// The gate on contention after so many contested rounds, where a scenario wants `least`.
    fn of_rounds(contested_blocks: u64, least: u64) -> Option<Gate> {
        let mut plan = Plan::of(&Scenario::built_in("contention").unwrap(), BTreeMap::new());
        plan.evidence.contested = least;
        let exposure = Exposure { blocks: 100, contested_blocks, ..Exposure::default() };
        let audit = Audit { exposure, ..Audit::default() };
        let recorder = Recorder::new(1, false);
        let figures = Figures::new(&plan, &recorder, 1.0);
        let (sessions, watched) = (Sessions::default(), Watched::default());
        let all = gates(&plan, None, recorder.counts(), &figures, &audit, (&sessions, &watched), &Live::default());
        all.into_iter().find(|gate| gate.name.starts_with("contention in at least"))
    }

    #[test]
    fn contention_so_rare_that_every_round_may_have_a_breach_is_no_evidence_whatever_the_scenario_says() {
        for least in [0, 1, 3] {
            for seen in [0, 1, 3] {
                let gate = of_rounds(seen, least).unwrap();
                assert!(!gate.met && gate.name == "contention in at least 4 rounds", "{least} {seen}: {gate:?}");
            }
            assert!(of_rounds(4, least).unwrap().met);
        }
        assert!(!of_rounds(19, 20).unwrap().met && of_rounds(20, 20).unwrap().met);
        // The rule of three bounds something from there on.
        let exposure = |contested_blocks| Exposure { contested_blocks, ..Exposure::default() };
        assert!(exposure(LEAST_CONTESTED).bound().unwrap() < 1.0 && exposure(LEAST_CONTESTED - 1).bound().unwrap() >= 1.0);
    }
}
