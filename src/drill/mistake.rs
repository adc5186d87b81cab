//! Which mistakes do people make with pools? Each is made on purpose, so that a drill can show that it would find it.

use serde::{Deserialize, Serialize};

use super::{Drill, unknown};

/// A mistake in the use of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mistake {
    /// Now and then a request does not give its connection back.
    Leak,
    /// A request takes a second connection while it holds the first.
    NestedCheckout,
    /// The pool has more connections than it was meant to have.
    LargerPool,
    /// The pool has a single connection.
    SmallerPool,
    /// A failed transaction's connection is given back without ROLLBACK.
    NoRollback,
    /// Connections are lent without asking whether their sessions still live.
    Stale,
    /// The pool is emptied before everybody has given back.
    EarlyEmpty,
    /// The row is read without FOR UPDATE.
    NoLock,
    /// Two requests share one connection.
    SharedConnection,
    /// 40P01 is not tried again.
    NoRetry,
    /// A task ends without COMMIT.
    NoCommit,
    /// A task that ends in an error commits all the same.
    CommitOnError,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Leak,
        Self::NestedCheckout,
        Self::LargerPool,
        Self::SmallerPool,
        Self::NoRollback,
        Self::Stale,
        Self::EarlyEmpty,
        Self::NoLock,
        Self::SharedConnection,
        Self::NoRetry,
        Self::NoCommit,
        Self::CommitOnError,
    ];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::NestedCheckout => "nested-checkout",
            Self::LargerPool => "larger-pool",
            Self::SmallerPool => "smaller-pool",
            Self::NoRollback => "no-rollback",
            Self::Stale => "stale",
            Self::EarlyEmpty => "early-empty",
            Self::NoLock => "no-lock",
            Self::SharedConnection => "shared-connection",
            Self::NoRetry => "no-retry",
            Self::NoCommit => "no-commit",
            Self::CommitOnError => "commit-on-error",
        }
    }

    /// What is done wrong.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Leak => "now and then a request does not give its connection back",
            Self::NestedCheckout => "a request takes a second connection while it holds the first",
            Self::LargerPool => "the pool has more connections than it was meant to have",
            Self::SmallerPool => "the pool has a single connection",
            Self::NoRollback => "a failed transaction's connection is given back without ROLLBACK",
            Self::Stale => "connections are lent without asking whether their sessions still live",
            Self::EarlyEmpty => "the pool is emptied before everybody has given back",
            Self::NoLock => "the row is read without FOR UPDATE",
            Self::SharedConnection => "two requests share one connection",
            Self::NoRetry => "40P01 is not tried again",
            Self::NoCommit => "a task ends without COMMIT",
            Self::CommitOnError => "a task that ends in an error commits all the same",
        }
    }

    /// The drills that it makes fail.
    pub fn drills(self) -> impl Iterator<Item = Drill> {
        Drill::ALL.into_iter().filter(move |drill| drill.mistakes().contains(&self))
    }
}

impl std::str::FromStr for Mistake {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| unknown("mistake", name, &Self::ALL.map(Self::name)))
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
