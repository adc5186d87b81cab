//! What does a virtual user do that changes schedules? Proposes by its number and the position of the round; performs, in one attempt.

use super::work::{Attempt, Intention, What, Who, applied_by, refused};
use crate::outcome::Abort;
use crate::pg::load::{Connection, Phase, Tx};
use crate::scenario::{Contest, Scheduling as SchedulingPlan};
use crate::strategy::{Decision, Strategy};
use crate::workload::booking::Place;
use crate::workload::contest::{Deck, Proposal};
use crate::workload::scheduling::{Scheduling, Statements};

/// Schedules are changed under one strategy.
pub struct SchedulingWork {
    /// How rows are protected.
    pub strategy: Strategy,
    /// Where they are.
    pub place: Place,
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
        let breakable = self.plan.contested().enumerate().filter(|(_, contest)| breaks(self.strategy, *contest));
        breakable.fold(0, |bits, (operation, _)| bits | 1 << operation)
    }

    /// Makes one attempt.
    pub async fn attempt(
        &self,
        connection: &mut Connection,
        statements: &Statements,
        proposal: &Proposal,
        who: Who,
        phase: &Phase,
    ) -> Attempt {
        let mut tx = match Tx::begin(connection, self.strategy.isolation(), self.plan.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return Attempt::Failed(failure),
        };
        // The ledger's column; a deadline of seconds allows far fewer attempts.
        let attempt = i16::try_from(who.attempt).unwrap_or(i16::MAX);
        let operation = Scheduling { proposal: *proposal, op_id: who.op_id, attempt, statements };
        match self.strategy.apply(&mut tx, &operation).await {
            Ok(Decision::Applied(applied)) => applied_by(tx, applied).await,
            // The server refused the statement itself: nothing that was read can be committed, and nothing needs to be.
            Ok(Decision::Refused(refusal)) if tx.has_failed() => {
                tx.rollback().await;
                Attempt::Refused(refusal)
            }
            Ok(Decision::Refused(refusal)) => refused(tx, refusal).await,
            Err(failure) => {
                tx.rollback().await;
                match failure.abort {
                    // Somebody has done the same meanwhile: whoever reads again is told that it is so already.
                    Abort::UniqueViolation => Attempt::Again(failure),
                    _ => Attempt::Failed(failure),
                }
            }
        }
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
