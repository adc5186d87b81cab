//! Which mistakes does the tool know by name, so that it can show that it would find them? Each is a known-bad twin of something right.

mod catalogue;

use serde::{Deserialize, Serialize};

pub use catalogue::{Alone, Check, Entry};

/// A mistake that people make, done on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bug {
    /// The rule is checked in one statement and trusted in the next.
    CheckThenAct,
    /// The advisory lock is taken in the statement that reads: it reads the snapshot from before it waited.
    LockAndRead,
    /// The advisory lock of the session is given back before COMMIT.
    EarlyUnlock,
    /// An optimistic update that met no row counts as done.
    IgnoredRowCount,
    /// A retry replays the writes alone, without reading and deciding again.
    BlindRetry,
    /// Who does not wait for the answer to COMMIT takes it for a failure, and does it again.
    ImpatientRetry,
    /// Among SERIALIZABLE transactions one client writes at READ COMMITTED.
    MixedIsolation,
    /// Commits are acknowledged before they are durable.
    AsyncCommit,
    /// EXHAUSTED as soon as everything is promised, not when everything is used.
    ExhaustedLatch,
    /// The units change on a second connection, which commits by itself.
    NestedTransaction,
    /// What is given back is not what was promised.
    OtherRelease,
    /// The total is lowered below what is promised.
    LoweredTotal,
    /// Who does not show up keeps the units.
    NoShow,
    /// Now and then somebody is refused although there is room.
    SpuriousRefusal,
    /// The retry after an unanswered COMMIT carries no key.
    NoKey,
    /// The key is claimed in one transaction, the work done in the next.
    ClaimApart,
    /// Whether the key is known is read first; who loses the race to insert it works all the same.
    LoserExecutes,
    /// A key is unique together with the body, so that another body is another request.
    KeyWithHash,
    /// A key is looked up whoever's it is.
    UnscopedKey,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::CheckThenAct,
        Self::LockAndRead,
        Self::EarlyUnlock,
        Self::IgnoredRowCount,
        Self::BlindRetry,
        Self::ImpatientRetry,
        Self::MixedIsolation,
        Self::AsyncCommit,
        Self::ExhaustedLatch,
        Self::NestedTransaction,
        Self::OtherRelease,
        Self::LoweredTotal,
        Self::NoShow,
        Self::SpuriousRefusal,
        Self::NoKey,
        Self::ClaimApart,
        Self::LoserExecutes,
        Self::KeyWithHash,
        Self::UnscopedKey,
    ];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::CheckThenAct => "check-then-act",
            Self::LockAndRead => "lock-and-read",
            Self::EarlyUnlock => "early-unlock",
            Self::IgnoredRowCount => "ignored-row-count",
            Self::BlindRetry => "blind-retry",
            Self::ImpatientRetry => "impatient-retry",
            Self::MixedIsolation => "mixed-isolation",
            Self::AsyncCommit => "async-commit",
            Self::ExhaustedLatch => "exhausted-latch",
            Self::NestedTransaction => "nested-transaction",
            Self::OtherRelease => "other-release",
            Self::LoweredTotal => "lowered-total",
            Self::NoShow => "no-show",
            Self::SpuriousRefusal => "spurious-refusal",
            Self::NoKey => "no-key",
            Self::ClaimApart => "claim-apart",
            Self::LoserExecutes => "loser-executes",
            Self::KeyWithHash => "key-with-hash",
            Self::UnscopedKey => "unscoped-key",
        }
    }

    /// The bug called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }

    /// Whether it is one of requests that carry a key.
    pub fn is_about_keys(self) -> bool {
        matches!(self, Self::NoKey | Self::ClaimApart | Self::LoserExecutes | Self::KeyWithHash | Self::UnscopedKey)
    }
}

impl std::str::FromStr for Bug {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        Self::from_name(name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let hint = crate::error::nearest(name, names).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
            crate::Error::usage(format!("there is no bug `{name}`")).cure(format!("{hint}`dbstress bugs list` shows them"))
        })
    }
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
