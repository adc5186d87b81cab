//! How are rows protected while an operation reads, decides and writes? One small file each.
//!
//! A strategy knows nothing about bookings; an [`Operation`] knows nothing about locks.

mod advisory;
mod atomic;
mod check_constraint;
mod exclusion_constraint;
mod for_update;
mod naive;
mod naive_set;
mod optimistic;
mod snapshot;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::history::Applied;
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Failure, Isolation, Tx};

/// How rows are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// READ COMMITTED, read, decide, relative update without a condition: overbooks.
    Naive,
    /// READ COMMITTED, read, decide, write absolute values: loses updates.
    NaiveSet,
    /// One UPDATE whose WHERE holds the rule.
    Atomic,
    /// SELECT … FOR UPDATE.
    ForUpdate,
    /// SELECT … FOR UPDATE NOWAIT, tried again on 55P03.
    ForUpdateNowait,
    /// UPDATE … WHERE version = the one that was read.
    Optimistic,
    /// A transaction-level advisory lock, taken in a statement of its own.
    Advisory,
    /// Snapshot isolation, tried again on 40001.
    RepeatableRead,
    /// Serializable snapshot isolation, tried again on 40001.
    Serializable,
    /// Write, and let a CHECK constraint refuse.
    CheckConstraint,
    /// Write, and let an EXCLUDE constraint refuse what overlaps.
    ExclusionConstraint,
}

/// What can go wrong when operations overlap; Adya's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hazard {
    /// Two operations read the same version of a row and both write it.
    LostUpdate,
    /// Two operations read what the other is about to change, and write different rows: each is right, both together are not.
    WriteSkew,
    /// A write skew of which nothing is left but this: the same person twice in the same hour.
    DoubleBooking,
}

impl Hazard {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LostUpdate, Self::WriteSkew, Self::DoubleBooking];
}

/// What a strategy promises about a hazard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It cannot happen.
    Safe,
    /// It can; a control may be made of this.
    Unsafe,
    /// Nothing: what it relies on is not there. [`Strategy::inexpressible`] says what.
    None,
}

/// What must have been seen if the strategy was really at work: without it, nothing was protected from anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Sessions waiting for a lock.
    LockWaits,
    /// Attempts that failed for this reason.
    FailedAttempts(Abort),
    /// Nothing protects: there is nothing to see.
    None,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Naive,
        Self::NaiveSet,
        Self::Atomic,
        Self::ForUpdate,
        Self::ForUpdateNowait,
        Self::Optimistic,
        Self::Advisory,
        Self::RepeatableRead,
        Self::Serializable,
        Self::CheckConstraint,
        Self::ExclusionConstraint,
    ];

    /// Those that claim to be safe from `hazard`.
    pub fn safe(hazard: Hazard) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |s| s.claim(hazard) == Claim::Safe)
    }

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::NaiveSet => "naive-set",
            Self::Atomic => "atomic",
            Self::ForUpdate => "for-update",
            Self::ForUpdateNowait => "for-update-nowait",
            Self::Optimistic => "optimistic",
            Self::Advisory => "advisory",
            Self::RepeatableRead => "repeatable-read",
            Self::Serializable => "serializable",
            Self::CheckConstraint => "check-constraint",
            Self::ExclusionConstraint => "exclusion-constraint",
        }
    }

    /// The strategy called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// How it protects, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Naive => "read, decide, add: overbooks",
            Self::NaiveSet => "read, decide, overwrite: loses updates",
            Self::Atomic => "one UPDATE whose WHERE holds the rule",
            Self::ForUpdate => "SELECT … FOR UPDATE",
            Self::ForUpdateNowait => "SELECT … FOR UPDATE NOWAIT, tried again on 55P03",
            Self::Optimistic => "UPDATE … WHERE version = the one read, tried again",
            Self::Advisory => "pg_advisory_xact_lock, then read",
            Self::RepeatableRead => "snapshot isolation, tried again on 40001",
            Self::Serializable => "serializable snapshot isolation, tried again on 40001",
            Self::CheckConstraint => "write, and let a CHECK constraint refuse",
            Self::ExclusionConstraint => "write, and let an EXCLUDE constraint refuse overlaps",
        }
    }

    /// The level every transaction of it names.
    pub fn isolation(self) -> Isolation {
        match self {
            Self::RepeatableRead => Isolation::RepeatableRead,
            Self::Serializable => Isolation::Serializable,
            Self::Naive
            | Self::NaiveSet
            | Self::Atomic
            | Self::ForUpdate
            | Self::ForUpdateNowait
            | Self::Optimistic
            | Self::Advisory
            | Self::CheckConstraint
            | Self::ExclusionConstraint => Isolation::ReadCommitted,
        }
    }

    /// What it promises about `hazard`.
    pub fn claim(self, hazard: Hazard) -> Claim {
        // Every strategy by name: one that is added later must say what it promises.
        match (hazard, self) {
            (Hazard::LostUpdate, Self::Naive | Self::NaiveSet) => Claim::Unsafe,
            (
                Hazard::LostUpdate,
                Self::Atomic
                | Self::ForUpdate
                | Self::ForUpdateNowait
                | Self::Optimistic
                | Self::Advisory
                | Self::RepeatableRead
                | Self::Serializable
                | Self::CheckConstraint,
            ) => Claim::Safe,
            (Hazard::LostUpdate, Self::ExclusionConstraint) => Claim::None,
            (Hazard::WriteSkew, Self::Naive | Self::RepeatableRead | Self::ExclusionConstraint) => Claim::Unsafe,
            (Hazard::DoubleBooking, Self::Naive | Self::RepeatableRead) => Claim::Unsafe,
            (
                Hazard::WriteSkew | Hazard::DoubleBooking,
                Self::ForUpdate | Self::ForUpdateNowait | Self::Advisory | Self::Serializable,
            ) => Claim::Safe,
            (Hazard::DoubleBooking, Self::ExclusionConstraint) => Claim::Safe,
            (
                Hazard::WriteSkew | Hazard::DoubleBooking,
                Self::NaiveSet | Self::Atomic | Self::Optimistic | Self::CheckConstraint,
            ) => Claim::None,
        }
    }

    /// Why it cannot be tried where this can go wrong, if it cannot.
    pub fn inexpressible(self, hazard: Hazard) -> Option<&'static str> {
        if self.claim(hazard) != Claim::None {
            return None;
        }
        Some(match self {
            Self::NaiveSet => "a schedule has no counters that could be overwritten",
            Self::Atomic => "the rule spans rows that no single UPDATE locks",
            Self::Optimistic => "rows that are only read carry no version",
            Self::CheckConstraint => "a CHECK sees one row, and the rule spans several",
            Self::ExclusionConstraint => "units take no time that could overlap",
            // Reading, locking and levels are there for every rule.
            Self::Naive | Self::ForUpdate | Self::ForUpdateNowait | Self::Advisory | Self::RepeatableRead | Self::Serializable => {
                return None;
            }
        })
    }

    /// What must have been seen if it was at work.
    pub fn mechanism(self) -> Mechanism {
        match self {
            Self::Naive | Self::NaiveSet => Mechanism::None,
            Self::Atomic | Self::ForUpdate | Self::Advisory | Self::CheckConstraint | Self::ExclusionConstraint => {
                Mechanism::LockWaits
            }
            Self::ForUpdateNowait => Mechanism::FailedAttempts(Abort::LockNotAvailable),
            Self::Optimistic => Mechanism::FailedAttempts(Abort::VersionConflict),
            Self::RepeatableRead | Self::Serializable => Mechanism::FailedAttempts(Abort::SerializationFailure),
        }
    }

    /// Whether it needs rows that the capacity constraint binds.
    pub fn needs_guard(self) -> bool {
        self == Self::CheckConstraint
    }

    /// Performs `operation` inside `tx`, up to but not including COMMIT.
    ///
    /// # Errors
    /// The failure of a statement, or a conflict that the strategy found: the attempt must be rolled back.
    pub async fn apply<O: Operation>(self, tx: &mut Tx<'_>, operation: &O) -> Result<Decision, Failure> {
        match self {
            Self::Naive => naive::apply(tx, operation).await,
            Self::NaiveSet => naive_set::apply(tx, operation).await,
            Self::Atomic => atomic::apply(tx, operation).await,
            Self::ForUpdate => for_update::apply(tx, operation, RowLock::ForUpdate).await,
            Self::ForUpdateNowait => for_update::apply(tx, operation, RowLock::ForUpdateNowait).await,
            Self::Optimistic => optimistic::apply(tx, operation).await,
            Self::Advisory => advisory::apply(tx, operation).await,
            // The two differ in the level alone, which BEGIN has named.
            Self::RepeatableRead | Self::Serializable => snapshot::apply(tx, operation).await,
            Self::CheckConstraint => check_constraint::apply(tx, operation).await,
            Self::ExclusionConstraint => exclusion_constraint::apply(tx, operation).await,
        }
    }
}

/// What an attempt came to, before its COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It wrote, and this is what it left.
    Applied(Applied),
    /// A business rule said no.
    Refused(Refusal),
}

/// How a row is locked while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowLock {
    /// Not at all.
    None,
    /// Until the transaction ends; waits for others.
    ForUpdate,
    /// Until the transaction ends; fails at once if others hold it.
    ForUpdateNowait,
}

/// On what condition, and relative to what, an operation writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Deltas on whatever the row holds by then.
    Relative,
    /// The same, and the time that it takes is written where the database keeps it free of overlaps.
    Exclusive,
    /// The values that follow from what was read.
    Absolute,
    /// Deltas, if the row still has the version that was read.
    IfVersionUnchanged,
    /// Deltas, if the business rule holds for the row as it is by then.
    IfAllowed,
}

/// An intention on one row that any strategy can carry out.
// Its futures never leave the load thread that made them, so nobody needs to know whether they are Send.
#[allow(async_fn_in_trait)]
pub trait Operation {
    /// What reading the row returns.
    type State;

    /// Takes the advisory lock that stands for the row, until the transaction ends.
    ///
    /// # Errors
    /// The failure of the statement.
    async fn lock(&self, tx: &mut Tx<'_>) -> Result<(), Failure>;

    /// Reads the row; `None` if there is none.
    ///
    /// # Errors
    /// The failure of the statement.
    async fn read(&self, tx: &mut Tx<'_>, lock: RowLock) -> Result<Option<Self::State>, Failure>;

    /// Whether the business rules allow it in this state. Pure.
    ///
    /// # Errors
    /// The rule that says no.
    fn decide(&self, state: &Self::State) -> Result<(), Refusal>;

    /// The refusal that a capacity constraint of the database stands for.
    fn refusal_by_constraint(&self) -> Refusal;

    /// Writes counters, version and ledger line in one statement; `None` if the condition of `write` did not hold.
    /// `state` is what was read; [`Write::Relative`] and [`Write::IfAllowed`] do without.
    ///
    /// # Errors
    /// The failure of the statement.
    async fn write(&self, tx: &mut Tx<'_>, state: Option<&Self::State>, write: Write) -> Result<Option<Applied>, Failure>;
}

/// Reads, decides, holds, writes: what most strategies do, each with its own lock and its own condition. The inner `Ok(None)` means
/// that the condition of the write did not hold.
async fn read_then_write<O: Operation>(
    tx: &mut Tx<'_>,
    operation: &O,
    lock: RowLock,
    write: Write,
) -> Result<Result<Option<Applied>, Refusal>, Failure> {
    let Some(state) = operation.read(tx, lock).await? else { return Ok(Err(Refusal::NotFound)) };
    if let Err(refusal) = operation.decide(&state) {
        return Ok(Err(refusal));
    }
    tx.hold().await;
    operation.write(tx, Some(&state), write).await.map(Ok)
}

impl From<Result<Option<Applied>, Refusal>> for Decision {
    /// A write without a condition that met no row: the row has gone since it was read.
    fn from(written: Result<Option<Applied>, Refusal>) -> Self {
        match written {
            Ok(Some(applied)) => Self::Applied(applied),
            Ok(None) => Self::Refused(Refusal::NotFound),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::from_name(strategy.name()), Some(strategy));
        }
    }

    #[test]
    fn a_strategy_that_claims_safety_names_the_mechanism_that_gives_it() {
        for strategy in Strategy::ALL {
            let safe = Hazard::ALL.into_iter().any(|hazard| strategy.claim(hazard) == Claim::Safe);
            assert_eq!(safe, strategy.mechanism() != Mechanism::None, "{}", strategy.name());
        }
        assert_eq!(Hazard::ALL.map(|hazard| Strategy::safe(hazard).count()), [8, 4, 5]);
    }

    #[test]
    fn what_cannot_be_tried_has_a_reason() {
        for (hazard, strategy) in Hazard::ALL.into_iter().flat_map(|h| Strategy::ALL.map(|s| (h, s))) {
            assert_eq!(strategy.claim(hazard) == Claim::None, strategy.inexpressible(hazard).is_some());
        }
    }
}
