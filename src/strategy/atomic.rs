//! Can one statement do it all? An UPDATE that waited for a row judges its WHERE by the row as it is then.
//!
//! There is no gap between reading and writing, so a hold has nowhere to be.

use super::{Decision, Operation, RowLock, Write};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    if let Some(applied) = operation.write(tx, None, Write::IfAllowed).await? {
        return Ok(Decision::Applied(applied));
    }
    // The statement says that a rule forbids it, not which one.
    let Some(state) = operation.read(tx, RowLock::None).await? else { return Ok(Decision::Refused(Refusal::NotFound)) };
    match operation.decide(&state) {
        Err(refusal) => Ok(Decision::Refused(refusal)),
        // Room was made between the two statements: the refusal no longer stands, and nothing was applied either.
        Ok(()) => Err(Failure::local(Abort::VersionConflict)),
    }
}
