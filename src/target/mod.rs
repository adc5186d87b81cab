//! Who performs what was proposed, and how did one attempt at it end?
//!
//! It is done in SQL, under a strategy: by the virtual users themselves, or by the reference server for those who ask it over `http`.

pub mod appointing;
pub mod booking;
pub mod http;
pub mod scheduling;
pub mod view;

use crate::history::{Applied, OpId};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Ending, Failure, Tx};
use crate::strategy::Decision;

/// How one attempt ended.
pub enum Attempt {
    /// Applied and acknowledged.
    Committed(Applied),
    /// Acknowledged, and changed nothing: it only read, or met no row.
    Unchanged,
    /// Done to its end, which was a ROLLBACK of its own.
    RolledBack,
    /// The key was known: the stored response.
    Replayed {
        /// What it says.
        applied: Applied,
        /// The one whose response it is was under way when this one asked.
        met: bool,
    },
    /// A business rule said no.
    Refused(Refusal),
    /// Certainly not applied; tried again if its reason is one for that.
    Failed(Failure),
    /// Certainly not applied, and to be tried again whatever the reason.
    Again(Failure),
    /// Certainly not applied, and not to be tried again whatever the reason; with words for a person, if there are any.
    GivenUp(Failure, Option<String>),
    /// COMMIT was sent and not answered.
    Unknown,
}

/// Who is at it and for which time.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// The operation, everywhere.
    pub op_id: OpId,
    /// Which attempt this is, from 1.
    pub attempt: u16,
    /// How many of those before it sent COMMIT and were not answered.
    pub unanswered: u16,
}

impl Who {
    /// The attempt as the ledger's column has it; a deadline of seconds allows far fewer.
    fn line(self) -> i16 {
        i16::try_from(self.attempt).unwrap_or(i16::MAX)
    }
}

/// Ends the transaction of what was decided in it.
async fn ended(tx: Tx<'_>, decided: Result<Decision, Failure>) -> Attempt {
    match decided {
        Ok(Decision::Applied(applied)) => applied_by(tx, applied).await,
        // The server refused the statement itself: nothing that was read can be committed, and nothing needs to be.
        Ok(Decision::Refused(refusal)) if tx.has_failed() => {
            tx.rollback().await;
            Attempt::Refused(refusal)
        }
        Ok(Decision::Refused(refusal)) => refused(tx, refusal).await,
        Err(failure) => {
            tx.rollback().await;
            Attempt::Failed(failure)
        }
    }
}

/// What was written counts once its COMMIT was acknowledged.
async fn applied_by(tx: Tx<'_>, applied: Applied) -> Attempt {
    if tx.is_forgotten() {
        tx.rollback().await;
        return Attempt::Committed(applied);
    }
    match tx.commit().await {
        Ending::Committed => Attempt::Committed(applied),
        Ending::NotCommitted(failure) => Attempt::Failed(failure),
        Ending::Unknown => Attempt::Unknown,
    }
}

/// A refusal counts once its COMMIT succeeded: at SERIALIZABLE, a reader that is rolled back may have seen a state that never was.
async fn refused(tx: Tx<'_>, refusal: Refusal) -> Attempt {
    match tx.commit().await {
        Ending::Committed => Attempt::Refused(refusal),
        Ending::NotCommitted(failure) => Attempt::Failed(failure),
        // It wrote nothing, so whatever became of the COMMIT, nothing was applied.
        Ending::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
    }
}
