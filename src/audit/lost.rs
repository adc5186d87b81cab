//! Of what was acknowledged and is gone: how much, from how long before the crash, and is it the end of each history or a hole in it?
//!
//! A server that acknowledges before it flushes loses, when it crashes, what it had not yet flushed: of every row the last versions, and nothing that
//! came before one that survived. A version that survived a lost one is something worse.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Audit, Expectation, Subject, op_of};
use crate::history::{OpId, Record};
use crate::outcome::Outcome;

/// When the server was down: from when it was brought down until it was back, nanoseconds on the run's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// When it was brought down.
    pub from: u64,
    /// When it was back.
    pub until: u64,
}

/// What was lost of what was acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Operations.
    pub operations: u64,
    /// Authorisations that lost some.
    pub authorisations: u64,
    /// How many of the operations no crash came after: nothing explains them.
    pub unexplained: u64,
    /// How long before its crash the earliest of the others was acknowledged, milliseconds.
    pub span_ms: f64,
    /// Operations that were acknowledged before the crash, came after a lost one on the same authorisation, and are there all the same. None:
    /// exactly the last versions of each authorisation were lost.
    pub survivors: u64,
}

/// One authorisation of which something was lost.
pub(super) fn measure(audit: &mut Audit, expectation: &Expectation, subject: &Subject) {
    let lost = audit.lost.get_or_insert_default();
    let there: HashMap<OpId, i64> = subject.ledger.iter().map(|entry| (entry.op, entry.applied.version)).collect();
    let outages = &expectation.outages;
    // By the crash that took them, or none: their lowest version.
    let mut lowest: HashMap<Option<usize>, i64> = HashMap::new();
    let is_lost = |record: &&Record| record.outcome == Outcome::Committed && !there.contains_key(&op_of(subject, record));
    for record in subject.records.iter().filter(is_lost) {
        lost.operations += 1;
        // What the client read while the server was going down was sent before.
        let crash = outages.iter().position(|outage| record.finished <= outage.until);
        match crash {
            Some(crash) => {
                let before = outages[crash].from.saturating_sub(record.finished) as f64 / 1e6;
                lost.span_ms = lost.span_ms.max(before);
            }
            None => lost.unexplained += 1,
        }
        let version = lowest.entry(crash).or_insert(i64::MAX);
        *version = record.applied.version.min(*version);
    }
    lost.authorisations += 1;
    let survived = |record: &&Record| {
        let Some(version) = there.get(&op_of(subject, record)) else { return false };
        lowest.iter().any(|(crash, lowest)| {
            // After a crash lost versions are given again; who was answered before it was built on them.
            version > lowest && crash.is_none_or(|crash| record.finished < outages[crash].from)
        })
    };
    let survivors: HashSet<OpId> = subject.records.iter().filter(survived).map(|record| op_of(subject, record)).collect();
    lost.survivors += survivors.len() as u64;
}
