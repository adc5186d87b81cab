//! Can it be written only if nobody was faster? The version that was read is a condition of the UPDATE; no row means try again.

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::outcome::Abort;
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    match read_then_write(tx, operation, RowLock::None, Write::IfVersionUnchanged).await? {
        Ok(None) => Err(Failure::local(Abort::VersionConflict)),
        written => Ok(written.into()),
    }
}
