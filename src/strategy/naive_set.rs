//! What happens if the new values are computed from what was read? The last writer erases the others.

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    Ok(read_then_write(tx, operation, RowLock::None, Write::Absolute).await?.into())
}
