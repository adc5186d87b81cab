//! What does one iteration of a user's operation do, step by step?
//!
//! Compiled once, from a pgbench script ([`script`]) or from the named statements of a scenario ([`statements`]); then run as often as there are
//! iterations. Pure: who runs a program sends its statements and fills its slots.

mod distribution;
mod expression;
mod guard;
mod scenario;
mod script;
mod sql;
mod statement;
mod value;

pub use distribution::Distribution;
pub use expression::{Counters, Expression, Fault, Function};
pub use guard::{Else, Guard, Rows};
pub use scenario::{StatementSpec, statements};
pub use script::script;
pub use statement::{Capture, Statement, StatementKind};
pub use value::Value;

use crate::{Error, Result};

/// Where a variable is: an index into the variables of a VU.
pub type Slot = usize;

/// The steps of an iteration and the variables that they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// What errors call it: the file or the operation.
    pub name: String,
    /// What is done, in this order but for jumps. One that jumps behind the last ends the iteration, as the last one does.
    pub steps: Vec<Step>,
    /// The names of the variables, by slot.
    pub slots: Vec<String>,
    /// What the variables hold before the first iteration, by slot. As in pgbench they keep their values from one iteration to the next; a retry
    /// begins with what its iteration began with.
    pub initial: Vec<Value>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Assigns to a variable.
    Set {
        /// Which variable.
        slot: Slot,
        /// Its new value.
        expression: Expression,
    },
    /// Sends a statement.
    Statement(Statement),
    /// Goes on elsewhere if the condition does not hold, see [`Value::truth`].
    JumpUnless {
        /// What is asked.
        condition: Expression,
        /// The next step, an index; the number of steps means the end.
        to: usize,
    },
    /// Goes on elsewhere.
    Jump {
        /// The next step, an index; the number of steps means the end.
        to: usize,
    },
    /// Waits so many microseconds.
    Sleep(Expression),
}

impl Program {
    /// Where the variable of that name is, without `:` or `$`; `None` if the program has none.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.slots.iter().position(|slot| slot == name)
    }

    /// The statements, in the order of the text.
    pub fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.steps.iter().filter_map(|step| match step {
            Step::Statement(statement) => Some(statement),
            _ => None,
        })
    }

    /// Whether it opens transaction blocks of its own.
    pub fn begins_transaction(&self) -> bool {
        self.statements().any(|s| s.kind == StatementKind::Begin)
    }

    /// How many COMMITs there are in it.
    pub fn transactions(&self) -> usize {
        self.statements().filter(|s| s.kind == StatementKind::Commit).count()
    }

    /// Checks that no iteration ends inside a transaction block, that none is opened within another or closed without one.
    ///
    /// # Errors
    /// Usage, with the line of the statement.
    pub fn validate_blocks(&self) -> Result<()> {
        todo!()
    }

    /// Checks that every value which is to be captured exists, once the server has told the columns of the statements.
    ///
    /// # Errors
    /// Usage, with the nearest of the columns.
    pub fn validate_captures<'a>(&self, columns: impl Fn(&Statement) -> Vec<&'a str>) -> Result<()> {
        let _ = columns;
        Err(Error::usage(""))
    }
}
