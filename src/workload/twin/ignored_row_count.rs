//! The version is a condition of the UPDATE, and nobody asks whether it met a row: the client is told what the update would have left.

use super::super::booking::Booking;
use crate::outcome::Refusal;
use crate::pg::load::{Failure, Tx};
use crate::strategy::{Decision, Operation, RowLock, Write};

pub(super) async fn apply(tx: &mut Tx<'_>, booking: &Booking<'_>) -> Result<Decision, Failure> {
    let Some(state) = booking.read(tx, RowLock::None).await? else { return Ok(Decision::Refused(Refusal::NotFound)) };
    if let Err(refusal) = booking.decide(&state) {
        return Ok(Decision::Refused(refusal));
    }
    tx.hold().await;
    let written = booking.write(tx, Some(&state), Write::IfVersionUnchanged).await?;
    Ok(Decision::Applied(written.unwrap_or_else(|| booking.would_leave(&state))))
}
