//! Did operations really meet on the server?
//!
//! A handover of a row from one version to the next is contested if the later transaction had begun before the earlier one wrote its line.
//! Both stamps are the server's: overlap seen by clients may be nothing but a queue in front of a pool.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Audit, Expectation, Subject};

/// Contention that the server saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// Pairs of consecutive versions of a row.
    pub handovers: u64,
    /// Those of them in which the later transaction had begun before the earlier one wrote.
    pub contested: u64,
    /// Independent blocks (a round; an authorisation in one second) with at least one contested handover.
    pub blocks: u64,
}

impl Exposure {
    /// Upper bound of the share of blocks in which the fault that was looked for occurs, at 95 % confidence, after none was seen:
    /// the rule of three, 3 ÷ n. `None` without a block.
    pub fn bound(&self) -> Option<f64> {
        (self.blocks > 0).then(|| 3.0 / self.blocks as f64)
    }
}

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;

pub(super) fn measure(audit: &mut Audit, expectation: &Expectation, subject: &Subject) {
    let mut blocks = BTreeSet::new();
    for pair in subject.ledger.windows(2) {
        let [earlier, later] = pair else { continue };
        if later.applied.version != earlier.applied.version + 1 {
            continue;
        }
        audit.exposure.handovers += 1;
        if later.began < earlier.wrote {
            audit.exposure.contested += 1;
            // A round is one block, however long it took.
            blocks.insert(if expectation.contest_units.is_some() { 0 } else { later.wrote / MICROSECONDS_PER_SECOND });
        }
    }
    audit.exposure.blocks += blocks.len() as u64;
}
