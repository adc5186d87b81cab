//! What is sent to the server, and what is kept of the answer?

use super::{Guard, Slot};
use crate::Error;

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
    /// As the script has it, in pieces between its variables: what is sent where they are substituted as text. Empty in scenarios, whose parameters are
    /// values in every protocol.
    pub fragments: Vec<Fragment>,
    /// Variables of the script where PostgreSQL takes no parameter: only text can stand there.
    pub textual: Vec<Textual>,
}

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fragment {
    /// As it is.
    Text(String),
    /// A variable's value.
    Variable(Slot),
}

/// A variable where PostgreSQL takes no parameter: within quotes, or as a part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Textual {
    /// Which.
    pub slot: Slot,
    /// Whether it has a value there whatever columns `\gset` finds.
    pub is_sure: bool,
    /// The file, the line and the column, and what is wrong with it.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl Textual {
    /// Why the statement cannot be sent with parameters.
    pub fn error(&self) -> Error {
        Error::usage(&self.message).cure(&self.cure)
    }
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
    /// SAVEPOINT.
    Savepoint,
    /// ROLLBACK TO a savepoint.
    RollbackTo,
    /// Nothing that its first words tell.
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
