//! What is sent to the server, and what is kept of the answer?

use super::{Guard, Slot};

/// An SQL statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Its text, with parameters `$1` to `$n`.
    pub sql: String,
    /// Where the values of `$1` to `$n` are.
    pub parameters: Vec<Slot>,
    /// What it does to the transaction.
    pub kind: StatementKind,
    /// What is kept of its rows.
    pub capture: Capture,
    /// How many rows it must meet; the first that fires counts, see [`Guard::fires`].
    pub guards: Vec<Guard>,
    /// Its first line in the script, or its number among the statements of a scenario; from 1.
    pub line: usize,
    /// Its first words, for messages.
    pub label: String,
}

/// What a statement does to the transaction, told by its first keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT; not ROLLBACK TO a savepoint.
    Rollback,
    /// Nothing.
    Other,
}

/// Which columns of the one row of an answer go into variables.
#[derive(Debug, Clone, PartialEq)]
pub enum Capture {
    /// None; the answer may have any number of rows.
    Nothing,
    /// These, by name; each must exist.
    Columns(Vec<(String, Slot)>),
    /// `\gset prefix`: every column, into the variable of that name after the prefix. `slots` has all that the program knows, by the name of the
    /// column; any that the answer does not have keeps its value, any other column is not used.
    Prefix {
        /// What the names of the variables begin with.
        prefix: String,
        /// Columns and variables.
        slots: Vec<(String, Slot)>,
    },
}
