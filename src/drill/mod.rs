//! What must a pool of connections be good for, and is ours, on this server? Exercises with a known right answer, and the mistakes that make
//! each of them fail.

mod control;
mod desk;
mod ground;
mod judge;
mod limits;
mod mistake;
mod renewal;
mod returns;
mod rows;
mod scope;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use control::controls;
pub use ground::{Ground, SCHEMA};
pub use judge::{Control, Count, Culprit, DrillRecord, DrillsRecord, Kind, SCHEMA_VERSION, Seen, Speed, judge};
pub use mistake::Mistake;

use crate::Result;

/// How long anything may take that takes no time when all is well: whoever is still waiting then will not be served any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// An exercise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drill {
    /// More requests than connections.
    Saturation,
    /// Short reads beside long tasks.
    SharedPool,
    /// Checkouts and checkins of a thousand queries.
    LeakDetection,
    /// Quick queries beside a transaction that takes its time.
    LongTransaction,
    /// Transactions that fail.
    RollbackReturns,
    /// Every session ended by the server.
    EndedSessions,
    /// Idle sessions ended behind the pool's back.
    FreshConnections,
    /// Emptied, and filled again.
    Refill,
    /// Three updaters of one row.
    RowLock,
    /// A reader beside an update that is not committed.
    ReadCommitted,
    /// Two rows locked in opposite order.
    DeadlockRetry,
    /// A task that ends well.
    CommitOnExit,
    /// A task that ends in an error.
    RollbackOnError,
    /// Many tasks on few workers.
    ManyTasks,
    /// How fast it is.
    Metrics,
}

impl Drill {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 15] = [
        Self::Saturation,
        Self::SharedPool,
        Self::LeakDetection,
        Self::LongTransaction,
        Self::RollbackReturns,
        Self::EndedSessions,
        Self::FreshConnections,
        Self::Refill,
        Self::RowLock,
        Self::ReadCommitted,
        Self::DeadlockRetry,
        Self::CommitOnExit,
        Self::RollbackOnError,
        Self::ManyTasks,
        Self::Metrics,
    ];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saturation => "saturation",
            Self::SharedPool => "shared-pool",
            Self::LeakDetection => "leak-detection",
            Self::LongTransaction => "long-transaction",
            Self::RollbackReturns => "rollback-returns",
            Self::EndedSessions => "ended-sessions",
            Self::FreshConnections => "fresh-connections",
            Self::Refill => "refill",
            Self::RowLock => "row-lock",
            Self::ReadCommitted => "read-committed",
            Self::DeadlockRetry => "deadlock-retry",
            Self::CommitOnExit => "commit-on-exit",
            Self::RollbackOnError => "rollback-on-error",
            Self::ManyTasks => "many-tasks",
            Self::Metrics => "metrics",
        }
    }

    /// The question it answers.
    pub fn question(self) -> &'static str {
        match self {
            Self::Saturation => "are as many served as there are connections, and all others told in time?",
            Self::SharedPool => "do short reads get by beside long tasks?",
            Self::LeakDetection => "does every connection come back?",
            Self::LongTransaction => "do others get on while a transaction takes its time?",
            Self::RollbackReturns => "does a failed transaction give back a connection that can be used?",
            Self::EndedSessions => "does it recover when the server has ended every session?",
            Self::FreshConnections => "is no connection lent whose session has ended?",
            Self::Refill => "does it go on with new connections after it was emptied?",
            Self::RowLock => "is no update lost among transactions that lock the row they read?",
            Self::ReadCommitted => "does nobody see what is not committed?",
            Self::DeadlockRetry => "is one of two that block each other ended, and does its retry succeed?",
            Self::CommitOnExit => "is a task's work committed when it ends well?",
            Self::RollbackOnError => "is nothing left of a task that ends in an error?",
            Self::ManyTasks => "is the work of many tasks on few workers done, each once?",
            Self::Metrics => "how long does a checkout take, and how many operations are done in a second?",
        }
    }

    /// The mistakes that make it fail.
    pub fn mistakes(self) -> &'static [Mistake] {
        match self {
            Self::Saturation => &[Mistake::LargerPool, Mistake::NestedCheckout],
            Self::SharedPool => &[Mistake::NestedCheckout],
            Self::LeakDetection | Self::Metrics => &[Mistake::Leak],
            Self::LongTransaction => &[Mistake::SmallerPool],
            Self::RollbackReturns => &[Mistake::NoRollback],
            Self::EndedSessions | Self::FreshConnections => &[Mistake::Stale],
            Self::Refill => &[Mistake::EarlyEmpty],
            Self::RowLock => &[Mistake::NoLock],
            Self::ReadCommitted => &[Mistake::SharedConnection],
            Self::DeadlockRetry => &[Mistake::NoRetry],
            Self::CommitOnExit => &[Mistake::NoCommit],
            Self::RollbackOnError => &[Mistake::CommitOnError, Mistake::NoRollback],
            Self::ManyTasks => &[Mistake::NoCommit, Mistake::Leak, Mistake::NestedCheckout],
        }
    }

    async fn try_out(self, ground: &mut Ground, mistake: Option<Mistake>) -> Result<Seen> {
        ground.clear().await?;
        match self {
            Self::Saturation => limits::saturation(ground, mistake).await,
            Self::SharedPool => limits::shared_pool(ground, mistake).await,
            Self::LeakDetection => returns::leak_detection(ground, mistake, returns::THOUSAND).await,
            Self::LongTransaction => limits::long_transaction(ground, mistake).await,
            Self::RollbackReturns => returns::rollback_returns(ground, mistake).await,
            Self::EndedSessions => renewal::ended_sessions(ground, mistake).await,
            Self::FreshConnections => renewal::fresh_connections(ground, mistake).await,
            Self::Refill => renewal::refill(ground, mistake).await,
            Self::RowLock => rows::row_lock(ground, mistake).await,
            Self::ReadCommitted => rows::read_committed(ground, mistake).await,
            Self::DeadlockRetry => rows::deadlock_retry(ground, mistake).await,
            Self::CommitOnExit => scope::commit_on_exit(ground, mistake).await,
            Self::RollbackOnError => scope::rollback_on_error(ground, mistake).await,
            Self::ManyTasks => scope::many_tasks(ground, mistake, scope::TASKS).await,
            Self::Metrics => returns::metrics(ground, mistake).await,
        }
    }
}

impl std::str::FromStr for Drill {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        Self::ALL.into_iter().find(|drill| drill.name() == name).ok_or_else(|| unknown("drill", name, &Self::ALL.map(Self::name)))
    }
}

impl std::fmt::Display for Drill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn unknown(what: &str, name: &str, names: &[&'static str]) -> crate::Error {
    let hint = crate::error::nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`?\n"));
    crate::Error::usage(format!("there is no {what} `{name}`")).cure(format!("{hint}`dbstress pool --list` shows them"))
}

/// Does a drill and judges it; what kept it from being done leaves it open. It is done again if our own session was ended in the middle of it, once
/// in a run: [`Ground::recover`].
pub async fn perform(ground: &mut Ground, drill: Drill, mistake: Option<Mistake>) -> DrillRecord {
    let began = Instant::now();
    let mut is_again = false;
    let tried = loop {
        let tried = tokio::time::timeout(PATIENCE * 2, drill.try_out(ground, mistake)).await;
        if !(matches!(tried, Ok(Err(_))) && ground.recover().await) {
            break tried;
        }
        is_again = true;
    };
    let seen = match tried {
        Ok(Ok(mut seen)) => {
            if is_again {
                seen.figure("done again: the session dbstress/pool was ended in the middle of it".into());
            }
            seen
        }
        Ok(Err(error)) => Seen::open(error.to_string()),
        Err(_) => Seen::open(format!("not done after {} s", (PATIENCE * 2).as_secs())),
    };
    DrillRecord::of(drill, mistake, seen, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_can_fail_and_every_mistake_makes_one_fail() {
        for drill in Drill::ALL {
            assert!(!drill.mistakes().is_empty(), "{drill}");
            assert_eq!(drill.name().parse::<Drill>().unwrap(), drill);
            assert!(drill.question().ends_with('?'), "{drill}");
        }
        for mistake in Mistake::ALL {
            assert!(mistake.drills().next().is_some(), "{mistake} makes none fail");
            assert_eq!(mistake.name().parse::<Mistake>().unwrap(), mistake);
        }
    }

    #[test]
    fn what_was_mistyped_is_guessed() {
        let of_drill = "saturatoin".parse::<Drill>().unwrap_err().to_string();
        assert!(of_drill.contains("did you mean `saturation`?"), "{of_drill}");
        let of_mistake = "nested-checkouts".parse::<Mistake>().unwrap_err().to_string();
        assert!(of_mistake.contains("did you mean `nested-checkout`?"), "{of_mistake}");
    }
}
