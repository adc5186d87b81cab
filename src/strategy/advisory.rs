//! Can a lock that is not on the row do it? If it is taken before the row is read: a statement that both locks and reads
//! would read the snapshot from before it waited.

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    operation.lock(tx).await?;
    Ok(read_then_write(tx, operation, RowLock::None, Write::Relative).await?.into())
}
