//! Does the database hold what was known of a COMMIT that got lost on its way, or whose answer did?

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Audit, Breach, Subject, op_of};
use crate::history::Record;

/// What is known of a COMMIT that never got to where it was sent, or whose answer did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truth {
    /// The server never saw it.
    NeverSent,
    /// The server acknowledged it.
    Committed,
    /// The server refused it.
    NotCommitted,
    /// The server did not answer either.
    Unanswered,
}

/// What became of COMMITs, seen from between client and server: by virtual user, when on the run's clock, and what.
#[derive(Debug, Clone, Default)]
pub struct Truths(HashMap<u16, Vec<(u64, Truth)>>);

impl Truths {
    /// Adds what was seen of a virtual user's COMMIT.
    pub fn add(&mut self, vu: u16, at: u64, truth: Truth) {
        self.0.entry(vu).or_default().push((at, truth));
    }

    /// What was seen of the last COMMIT of an operation that was never answered: a virtual user does one thing at a time.
    fn of(&self, record: &Record) -> Option<Truth> {
        let seen = self.0.get(&record.vu)?;
        let mut within = seen.iter().filter(|(at, _)| (record.commit_sent..=record.finished).contains(at));
        match (within.next(), within.next()) {
            (Some((_, truth)), None) => Some(*truth),
            _ => None,
        }
    }
}

/// Compares what was seen of the COMMITs of an operation that asked again with its key with whether the ledger holds an effect of it.
pub(super) fn compare_asked_again(audit: &mut Audit, truths: &Truths, subject: &Subject, record: &Record, is_present: bool) {
    let Some(seen) = truths.0.get(&record.vu) else { return };
    for (_, truth) in seen.iter().filter(|(at, _)| (record.started..=record.finished).contains(at)) {
        match truth {
            Truth::Committed if !is_present => {
                let detail = "the server had acknowledged a COMMIT of it on the wire; no ledger line".to_owned();
                audit.find(Breach::AcknowledgedLost, subject.authorisation, [op_of(subject, record)], detail);
            }
            // Which of its attempts an effect belongs to does not matter then.
            Truth::Committed | Truth::NeverSent | Truth::NotCommitted => audit.truths_met += 1,
            Truth::Unanswered => {}
        }
    }
}

/// Compares what was seen of an unanswered operation with whether the ledger holds it.
pub(super) fn compare(audit: &mut Audit, truths: &Truths, subject: &Subject, record: &Record, is_present: bool) {
    let Some(truth) = truths.of(record) else { return };
    let (breach, detail) = match (truth, is_present) {
        (Truth::Committed, false) => {
            (Breach::AcknowledgedLost, "the server had acknowledged its COMMIT on the wire; no ledger line")
        }
        (Truth::NeverSent, true) => (Breach::AbortedPresent, "its COMMIT never reached the server, yet the ledger holds it"),
        (Truth::NotCommitted, true) => {
            (Breach::AbortedPresent, "the server refused its COMMIT on the wire, yet the ledger holds it")
        }
        (Truth::Unanswered, _) => return,
        (Truth::Committed, true) | (Truth::NeverSent | Truth::NotCommitted, false) => {
            audit.truths_met += 1;
            return;
        }
    };
    audit.find(breach, subject.authorisation, [op_of(subject, record)], detail.into());
}
