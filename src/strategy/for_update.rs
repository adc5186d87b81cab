//! Can the row be locked while it is read? Then nobody else decides on it until this transaction has ended.

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O, lock: RowLock) -> Result<Decision, Failure> {
    Ok(read_then_write(tx, operation, lock, Write::Relative).await?.into())
}
