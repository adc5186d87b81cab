//! What happens if the rule is checked in one statement and trusted in the next? Everyone who read before the first commit gets in.

use super::{Decision, Operation, RowLock, Write, read_then_write};
use crate::pg::load::{Failure, Tx};

pub(super) async fn apply<O: Operation>(tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
    Ok(read_then_write(tx, operation, RowLock::None, Write::Relative).await?.into())
}
