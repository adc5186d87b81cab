//! Did as many win a round as there was room for?
//!
//! With cap = ⌊units ÷ units each⌋, c committed and x given up: c > cap is a breach; somebody refused while c < cap is a breach; if nobody
//! was refused, c must be all but the x that gave up. Fewer winners than min(VUs, cap), explained by x, is goodput lost, not integrity.
//!
//! Who was told that it is so already has asked for what somebody else got: that says nothing of the room that was left.

use super::reconcile::Verdicts;
use super::{Audit, Breach, Expectation, Subject, op_of};
use crate::outcome::{Outcome, OutcomeClass, Refusal};

pub(super) fn judge(audit: &mut Audit, expectation: &Expectation, subject: &Subject, verdicts: &Verdicts) {
    let Some(units) = expectation.contest_units else { return };
    if subject.records.is_empty() {
        return; // prepared for a round that did not take place
    }
    audit.rounds += 1;
    let cap = u64::from((subject.last.total / units).max(0).unsigned_abs());
    let (mut won, mut refused, mut lost) = (Vec::new(), 0u64, 0u64);
    for record in &subject.records {
        let op = op_of(subject, record);
        match record.outcome.class() {
            OutcomeClass::Refused if record.outcome == Outcome::Refused(Refusal::AlreadySo) => {}
            OutcomeClass::Refused => refused += 1,
            _ if verdicts.is_committed(op, record) => won.push(op),
            _ => lost += 1,
        }
    }
    let took_part = subject.records.len() as u64;
    if took_part != u64::from(expectation.vus) {
        audit.incomplete(format!("round {}: {took_part} of {} VUs are in the history", subject.authorisation, expectation.vus));
        return;
    }
    let committed = won.len() as u64;
    let id = subject.authorisation;
    if !subject.contest.is_empty() {
        let contested = audit.contests.entry(subject.contest.clone()).or_default();
        contested.rounds += 1;
        contested.broken += u64::from(committed > cap);
    }
    if committed > cap {
        let detail = match &*subject.contest {
            "" => format!("room for {cap} winners of {units} units, {committed} won"),
            contest => format!("a contest of {contest} with room for {cap}, and {committed} had what they wanted"),
        };
        audit.find(Breach::TooManyWinners, id, won, detail);
    } else if refused > 0 && committed < cap {
        let detail = format!("room for {cap} winners, {committed} won, and yet {refused} were refused");
        audit.find(Breach::UnjustifiedRefusal, id, won, detail);
    } else if committed < cap.min(took_part) && lost > 0 {
        audit.rounds_short += 1;
    }
    // Nobody refused: c = VUs − x holds by construction, since every record is committed, refused or lost.
}
