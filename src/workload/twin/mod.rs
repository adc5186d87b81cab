//! How exactly is it done wrong? The known-bad twins of a booking, each with as little as makes it wrong; small files for those that have more to
//! them than a line.

mod blind_retry;
mod early_unlock;
mod ignored_row_count;
mod lock_and_read;
mod nested_transaction;
mod spurious_refusal;

use super::booking::{Booking, Place};
use crate::Result;
use crate::bug::Bug;
use crate::history::{OpId, OperationKind};
use crate::pg::load::{Connection, Failure, Isolation, Statement, Tx};
use crate::random::Random;
use crate::strategy::{Decision, Strategy};

pub use nested_transaction::Nested;

/// The statements that a twin needs and the right thing does not.
pub(super) enum Extra {
    None,
    LockAndRead(Statement),
    EarlyUnlock { lock: Statement, unlock: Statement, unlock_all: Statement },
    LoweredTotal(Statement),
}

impl Extra {
    /// Prepares them; `select` reads the authorisation.
    pub async fn prepare(connection: &mut Connection, place: &Place, bug: Option<Bug>, select: &str) -> Result<Self> {
        Ok(match bug {
            Some(Bug::LockAndRead) => Self::LockAndRead(connection.prepare(&lock_and_read::sql(select)).await?),
            Some(Bug::EarlyUnlock) => Self::EarlyUnlock {
                lock: connection.prepare("SELECT pg_advisory_lock($1)").await?,
                unlock: connection.prepare("SELECT pg_advisory_unlock($1)").await?,
                unlock_all: connection.prepare("SELECT pg_advisory_unlock_all()").await?,
            },
            Some(Bug::LoweredTotal) => {
                let schema = place.schema;
                let sql = format!(
                    "UPDATE {schema}.authorisation SET total = used + scheduled - 1 WHERE id = $1 AND used + scheduled > 1"
                );
                Self::LoweredTotal(connection.prepare(&sql).await?)
            }
            _ => Self::None,
        })
    }
}

/// What a new session is told before anything else.
pub fn session_setting(bug: Option<Bug>) -> Option<&'static str> {
    (bug == Some(Bug::AsyncCommit)).then_some("SET synchronous_commit = off")
}

/// Connections that each session of the load has.
pub fn connections(bug: Option<Bug>) -> u32 {
    if bug == Some(Bug::NestedTransaction) { 2 } else { 1 }
}

/// The level of a transaction of `vu`.
pub fn isolation(bug: Option<Bug>, strategy: Strategy, vu: u16) -> Isolation {
    match bug {
        Some(Bug::MixedIsolation) if vu == 0 => Isolation::ReadCommitted,
        _ => strategy.isolation(),
    }
}

/// The levels that its transactions name.
pub fn levels(bug: Option<Bug>, strategy: Strategy) -> Vec<Isolation> {
    match bug {
        Some(Bug::MixedIsolation) => vec![Isolation::ReadCommitted, strategy.isolation()],
        _ => vec![strategy.isolation()],
    }
}

/// How the status becomes EXHAUSTED, with the counters' changes as `$2` and `$3` and the kind as `$9`.
pub(super) fn exhausted(bug: Option<Bug>) -> &'static str {
    match bug {
        // Consuming moves units from promised to used: the sum is what it was, and reached long before everything is used.
        Some(Bug::ExhaustedLatch) => "$9 = 'consume' AND used + $2 + scheduled + $3 >= total",
        _ => "used + $2 = total",
    }
}

/// The units by which the counters change; the ledger says what was asked for.
pub(super) fn counted(booking: &Booking<'_>) -> i32 {
    let units = booking.proposal.units;
    match booking.statements.bug {
        // The appointment has become shorter since it was promised, and its present length is what is given back.
        Some(Bug::OtherRelease) if booking.proposal.kind == OperationKind::Release && now_and_then(booking.op_id) => units / 2,
        // The appointment is closed as one nobody came to, and nobody thinks of its units.
        Some(Bug::NoShow) if booking.proposal.kind == OperationKind::Release && now_and_then(booking.op_id) => 0,
        _ => units,
    }
}

/// As [`Strategy::apply`], but wrong.
///
/// # Errors
/// As there.
pub async fn apply(bug: Option<Bug>, strategy: Strategy, tx: &mut Tx<'_>, booking: &Booking<'_>) -> Result<Decision, Failure> {
    match bug {
        Some(Bug::CheckThenAct) => Strategy::Naive.apply(tx, booking).await,
        Some(Bug::LockAndRead) => lock_and_read::apply(tx, booking).await,
        Some(Bug::EarlyUnlock) => early_unlock::apply(tx, booking).await,
        Some(Bug::IgnoredRowCount) => ignored_row_count::apply(tx, booking).await,
        Some(Bug::BlindRetry) => blind_retry::apply(strategy, tx, booking).await,
        // What was decided once is not asked again: it is sent again.
        Some(Bug::ImpatientRetry) if now_and_then(booking.op_id) => blind_retry::apply(strategy, tx, booking).await,
        Some(Bug::SpuriousRefusal) => spurious_refusal::apply(strategy, tx, booking).await,
        // The strategy is right; what is wrong is around it or in its statements.
        _ => strategy.apply(tx, booking).await,
    }
}

/// Whether who carries a key does not wait for the answer to COMMIT, and has forgotten the key when it asks again.
pub fn forgets(bug: Option<Bug>, op: OpId) -> bool {
    bug == Some(Bug::NoKey) && now_and_then(op)
}

/// Whether COMMIT is sent, and nobody waits for its answer.
pub fn hangs_up(bug: Option<Bug>, booking: &Booking<'_>) -> bool {
    bug == Some(Bug::ImpatientRetry) && booking.attempt == 1 && now_and_then(booking.op_id)
}

/// What happens on the connection once an attempt is over.
pub async fn afterwards(connection: &mut Connection, booking: &Booking<'_>, is_committed: bool) {
    let Booking { proposal, op_id, statements, .. } = booking;
    // Whatever becomes of these, the attempt has ended as it has.
    match &statements.extra {
        // A lock of the session outlives a transaction that failed.
        Extra::EarlyUnlock { unlock_all, .. } if !is_committed && connection.is_open() => {
            let _ = connection.execute(unlock_all, |_| {}).await;
        }
        Extra::LoweredTotal(lower) if is_committed && proposal.kind == OperationKind::Reserve && now_and_then(*op_id) => {
            let _ = connection.execute_alone(lower, |p| p.integer(proposal.authorisation)).await;
        }
        _ => {}
    }
}

/// One operation in four, always the same ones.
fn now_and_then(op: OpId) -> bool {
    Random::of(op.0.unsigned_abs(), 0, 0).below(4) == 0
}
