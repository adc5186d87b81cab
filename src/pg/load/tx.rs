//! One attempt: BEGIN with its isolation level named, statements, and a COMMIT that has three endings.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio_postgres::{Row, Statement, error::Severity, types::ToSql};

use super::connect::{Connection, Failure};
use crate::outcome::{Abort, Sqlstate, definite_at_commit};

/// The isolation level of a transaction; always named, never left to a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Every statement sees what was committed before it.
    ReadCommitted,
    /// One snapshot; first updater wins.
    RepeatableRead,
    /// Serializable snapshot isolation.
    Serializable,
}

impl Isolation {
    /// The statement that begins a transaction at this level.
    pub fn begin(self) -> &'static str {
        match self {
            Self::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Self::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
        }
    }

    /// What `SHOW transaction_isolation` answers at this level.
    pub fn setting(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
}

/// How a COMMIT ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Acknowledged.
    Committed,
    /// The server said no, definitely.
    NotCommitted(Failure),
    /// No definite answer: it may or may not have been committed.
    Unknown,
}

/// A transaction in progress. It remembers that a statement failed: PostgreSQL answers COMMIT of a failed transaction with the tag
/// ROLLBACK and no error, and the driver hides the tag.
pub struct Tx<'c> {
    connection: &'c Connection,
    think: Duration,
    failed: Cell<bool>,
    phase: &'c Phase,
}

/// How far an attempt has come; lives outside it, so that it survives an attempt that was dropped at its deadline.
#[derive(Debug, Default)]
pub struct Phase {
    first_statement: Cell<Option<Instant>>,
    commit_sent: Cell<Option<Instant>>,
}

impl Phase {
    /// When BEGIN was about to be sent.
    pub fn first_statement(&self) -> Option<Instant> {
        self.first_statement.get()
    }

    /// When COMMIT was about to be sent; `None` before.
    pub fn commit_sent(&self) -> Option<Instant> {
        self.commit_sent.get()
    }
}

impl<'c> Tx<'c> {
    /// Begins. `think` is how long [`Self::think`] waits.
    ///
    /// # Errors
    /// The failure of BEGIN; nothing was applied.
    pub async fn begin(
        connection: &'c Connection,
        isolation: Isolation,
        think: Duration,
        phase: &'c Phase,
    ) -> Result<Self, Failure> {
        phase.commit_sent.set(None);
        phase.first_statement.set(Some(Instant::now()));
        connection.client.batch_execute(isolation.begin()).await.map_err(|e| Failure::of(&e))?;
        Ok(Self { connection, think, failed: Cell::new(false), phase })
    }

    /// Runs a statement; at most one row.
    ///
    /// # Errors
    /// The server's answer; the transaction has failed then.
    pub async fn query_opt(&self, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Failure> {
        self.connection.client.query_opt(statement, parameters).await.map_err(|e| {
            self.failed.set(true);
            Failure::of(&e)
        })
    }

    /// Whether a statement failed, so that all that is left is to roll back.
    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// The pause of the application between reading and writing.
    pub async fn think(&self) {
        if !self.think.is_zero() {
            tokio::time::sleep(self.think).await;
        }
    }

    /// Commits.
    pub async fn commit(self) -> Ending {
        if self.failed.get() {
            self.rollback().await;
            return Ending::NotCommitted(Failure::local(Abort::Other));
        }
        self.phase.commit_sent.set(Some(Instant::now()));
        match self.connection.client.batch_execute("COMMIT").await {
            Ok(()) => Ending::Committed,
            Err(error) => {
                let definite = error.as_db_error().is_some_and(|db| {
                    db.parsed_severity() == Some(Severity::Error) && definite_at_commit(Sqlstate::new(db.code().code()))
                });
                // The driver reports an ERROR before ReadyForQuery has arrived; only a session that goes on proves that it did.
                if definite && self.connection.client.batch_execute("").await.is_ok() {
                    Ending::NotCommitted(Failure::of(&error))
                } else {
                    Ending::Unknown
                }
            }
        }
    }

    /// Rolls back and waits for it, so that the next user of the connection does not pay for it.
    pub async fn rollback(self) {
        // A broken connection rolls back by itself.
        let _ = self.connection.client.batch_execute("ROLLBACK").await;
    }
}
