//! Does every version of a row follow from the one before?
//!
//! The row lock is held until the commit is visible, so version order is commit order on one row, and replaying it is linear.

use super::reconcile::Verdicts;
use super::{Audit, Breach, Subject, op_of};
use crate::history::{Applied, OpId};

pub(super) fn replay(audit: &mut Audit, subject: &Subject) {
    let id = subject.authorisation;
    let mut before = Applied { version: 0, total: subject.last.total, used: 0, scheduled: 0 };
    let mut op_before: Option<OpId> = None;
    for entry in &subject.ledger {
        let Some(kind) = entry.kind else { continue };
        audit.versions += 1;
        let now = entry.applied;
        let both = op_before.into_iter().chain([entry.op]);
        if now.version != before.version + 1 {
            let detail = format!("version {} follows version {}", now.version, before.version);
            audit.find(Breach::WriteOutsideLedger, id, both, detail);
        } else {
            let (used, scheduled) = kind.deltas(entry.units);
            let expected = (before.used + used, before.scheduled + scheduled, before.total);
            if expected != (now.used, now.scheduled, now.total) {
                let detail = format!(
                    "version {}: {} {} on used {}, scheduled {} should leave {}/{}; it left {}/{}: the update before was overwritten",
                    now.version,
                    kind.word(),
                    entry.units,
                    before.used,
                    before.scheduled,
                    expected.0,
                    expected.1,
                    now.used,
                    now.scheduled
                );
                audit.find(Breach::LostUpdate, id, both, detail);
            }
        }
        if now.is_overbooked() {
            let detail = format!(
                "version {}: {} {} left {} of {} units booked",
                now.version,
                kind.word(),
                entry.units,
                i64::from(now.used) + i64::from(now.scheduled),
                now.total
            );
            audit.find(Breach::Overbooked, id, [entry.op], detail);
        }
        if now.used < 0 || now.scheduled < 0 {
            let detail = format!("version {}: used {}, scheduled {}", now.version, now.used, now.scheduled);
            audit.find(Breach::Negative, id, [entry.op], detail);
        }
        before = now;
        op_before = Some(entry.op);
    }
    if before != subject.last {
        let detail = format!("the last ledger line left {before}; the row holds {}", subject.last);
        audit.find(Breach::WriteOutsideLedger, id, op_before, detail);
    }
}

/// If one operation was acknowledged before another began, it must have the smaller version.
pub(super) fn real_time_order(audit: &mut Audit, subject: &Subject, verdicts: &Verdicts) {
    let mut committed: Vec<_> = subject
        .records
        .iter()
        // An unknown has no acknowledgement that others could have waited for, and no version in the history.
        .filter(|r| r.applied.version > 0 && verdicts.is_committed(op_of(subject, r), r))
        .collect();
    committed.sort_unstable_by_key(|r| r.applied.version);
    // Walking down the versions: was any later version acknowledged before this one began?
    let mut earliest: Option<(u64, OpId)> = None;
    for record in committed.into_iter().rev() {
        let op = op_of(subject, record);
        if let Some((acknowledged, later)) = earliest
            && acknowledged < record.last_attempt
        {
            let detail =
                format!("{op} began after {later} was acknowledged, yet got the earlier version {}", record.applied.version);
            audit.find(Breach::OutOfOrder, subject.authorisation, [op, later], detail);
        }
        if earliest.is_none_or(|(t, _)| record.finished < t) {
            earliest = Some((record.finished, op));
        }
    }
}
