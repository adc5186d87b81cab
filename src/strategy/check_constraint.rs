//! Can the database be trusted with the rule? Write without asking, and let a CHECK constraint refuse (23514).

use super::{Decision, Operation, RowLock, Write};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    let Some(state) = operation.read(tx, RowLock::None).await? else {
        return Ok(Decision::Refused(Refusal::NotFound));
    };
    match operation.decide(&state) {
        Err(refusal) if !refusal.is_about_capacity() => return Ok(Decision::Refused(refusal)),
        // Capacity is the constraint's business, whatever was read.
        _ => {}
    }
    tx.hold().await;
    match operation.write(tx, Some(&state), Write::Relative).await {
        Ok(applied) => Ok(Ok(applied).into()),
        Err(failure) if failure.abort == Abort::CheckViolation => Ok(Decision::Refused(operation.refusal_by_constraint())),
        Err(failure) => Err(failure),
    }
}
