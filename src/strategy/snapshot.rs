//! Can the isolation level do it? Read and write in one snapshot: a row that changed since cannot be written (40001).

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    Ok(read_then_write(tx, operation, RowLock::None, Write::Relative).await?.into())
}
