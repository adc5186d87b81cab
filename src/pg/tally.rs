//! How many transactions do our connections make, as the server counts them?
//!
//! The rules are those of the server's source: a transaction counts as committed or rolled back when it ends, whether a block, a single
//! statement, a Parse by itself, or what opening a session takes. One that fails counts once, and its ROLLBACK no more; what fails after a
//! savepoint and goes on from there does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::load::Transaction;
use crate::audit::Counts;

/// What the connections of one purpose have made together.
#[derive(Debug, Default)]
pub struct Tally {
    sessions: AtomicU64,
    commits: AtomicU64,
    rollbacks: AtomicU64,
    deadlocks: AtomicU64,
    uncertain: AtomicU64,
}

impl Tally {
    /// What has been counted so far, and how many connections were lost in the middle of something. Those of the load tell at their end.
    pub fn read(&self) -> (Counts, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = Counts {
            sessions: read(&self.sessions),
            commits: read(&self.commits),
            rollbacks: read(&self.rollbacks),
            deadlocks: read(&self.deadlocks),
        };
        (counts, read(&self.uncertain))
    }
}

/// Where connections tell what they made, if anybody wants to know. It is no part of where a server is: any two are equal.
#[derive(Debug, Clone, Default)]
pub struct Counted(Option<Arc<Tally>>);

impl From<Arc<Tally>> for Counted {
    fn from(tally: Arc<Tally>) -> Self {
        Self(Some(tally))
    }
}

impl PartialEq for Counted {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Counted {}

/// Follows one connection; tells what it made when it is dropped, or when asked to.
#[derive(Debug)]
pub struct Follower {
    counted: Counted,
    counts: Counts,
    uncertain: u64,
}

/// How a command that ends a block ended it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its tag was ROLLBACK.
    pub rolled_back: bool,
    /// There was an error.
    pub failed: bool,
    /// The error was 40P01.
    pub was_deadlock: bool,
}

impl Follower {
    /// Of a session that has just been opened, which takes a transaction.
    pub fn new(counted: Counted) -> Self {
        Self { counted, counts: Counts { sessions: 1, commits: 1, ..Counts::default() }, uncertain: 0 }
    }

    /// The server is ready again after a command, in the state `after`.
    pub fn answered(&mut self, before: Transaction, after: Transaction, answer: Answer) {
        self.counts.deadlocks += u64::from(answer.was_deadlock);
        match (before, after) {
            // What has failed is a block, which can only be called off, or no more of it than what followed a savepoint: how it goes on tells.
            (Transaction::Failed, Transaction::Idle) => self.counts.rollbacks += 1,
            (_, Transaction::Failed) => {}
            (_, Transaction::Idle) if answer.failed || answer.rolled_back => self.counts.rollbacks += 1,
            (_, Transaction::Idle) => self.counts.commits += 1,
            (_, Transaction::Open) => {}
        }
    }

    /// It was closed between two commands: what was open is rolled back, or was when it failed.
    pub fn closed(&mut self, state: Transaction) {
        self.counts.rollbacks += u64::from(state != Transaction::Idle);
    }

    /// It was lost before a command was answered.
    pub fn lost(&mut self) {
        self.uncertain += 1;
    }

    /// Tells what there is to tell.
    pub fn tell(&mut self) {
        let (counts, uncertain) = (std::mem::take(&mut self.counts), std::mem::take(&mut self.uncertain));
        let Counted(Some(tally)) = &self.counted else { return };
        for (to, n) in [
            (&tally.sessions, counts.sessions),
            (&tally.commits, counts.commits),
            (&tally.rollbacks, counts.rollbacks),
            (&tally.deadlocks, counts.deadlocks),
            (&tally.uncertain, uncertain),
        ] {
            if n > 0 {
                to.fetch_add(n, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tell();
    }
}
