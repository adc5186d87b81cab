//! What goes wrong while the load runs, and when? The faults that can be asked for, and what they may be done to.
//!
//! `schedule` says when, `inject` lets them happen; `sessions`, `outage`, `freeze` and `wire` do it, each in its own way, to what is in the
//! `arena`.

mod arena;
mod freeze;
mod inject;
mod outage;
mod schedule;
mod sessions;
mod wire;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::audit::Truth;

pub use arena::{Arena, others};
pub use inject::{Injector, Strike, check};
pub use schedule::Planned;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A session of the run is terminated by the server, as an administrator does it.
    Terminate,
    /// A statement of the run is cancelled by the server.
    Cancel,
    /// A backend of the run is killed with SIGKILL, after which the server throws everybody out and recovers.
    KillBackend,
    /// The server is shut down at once (SIGQUIT) and started again, recovering from its log.
    Crash,
    /// The postmaster is killed with SIGKILL, and the server started again.
    Kill,
    /// The server is shut down properly and started again.
    Restart,
    /// A backend of the run is stopped (SIGSTOP) for a while.
    FreezeBackend,
    /// All processes of the server are stopped (SIGSTOP) for a while.
    Freeze,
    /// A connection is reset.
    Reset,
    /// A connection falls silent in both directions for a while, and is closed then.
    HalfOpen,
    /// Everything between the load and the server arrives later for a while.
    Delay,
    /// A COMMIT never reaches the server, and the connection breaks.
    RequestLost,
    /// The answer to a COMMIT never reaches the client, and the connection breaks.
    ResponseLost,
}

/// What must be at hand for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A statement on the server, about sessions of the run alone.
    Sessions,
    /// The proxy between the load and the server.
    Wire,
    /// The processes of a server that is ours.
    Server,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Terminate,
        Self::Cancel,
        Self::KillBackend,
        Self::Crash,
        Self::Kill,
        Self::Restart,
        Self::FreezeBackend,
        Self::Freeze,
        Self::Reset,
        Self::HalfOpen,
        Self::Delay,
        Self::RequestLost,
        Self::ResponseLost,
    ];

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Cancel => "cancel",
            Self::KillBackend => "kill-backend",
            Self::Crash => "crash",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::FreezeBackend => "freeze-backend",
            Self::Freeze => "freeze",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::Delay => "delay",
            Self::RequestLost => "request-lost",
            Self::ResponseLost => "response-lost",
        }
    }

    /// The fault called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// What happens, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Terminate => "the server ends a session of the run (pg_terminate_backend)",
            Self::Cancel => "the server cancels a statement of the run (pg_cancel_backend)",
            Self::KillBackend => "SIGKILL to a backend of the run: everybody is thrown out, the server recovers",
            Self::Crash => "immediate shutdown, start, recovery",
            Self::Kill => "SIGKILL to the postmaster, start, recovery",
            Self::Restart => "proper shutdown, start",
            Self::FreezeBackend => "SIGSTOP to a backend of the run, for a while (2s)",
            Self::Freeze => "SIGSTOP to all processes of the server, for a while (2s)",
            Self::Reset => "a connection is reset",
            Self::HalfOpen => "a connection falls silent for a while (2s), then it is closed",
            Self::Delay => "every message arrives later (50ms), for a while (2s)",
            Self::RequestLost => "a COMMIT never reaches the server, the connection breaks",
            Self::ResponseLost => "the answer to a COMMIT never reaches the client, the connection breaks",
        }
    }

    /// What must be at hand for it.
    pub fn reach(self) -> Reach {
        match self {
            Self::Terminate | Self::Cancel => Reach::Sessions,
            Self::KillBackend | Self::Crash | Self::Kill | Self::Restart | Self::FreezeBackend | Self::Freeze => Reach::Server,
            Self::Reset | Self::HalfOpen | Self::Delay | Self::RequestLost | Self::ResponseLost => Reach::Wire,
        }
    }

    /// Whether it goes on for a while, until it is healed.
    pub fn is_held(self) -> bool {
        matches!(self, Self::FreezeBackend | Self::Freeze | Self::HalfOpen | Self::Delay)
    }

    /// Whether every session of the server ends with it.
    pub fn ends_all_sessions(self) -> bool {
        matches!(self, Self::KillBackend | Self::Crash | Self::Kill | Self::Restart)
    }

    /// Whether it makes outcomes unknown of which is known what became of them.
    pub fn is_at_commit(self) -> bool {
        matches!(self, Self::RequestLost | Self::ResponseLost)
    }
}

/// What came of one attempt to let something go wrong.
struct Effect {
    /// When it was done.
    at: Instant,
    /// From when on it had its effect: what began later was met by it.
    effective: Instant,
    /// To what it was done, or why it was not.
    what: Result<String, String>,
    /// What became of the COMMIT that it met, if it met one.
    truth: Option<Truth>,
}

impl Effect {
    fn on(target: String) -> Self {
        let now = Instant::now();
        Self { at: now, effective: now, what: Ok(target), truth: None }
    }

    fn none(why: &str) -> Self {
        Self { what: Err(why.to_owned()), ..Self::on(String::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_name(fault.name()), Some(fault));
        }
    }
}
