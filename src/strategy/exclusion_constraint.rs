//! Can the database be trusted with overlaps? Write the time that it takes too, and let an EXCLUDE constraint refuse (23P01) what somebody
//! else wrote meanwhile.
//!
//! It refuses the same person at the same time, and nothing else: no rule about hours, rest, seats or supervision is one about overlaps.

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::outcome::Abort;
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    match read_then_write(tx, operation, RowLock::None, Write::Exclusive).await {
        Ok(written) => Ok(written.into()),
        Err(failure) if failure.abort == Abort::ExclusionViolation => Ok(Decision::Refused(operation.refusal_by_constraint())),
        Err(failure) => Err(failure),
    }
}
