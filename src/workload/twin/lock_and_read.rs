//! The lock is taken in the statement that reads. Its snapshot is older than the lock: whoever waited decides on what was before.

use super::super::booking::Booking;
use super::Extra;
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Failure, Tx};
use crate::strategy::{Decision, Operation, Write};

/// The statement that reads, made to lock as well.
pub(super) fn sql(select: &str) -> String {
    select.replacen(" FROM ", ", pg_advisory_xact_lock(id) FROM ", 1)
}

pub(super) async fn apply(tx: &mut Tx<'_>, booking: &Booking<'_>) -> Result<Decision, Failure> {
    let Extra::LockAndRead(statement) = &booking.statements.extra else { return Err(Failure::local(Abort::Other)) };
    let Some(state) = booking.read_with(tx, statement).await? else { return Ok(Decision::Refused(Refusal::NotFound)) };
    if let Err(refusal) = booking.decide(&state) {
        return Ok(Decision::Refused(refusal));
    }
    tx.hold().await;
    Ok(Ok(booking.write(tx, Some(&state), Write::Relative).await?).into())
}
