//! What does a virtual user propose that changes schedules? By its number and the position of the round.

use super::work::{Intention, What};
use crate::scenario::{Contest, Scheduling as SchedulingPlan};
use crate::strategy::Strategy;
use crate::target::http::Caller;
use crate::target::scheduling::Scheduler;
use crate::workload::contest::Deck;

/// Schedules are changed under one strategy.
pub struct SchedulingWork {
    /// Who performs it.
    pub scheduler: Scheduler,
    /// Who asks for it over HTTP; the server then does what the scheduler would do.
    pub caller: Option<Caller>,
    /// The first of the programmes that were made for it.
    pub base: i64,
    /// What is contended for.
    pub plan: SchedulingPlan,
    /// Which contest comes when.
    pub deck: Deck,
}

impl SchedulingWork {
    /// What the virtual user does in the round at `position`, and how many of all have room.
    pub fn propose(&self, position: u64, vu: u16) -> (Intention, u32) {
        let round = self.deck.round(position);
        let proposal = round.propose(self.base.saturating_add_unsigned(position), vu);
        let operation = self.plan.contested().position(|contest| contest == round.contest).unwrap_or_default();
        (Intention { operation, what: What::Scheduling(proposal) }, round.room)
    }

    /// The operations of which more could win than there is room for, as bits by their numbers.
    pub fn breakable(&self) -> u64 {
        let breakable = self.plan.contested().enumerate().filter(|(_, contest)| breaks(self.scheduler.strategy, *contest));
        breakable.fold(0, |bits, (operation, _)| bits | 1 << operation)
    }
}

/// Whether a contest has more winners than room under this strategy, now and then, where nothing but the strategy keeps them apart.
pub fn breaks(strategy: Strategy, contest: Contest) -> bool {
    match strategy {
        Strategy::Naive => true,
        // Who is second to update a row is told so; who is second to read has no way to know.
        Strategy::RepeatableRead => !contest.is_about_one_row(),
        _ => false,
    }
}
