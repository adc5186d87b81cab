//! Now and then somebody who would have room is refused: a count that is out of date, a limit that is counted twice.

use super::super::booking::Booking;
use super::now_and_then;
use crate::history::OperationKind;
use crate::outcome::Refusal;
use crate::pg::load::{Failure, Tx};
use crate::strategy::{Decision, Operation, RowLock, Strategy};

pub(super) async fn apply(strategy: Strategy, tx: &mut Tx<'_>, booking: &Booking<'_>) -> Result<Decision, Failure> {
    if booking.proposal.kind == OperationKind::Reserve
        && now_and_then(booking.op_id)
        && let Some(state) = booking.read(tx, RowLock::None).await?
        && booking.decide(&state).is_ok()
    {
        return Ok(Decision::Refused(Refusal::InsufficientUnits));
    }
    strategy.apply(tx, booking).await
}
