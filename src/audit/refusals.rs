//! Was there really no room when somebody was refused?
//!
//! A refusal is judged in the window from the first statement of its last attempt to its answer. Version v may be in force from the
//! moment its COMMIT was sent until version v + 1 was acknowledged. The refusal is a breach only if *every* version that may have been in
//! force in the window had room: then no order of events can explain it.

use super::reconcile::Verdicts;
use super::{Audit, Breach, Subject, op_of};
use crate::history::{Applied, Record};
use crate::outcome::{Outcome, Refusal};

/// One version and when it may have been in force, on the clients' clock.
struct InForce {
    state: Applied,
    from: u64,
    until: u64,
}

pub(super) fn judge(audit: &mut Audit, subject: &Subject, verdicts: &Verdicts) {
    let refused = |r: &&Record| matches!(r.outcome, Outcome::Refused(_)) && !r.is_attack;
    if !subject.records.iter().any(|r| refused(&r)) {
        return;
    }
    let versions = in_force(subject, verdicts);
    // For walking back: the latest end among the versions up to each.
    let mut latest_end = 0;
    let ends: Vec<u64> = versions
        .iter()
        .map(|v| {
            latest_end = latest_end.max(v.until);
            latest_end
        })
        .collect();
    for record in subject.records.iter().filter(refused) {
        let Outcome::Refused(refusal) = record.outcome else { continue };
        if matches!(refusal, Refusal::WrongOrganisation | Refusal::KeyMismatch) {
            continue; // not a matter of the counters; judged where it belongs
        }
        audit.refusals_judged += 1;
        let newest = versions.partition_point(|v| v.from <= record.finished);
        let mut judged = 0;
        let justified = (0..newest).rev().take_while(|i| ends[*i] >= record.last_attempt).any(|i| {
            let version = &versions[i];
            let overlaps = version.until >= record.last_attempt;
            judged += u32::from(overlaps);
            overlaps && !had_room(version.state, refusal, record.units)
        });
        if !justified {
            let detail = format!("refused ({}), while each of the {judged} versions in force had room", refusal.words());
            audit.find(Breach::UnjustifiedRefusal, subject.authorisation, [op_of(subject, record)], detail);
        }
    }
}

fn in_force(subject: &Subject, verdicts: &Verdicts) -> Vec<InForce> {
    let told: std::collections::HashMap<_, _> =
        subject.records.iter().map(|r| (op_of(subject, r), r)).filter(|(op, r)| verdicts.is_committed(*op, r)).collect();
    let mut versions =
        vec![InForce { state: Applied { version: 0, total: subject.last.total, used: 0, scheduled: 0 }, from: 0, until: u64::MAX }];
    for entry in &subject.ledger {
        let record = told.get(&entry.op);
        // Without an acknowledgement, the version before may have been in force to the end.
        let acknowledged = record.filter(|r| r.outcome == Outcome::Committed).map_or(u64::MAX, |r| r.finished);
        if let Some(before) = versions.last_mut() {
            before.until = acknowledged;
        }
        versions.push(InForce { state: entry.applied, from: record.map_or(0, |r| r.commit_sent), until: u64::MAX });
    }
    versions
}

/// Whether the reason for the refusal was absent in this state.
fn had_room(state: Applied, refusal: Refusal, units: i32) -> bool {
    match refusal {
        Refusal::InsufficientUnits => {
            i64::from(state.total) - i64::from(state.used) - i64::from(state.scheduled) >= i64::from(units)
        }
        Refusal::NotScheduled => state.scheduled >= units,
        // Rows of a run start ACTIVE and become EXHAUSTED with used = total.
        Refusal::Inactive => state.used != state.total,
        // Rows of a run exist, and outlast it by the clock of the domain.
        Refusal::Expired | Refusal::NotFound => true,
        // What a scenario declares is its own business; whether a schedule had room is seen by who won.
        Refusal::WrongOrganisation
        | Refusal::KeyMismatch
        | Refusal::Declared
        | Refusal::NoSeat
        | Refusal::Unsupervised
        | Refusal::DutyHours
        | Refusal::TooLittleRest
        | Refusal::DoubleBooked
        | Refusal::NotHeld
        | Refusal::AlreadySo => false,
    }
}
