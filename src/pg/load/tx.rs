//! One attempt: BEGIN with its isolation level named, statements, and a COMMIT that has three endings.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::connect::Connection;
use super::wire::{Failure, Parameters, Reply, Row, Statement, Transaction};
use crate::outcome::{Abort, definite_at_commit};

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

/// A transaction in progress.
pub struct Tx<'c> {
    connection: &'c mut Connection,
    think: Duration,
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
    pub async fn begin(connection: &'c mut Connection, think: Duration, phase: &'c Phase) -> Result<Self, Failure> {
        phase.commit_sent.set(None);
        phase.first_statement.set(Some(Instant::now()));
        connection.wire.execute(&connection.begin, |_| {}).await?;
        Ok(Self { connection, think, phase })
    }

    /// Runs a statement; the first row of its answer is [`Self::row`].
    ///
    /// # Errors
    /// The server's answer; the transaction has failed then.
    pub async fn execute(&mut self, statement: &Statement, fill: impl FnOnce(&mut Parameters<'_>)) -> Result<Reply, Failure> {
        self.connection.wire.execute(statement, fill).await
    }

    /// The first row of the last answer.
    pub fn row(&self) -> Option<Row<'_>> {
        self.connection.wire.row()
    }

    /// Whether a statement failed, so that all that is left is to roll back.
    pub fn has_failed(&self) -> bool {
        self.connection.wire.transaction() != Transaction::Open
    }

    /// The pause of the application between reading and writing.
    pub async fn think(&self) {
        if !self.think.is_zero() {
            tokio::time::sleep(self.think).await;
        }
    }

    /// Commits. Committed is only what the server called so: it answers COMMIT of a failed transaction with the tag ROLLBACK and no error.
    pub async fn commit(self) -> Ending {
        self.phase.commit_sent.set(Some(Instant::now()));
        let Connection { wire, commit, .. } = self.connection;
        match wire.execute(commit, |_| {}).await {
            Ok(reply) if reply.is_commit => Ending::Committed,
            Ok(_) => Ending::NotCommitted(Failure::local(Abort::Other)),
            // ReadyForQuery followed: the session goes on, and the server has made up its mind.
            Err(failure) if wire.is_open() && failure.server.as_ref().is_some_and(|e| definite_at_commit(e.code)) => {
                Ending::NotCommitted(failure)
            }
            Err(_) => Ending::Unknown,
        }
    }

    /// Rolls back and waits for it, so that the next user of the connection does not pay for it.
    pub async fn rollback(self) {
        let Connection { wire, rollback, .. } = self.connection;
        // A broken connection rolls back by itself.
        let _ = wire.execute(rollback, |_| {}).await;
    }
}
