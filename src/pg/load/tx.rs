//! One attempt: BEGIN with its isolation level named, statements, and a COMMIT that has three endings.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use super::connect::Connection;
use super::wire::{Failure, Parameters, Reply, Row, ServerError, Statement, Transaction};
use crate::outcome::Stage;

/// The isolation level of a transaction; always named, never left to a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    hold: Duration,
    phase: &'c Phase,
}

/// How far an attempt has come; lives outside it, so that it survives an attempt that was dropped at its deadline.
#[derive(Debug, Default)]
pub struct Phase {
    first_statement: Cell<Option<Instant>>,
    commit_sent: Cell<Option<Instant>>,
    begun: Cell<i64>,
    forgets: Cell<bool>,
    last_words: RefCell<Option<Box<ServerError>>>,
}

impl Phase {
    /// Of an attempt whose BEGIN, or first statement, is about to be sent.
    pub fn beginning(now: Instant) -> Self {
        Self { first_statement: Cell::new(Some(now)), ..Self::default() }
    }

    /// The first statement is about to be sent after all: a connection had to be waited for.
    pub fn begins(&self) {
        self.first_statement.set(Some(Instant::now()));
    }

    /// COMMIT, or a statement that is its own, is about to be sent.
    pub fn commits(&self) {
        self.commit_sent.set(Some(Instant::now()));
    }

    /// What was committed has been told; whatever fails from here on is another transaction.
    pub fn settled(&self) {
        self.commit_sent.set(None);
    }

    /// What is written is to be rolled back, and said to be committed: a mistake that is made on purpose.
    pub fn forgets(&self) {
        self.forgets.set(true);
    }

    /// Keeps what the server said of an attempt of which it is unknown what became of it.
    pub fn said(&self, words: Option<Box<ServerError>>) {
        self.last_words.replace(words);
    }

    /// What the server said of it, if it is unknown what became of it and the server said anything.
    pub fn last_words(&self) -> Option<Box<ServerError>> {
        self.last_words.take()
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        if self.commit_sent.get().is_some() { Stage::Commit } else { Stage::Before }
    }

    /// When BEGIN was about to be sent.
    pub fn first_statement(&self) -> Option<Instant> {
        self.first_statement.get()
    }

    /// Notes when the transaction began, microseconds of the server's clock.
    pub fn begun_at(&self, micros: i64) {
        self.begun.set(micros);
    }

    /// When the transaction began, microseconds of the server's clock; 0 if the server was not asked.
    pub fn begun(&self) -> i64 {
        self.begun.get()
    }

    /// When COMMIT was about to be sent; `None` before.
    pub fn commit_sent(&self) -> Option<Instant> {
        self.commit_sent.get()
    }
}

impl<'c> Tx<'c> {
    /// Begins. `hold` is how long [`Self::hold`] waits.
    ///
    /// # Errors
    /// The failure of BEGIN; nothing was applied.
    pub async fn begin(
        connection: &'c mut Connection,
        isolation: Isolation,
        hold: Duration,
        phase: &'c Phase,
    ) -> Result<Self, Failure> {
        connection.begin(isolation).await?;
        Ok(Self { connection, hold, phase })
    }

    /// Runs a statement; the first row of its answer is [`Self::row`].
    ///
    /// # Errors
    /// The server's answer; the transaction has failed then.
    pub async fn execute(&mut self, statement: &Statement, fill: impl FnOnce(&mut Parameters<'_>)) -> Result<Reply, Failure> {
        self.connection.execute(statement, fill).await
    }

    /// The first row of the last answer.
    pub fn row(&self) -> Option<Row<'_>> {
        self.connection.row()
    }

    /// Notes when the server says that the transaction began, microseconds of its clock.
    pub fn begun(&self, micros: i64) {
        self.phase.begun_at(micros);
    }

    /// Whether it is to be rolled back, and said to be committed.
    pub fn is_forgotten(&self) -> bool {
        self.phase.forgets.get()
    }

    /// Whether a statement failed, so that all that is left is to roll back.
    pub fn has_failed(&self) -> bool {
        self.connection.transaction() != Transaction::Open
    }

    /// The pause of the application between reading and writing.
    pub async fn hold(&self) {
        if !self.hold.is_zero() {
            tokio::time::sleep(self.hold).await;
        }
    }

    /// Commits.
    pub async fn commit(self) -> Ending {
        self.phase.commits();
        self.connection.commit().await
    }

    /// Sends COMMIT and closes the connection before the answer, so that whether it committed is unknown.
    pub async fn commit_and_hang_up(self) {
        self.phase.commits();
        self.connection.commit_and_hang_up().await;
    }

    /// Rolls back.
    pub async fn rollback(self) {
        self.connection.roll_back().await;
    }
}
