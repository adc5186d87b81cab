//! What failed is written again, and what was read and decided the first time is taken for granted.

use super::super::booking::Booking;
use crate::pg::load::{Failure, Tx};
use crate::strategy::{Decision, Operation, Strategy, Write};

pub(super) async fn apply(strategy: Strategy, tx: &mut Tx<'_>, booking: &Booking<'_>) -> Result<Decision, Failure> {
    if booking.attempt == 1 {
        return strategy.apply(tx, booking).await;
    }
    Ok(Ok(booking.write(tx, None, Write::Relative).await?).into())
}
