//! Did each key have one effect in each of its lifetimes, and was everybody told what that effect came to?
//!
//! In rounds of requests with keys an authorisation stands for one key of one organisation, so that every effect on it is one of that key,
//! whether or not the line says so. Effects are taken in the order of their versions; the first begins a lifetime, and so does the first
//! that was decided after the end of it. A second effect within a lifetime is one too many.

use super::{Audit, Breach, Entry, Subject, op_of};
use crate::history::{Asking, Record};
use crate::outcome::{Outcome, Refusal};

/// How long keys live, and when requests ask, in seconds of the clock of the domain since the dataset's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// From the effect to its end.
    pub lifetime: i64,
    /// When those ask that ask after it; all others ask at 0.
    pub late: i64,
}

impl Lifetimes {
    fn asked(self, record: &Record) -> i64 {
        if record.asking == Some(Asking::Late) { self.late } else { 0 }
    }
}

pub(super) fn judge(audit: &mut Audit, lifetimes: Lifetimes, subject: &Subject) {
    if subject.records.is_empty() && subject.ledger.is_empty() {
        return; // prepared for a round that did not take place, or in which nobody asked
    }
    audit.keys += 1;
    audit.key_effects += subject.ledger.len() as u64;
    applied_once(audit, lifetimes, subject);
    for record in &subject.records {
        match record.outcome {
            Outcome::Committed | Outcome::Replayed => answered(audit, lifetimes, subject, record),
            Outcome::Refused(Refusal::KeyMismatch) if subject.ledger.iter().all(|effect| effect.units == record.units) => {
                let detail = format!("refused ({}), and no effect has another body", Refusal::KeyMismatch.words());
                audit.find(Breach::UnjustifiedRefusal, subject.authorisation, [op_of(subject, record)], detail);
            }
            Outcome::Refused(_) | Outcome::Aborted(_) | Outcome::Unknown | Outcome::RolledBack => {}
        }
    }
}

fn applied_once(audit: &mut Audit, lifetimes: Lifetimes, subject: &Subject) {
    let mut rest = &subject.ledger[..];
    while let Some(first) = rest.first() {
        let ends = first.decided + lifetimes.lifetime;
        let within = rest.iter().take_while(|effect| effect.decided < ends).count().max(1);
        let (lifetime, after) = rest.split_at(within);
        audit.key_lifetimes += 1;
        if lifetime.len() > 1 {
            let by: Vec<String> = lifetime
                .iter()
                .map(|effect| format!("{} attempt {} at version {}", effect.op, effect.attempt, effect.applied.version))
                .collect();
            let detail = format!("one effect in a lifetime of the key, found {}: {}", lifetime.len(), by.join(", "));
            audit.find(Breach::KeyAppliedTwice, subject.authorisation, lifetime.iter().map(|effect| effect.op), detail);
        }
        rest = after;
    }
}

/// Whether an attempt had this effect and was not answered, and when it was asked for again the key had come to stand for another body, in a
/// later lifetime: then what the client was told is right, and says nothing of its effect.
pub(super) fn outlived(lifetimes: Lifetimes, subject: &Subject, record: &Record, effect: &Entry) -> bool {
    let is_later = |other: &Entry| other.decided >= effect.decided + lifetimes.lifetime && other.units != record.units;
    i32::from(effect.attempt) < i32::from(record.attempts) && subject.ledger.iter().any(is_later)
}

/// An answer is what an effect of the key came to, one of the same body, and one that was still alive when it was asked for.
fn answered(audit: &mut Audit, lifetimes: Lifetimes, subject: &Subject, record: &Record) {
    let (id, op, told) = (subject.authorisation, op_of(subject, record), record.applied);
    if subject.ledger.is_empty() {
        // An acknowledged effect of its own that is lost was found by reconciling.
        if record.outcome == Outcome::Replayed {
            audit.find(Breach::AcknowledgedLost, id, [op], format!("answered with a stored {told}; the key has no effect"));
        }
        return;
    }
    let is_alive = |effect: &&Entry| effect.decided + lifetimes.lifetime > lifetimes.asked(record);
    match subject.ledger.iter().find(|effect| effect.applied == told) {
        None => {
            let effects: Vec<String> = subject.ledger.iter().map(|effect| effect.applied.to_string()).collect();
            let detail = format!("told {told}; the key came to {}", effects.join(", then "));
            audit.find(Breach::ReplayDiffers, id, [op], detail);
        }
        Some(effect) if effect.units != record.units => {
            let detail = format!("asked for {} units, told what {} came to, of {}", record.units, effect.op, effect.units);
            audit.find(Breach::WrongBody, id, [op, effect.op], detail);
        }
        Some(effect) if !is_alive(&effect) => {
            let detail = format!("asked after the lifetime of the key, told what {} had come to in it", effect.op);
            audit.find(Breach::ReplayDiffers, id, [op, effect.op], detail);
        }
        Some(_) => {}
    }
}
