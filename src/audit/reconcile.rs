//! Into which class does each operation fall: what the client was told × what the ledger holds?

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Audit, Breach, Entry, Expectation, Subject, keys, op_of, truth};
use crate::history::{OpId, Record};
use crate::outcome::{Outcome, Refusal};

/// Every operation in exactly one class, except that `duplicated` counts on top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// Acknowledged, and in the ledger.
    pub acknowledged_present: u64,
    /// Acknowledged, not in the ledger.
    pub acknowledged_lost: u64,
    /// Answered with a stored response, and not in the ledger: the effect is another operation's.
    #[serde(default)]
    pub replayed: u64,
    /// Answered with a stored response, and in the ledger: an attempt whose COMMIT went unanswered had taken effect.
    #[serde(default)]
    pub replayed_own: u64,
    /// Refused, and not in the ledger.
    pub refused: u64,
    /// Refused since the key had come to stand for another body, after its lifetime; an attempt of before, which was not answered, is in the
    /// ledger.
    #[serde(default)]
    pub lapsed_present: u64,
    /// Refused, but in the ledger.
    pub refused_present: u64,
    /// Certainly not applied, and not in the ledger.
    pub aborted: u64,
    /// Certainly not applied, but in the ledger.
    pub aborted_present: u64,
    /// Never answered; in the ledger.
    pub unknown_committed: u64,
    /// Never answered; its key is fenced, so it is not in the ledger and can never be.
    pub unknown_absent: u64,
    /// Never answered, neither in the ledger nor fenced.
    pub unknown_unresolved: u64,
    /// Applied by more than one attempt.
    pub duplicated: u64,
    /// In the ledger, never issued.
    pub phantom: u64,
}

impl Classes {
    /// How many operations of clients were classed.
    pub fn operations(&self) -> u64 {
        let Self { acknowledged_present, acknowledged_lost, replayed, replayed_own, refused, lapsed_present, .. } = self;
        let Self { refused_present, aborted, aborted_present, unknown_committed, unknown_absent, unknown_unresolved, .. } = self;
        [acknowledged_present, acknowledged_lost, replayed, replayed_own, refused, lapsed_present].into_iter().sum::<u64>()
            + [refused_present, aborted, aborted_present, unknown_committed, unknown_absent, unknown_unresolved]
                .into_iter()
                .sum::<u64>()
    }

    /// Operations with a key of which an attempt took effect and was not answered, whatever the client was told in the end.
    pub fn took_effect_unanswered(&self) -> u64 {
        self.replayed_own + self.lapsed_present + self.unknown_committed + self.duplicated
    }
}

/// What reconciling learned about an authorisation that later rules build on.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// An acknowledged commit is missing.
    pub acknowledged_lost: bool,
    /// Operations that were never answered and turned out committed.
    pub unknown_committed: HashSet<OpId>,
}

impl Verdicts {
    /// Whether this operation took effect.
    pub fn is_committed(&self, op: OpId, record: &Record) -> bool {
        record.outcome == Outcome::Committed || self.unknown_committed.contains(&op)
    }
}

/// The version that an effect made, with a word before it; nothing of what has none.
fn at_version(entry: &Entry, word: &str) -> String {
    if entry.applied.version == 0 { String::new() } else { format!("{word} version {}", entry.applied.version) }
}

pub(super) fn reconcile(audit: &mut Audit, expectation: &Expectation, subject: &Subject, fences: &[Entry]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut effects: HashMap<OpId, Vec<&Entry>> = HashMap::with_capacity(subject.ledger.len());
    for entry in &subject.ledger {
        effects.entry(entry.op).or_default().push(entry);
    }
    let id = subject.authorisation;
    for record in &subject.records {
        let op = op_of(subject, record);
        let present = effects.remove(&op).unwrap_or_default();
        if present.len() > 1 {
            audit.classes.duplicated += 1;
            let attempts: Vec<_> = present.iter().map(|e| format!("attempt {}{}", e.attempt, at_version(e, " at"))).collect();
            audit.find(Breach::Duplicated, id, [op], format!("expected one effect, found {}", attempts.join(", ")));
        }
        let entry = present.first();
        let classes = &mut audit.classes;
        match (record.outcome, entry) {
            (Outcome::Committed, Some(entry)) => {
                classes.acknowledged_present += 1;
                if !present.iter().any(|e| e.applied == record.applied) {
                    let detail = format!("told {}; the ledger holds {}", record.applied, entry.applied);
                    audit.find(Breach::Misreported, id, [op], detail);
                }
            }
            (Outcome::Committed, None) => {
                classes.acknowledged_lost += 1;
                verdicts.acknowledged_lost = true;
                let detail = match record.applied.version {
                    0 => "acknowledged, no ledger line".to_owned(),
                    version => format!("acknowledged as version {version}, no ledger line"),
                };
                audit.find(Breach::AcknowledgedLost, id, [op], detail);
            }
            // Whose effect it was is not what the client asked; whether it was told that effect is judged by key.
            (Outcome::Replayed, None) => classes.replayed += 1,
            (Outcome::Replayed, Some(_)) => classes.replayed_own += 1,
            (Outcome::Refused(_), None) => classes.refused += 1,
            (Outcome::Refused(Refusal::KeyMismatch), Some(entry))
                if expectation.lifetimes.is_some_and(|lifetimes| keys::outlived(lifetimes, subject, record, entry)) =>
            {
                classes.lapsed_present += 1;
            }
            (Outcome::Refused(refusal), Some(entry)) => {
                classes.refused_present += 1;
                let detail = format!("refused ({}), yet applied{}", refusal.words(), at_version(entry, " as"));
                audit.find(Breach::RefusedPresent, id, [op], detail);
            }
            (Outcome::Aborted(_) | Outcome::RolledBack, None) => classes.aborted += 1,
            (Outcome::Aborted(abort), Some(entry)) => {
                classes.aborted_present += 1;
                let detail = format!("given up ({}), yet applied{}", abort.words(), at_version(entry, " as"));
                audit.find(Breach::AbortedPresent, id, [op], detail);
            }
            (Outcome::RolledBack, Some(entry)) => {
                classes.aborted_present += 1;
                audit.find(Breach::AbortedPresent, id, [op], format!("rolled back, yet applied{}", at_version(entry, " as")));
            }
            (Outcome::Unknown, Some(_)) => {
                classes.unknown_committed += 1;
                verdicts.unknown_committed.insert(op);
            }
            (Outcome::Unknown, None) if fences.iter().any(|f| f.op == op) => classes.unknown_absent += 1,
            (Outcome::Unknown, None) => {
                classes.unknown_unresolved += 1;
                audit.incomplete(format!("operation {op} was never answered and could not be resolved"));
            }
        }
        if expectation.lifetimes.is_some() {
            truth::compare_asked_again(audit, &expectation.truths, subject, record, entry.is_some());
        } else if record.outcome == Outcome::Unknown {
            truth::compare(audit, &expectation.truths, subject, record, entry.is_some());
        }
        if record.is_attack {
            let let_in = entry.is_some() || matches!(record.outcome, Outcome::Committed | Outcome::Replayed);
            if let_in {
                audit.find(Breach::CrossedTenant, id, [op], "an actor of another organisation changed the units".into());
            }
        } else if record.outcome == Outcome::Refused(Refusal::WrongOrganisation) {
            audit.find(
                Breach::UnjustifiedRefusal,
                id,
                [op],
                "refused as a stranger, but the actor is of the same organisation".into(),
            );
        }
    }
    for (op, entries) in effects {
        let issued = expectation.issued.get(&op.vu()).copied().unwrap_or(0);
        if op.n() >= issued || op.run() != subject.run {
            audit.classes.phantom += 1;
            let detail = match entries[0].applied.version {
                0 => "a ledger line belongs to no operation that was issued".to_owned(),
                version => format!("version {version} belongs to no operation that was issued"),
            };
            audit.find(Breach::Phantom, id, [op], detail);
        } else {
            audit.incomplete(format!("operation {op} is in the ledger, was issued, and is missing from the history"));
        }
    }
    verdicts
}
