//! The lock belongs to the session and is given back before COMMIT. Who takes it then reads what was before this transaction.

use super::super::booking::Booking;
use super::Extra;
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Failure, Tx};
use crate::strategy::{Decision, Operation, RowLock, Write};

pub(super) async fn apply(tx: &mut Tx<'_>, booking: &Booking<'_>) -> Result<Decision, Failure> {
    let Extra::EarlyUnlock { lock, unlock, .. } = &booking.statements.extra else { return Err(Failure::local(Abort::Other)) };
    let id = booking.proposal.authorisation;
    tx.execute(lock, |p| p.integer(id)).await?;
    let decision = match booking.read(tx, RowLock::None).await? {
        None => Decision::Refused(Refusal::NotFound),
        Some(state) => match booking.decide(&state) {
            Err(refusal) => Decision::Refused(refusal),
            Ok(()) => Ok(booking.write(tx, Some(&state), Write::Relative).await?).into(),
        },
    };
    tx.execute(unlock, |p| p.integer(id)).await?;
    // Whatever the application still does before it commits.
    tx.hold().await;
    Ok(decision)
}
