//! Did operations really meet on the server?
//!
//! Three signs count, and all are the server's; overlap seen by clients may be nothing but a queue in front of a pool.
//!
//! * A *contested handover*: of two consecutive versions of a row, or of two consecutive lines of a schedule, the later transaction had begun
//!   before the earlier one wrote its line.
//!   Strategies that wait for each other show this.
//! * A *conflict*: an attempt that the server turned down because of a concurrent transaction (40001, 40P01, 55P03, a version that moved on).
//!   Strategies that abort show this, and hardly ever the other: whoever overlapped has aborted, and won later, alone.
//! * *Overtaken*: a transaction that was refused had begun, as the server stamped it, before a line was written that it lost to. Where there is
//!   room for one, nobody else leaves a line; of schedules the refused are asked for their stamp.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Audit, Expectation, Subject};
use crate::outcome::OutcomeClass;

/// Contention that the server saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// Pairs of consecutive versions of a row.
    pub handovers: u64,
    /// Those of them in which the later transaction had begun before the earlier one wrote.
    pub contested: u64,
    /// Attempts turned down because of a concurrent transaction.
    pub conflicts: u64,
    /// Refused transactions that had begun before somebody wrote what they lost to; asked of schedules alone.
    #[serde(default)]
    pub overtaken: u64,
    /// Independent blocks examined: a round; an authorisation in one second.
    pub blocks: u64,
    /// Those of them with at least one contested handover or conflict.
    pub contested_blocks: u64,
}

/// With fewer contested blocks, the rule of three bounds nothing: all of them may have the fault.
pub const LEAST_CONTESTED: u64 = 4;

impl Exposure {
    /// Upper bound of the share of contested blocks in which the fault that was looked for occurs, at 95 % confidence, after none was seen:
    /// the rule of three, 3 ÷ n. `None` without a contested block.
    pub fn bound(&self) -> Option<f64> {
        (self.contested_blocks > 0).then(|| 3.0 / self.contested_blocks as f64)
    }
}

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

pub(super) fn measure(audit: &mut Audit, expectation: &Expectation, subject: &Subject) {
    if subject.records.is_empty() {
        return; // prepared and never used
    }
    // A round is one block, however long it took. Elsewhere a second of the clients' clock is: it only groups, it proves nothing.
    let block = |finished: u64| if expectation.contest_units.is_some() { 0 } else { finished / NANOSECONDS_PER_SECOND };
    let mut blocks = BTreeSet::new();
    let mut contested = BTreeSet::new();
    let mut finished = std::collections::HashMap::new();
    let last_wrote = subject.ledger.iter().map(|entry| entry.wrote).max().unwrap_or_default();
    for record in &subject.records {
        let block = block(record.finished);
        blocks.insert(block);
        finished.insert((record.vu, record.n), block);
        audit.exposure.conflicts += u64::from(record.conflicts);
        if record.conflicts > 0 {
            contested.insert(block);
        }
        if record.began > 0 && record.began < last_wrote && record.outcome.class() == OutcomeClass::Refused {
            audit.exposure.overtaken += 1;
            contested.insert(block);
        }
    }
    for pair in subject.ledger.windows(2) {
        let [earlier, later] = pair else { continue };
        if !expectation.is_of_schedules && later.applied.version != earlier.applied.version + 1 {
            continue;
        }
        audit.exposure.handovers += 1;
        if later.began < earlier.wrote {
            audit.exposure.contested += 1;
            contested.extend(finished.get(&(later.op.vu(), later.op.n())));
        }
    }
    audit.exposure.blocks += blocks.len() as u64;
    audit.exposure.contested_blocks += contested.len() as u64;
}
