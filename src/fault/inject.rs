//! How do faults happen while the load runs? Each by its own schedule, all at once, and each is healed before the load is judged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Arena, Effect, Fault, Planned, Reach, freeze, outage, sessions, wire};
use crate::audit::Truth;
use crate::{Error, Result};

/// Lets faults happen.
pub struct Injector {
    arena: Arc<Arena>,
    planned: Vec<Planned>,
}

/// One fault that struck, or failed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// Which of those that were planned.
    pub planned: usize,
    /// When it was done.
    pub at: Instant,
    /// From when on it had its effect: what began later was met by it.
    pub effective: Instant,
    /// When it was over: healed, or the server back.
    pub healed: Instant,
    /// To what, or why not.
    pub what: Result<String, String>,
    /// What is known of the COMMIT that it met.
    pub truth: Option<Truth>,
}

impl Injector {
    /// Of these faults, in this arena.
    pub fn new(arena: Arena, planned: Vec<Planned>) -> Self {
        Self { arena: Arc::new(arena), planned }
    }

    /// What is disturbed.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Lets each happen at its times after `began`, until `over` turns true. What is held then is let go at once; a server that is down is
    /// brought back first. In the order in which they struck; and the first thing that could not be healed.
    pub async fn run(self, began: Instant, over: watch::Receiver<bool>) -> (Vec<Strike>, Option<Error>) {
        let mut schedules = JoinSet::new();
        for (number, planned) in self.planned.into_iter().enumerate() {
            let (arena, over) = (self.arena.clone(), over.clone());
            schedules.spawn(async move { follow(&arena, number, planned, began, over).await });
        }
        let (mut strikes, mut failure) = (Vec::new(), None);
        while let Some(ended) = schedules.join_next().await {
            match ended {
                Ok((struck, None)) => strikes.extend(struck),
                Ok((struck, Some(error))) => {
                    strikes.extend(struck);
                    failure.get_or_insert(error);
                }
                Err(_) => {
                    failure.get_or_insert(Error::inconclusive("the injection of faults panicked: this is a bug in dbstress"));
                }
            }
        }
        strikes.sort_by_key(|strike: &Strike| strike.at);
        (strikes, failure)
    }
}

async fn follow(
    arena: &Arena,
    number: usize,
    planned: Planned,
    began: Instant,
    mut over: watch::Receiver<bool>,
) -> (Vec<Strike>, Option<Error>) {
    let mut strikes = Vec::new();
    for occasion in planned.occasions() {
        tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => break,
            () = tokio::time::sleep_until((began + occasion).into()) => {}
        }
        match strike(arena, planned, over.clone()).await {
            Ok(Effect { at, effective, what, truth }) => {
                arena.struck().fetch_add(u64::from(what.is_ok()), Ordering::Relaxed);
                strikes.push(Strike { planned: number, at, effective, healed: Instant::now(), what, truth });
            }
            Err(error) => {
                let now = Instant::now();
                strikes.push(Strike {
                    planned: number,
                    at: now,
                    effective: now,
                    healed: now,
                    what: Err(error.to_string()),
                    truth: None,
                });
                return (strikes, Some(error));
            }
        }
    }
    (strikes, None)
}

async fn strike(arena: &Arena, planned: Planned, over: watch::Receiver<bool>) -> Result<Effect> {
    let Planned { fault, hold, .. } = planned;
    match fault {
        Fault::Terminate | Fault::Cancel => Ok(sessions::strike(arena, fault).await),
        Fault::KillBackend | Fault::Crash | Fault::Kill | Fault::Restart => outage::strike(arena, fault).await,
        Fault::FreezeBackend | Fault::Freeze => freeze::strike(arena, fault, hold, over).await,
        Fault::Reset | Fault::HalfOpen | Fault::Delay | Fault::RequestLost | Fault::ResponseLost => {
            wire::strike(arena, planned, over).await
        }
    }
}

/// Whether faults can be done to this server.
///
/// # Errors
/// Usage, naming the fault and what can be done instead.
pub fn check(planned: &[Planned], is_private: bool) -> Result<()> {
    match planned.iter().find(|planned| planned.fault.reach() == Reach::Server && !is_private) {
        None => Ok(()),
        Some(planned) => {
            let safe: Vec<&str> = Fault::ALL.into_iter().filter(|f| f.reach() != Reach::Server).map(Fault::name).collect();
            Err(Error::usage(format!("{planned} is done to a server of dbstress's own only, and this one is not"))
                .cure(format!("--managed uses the private server; on any server: {}", safe.join(", "))))
        }
    }
}
