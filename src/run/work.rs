//! What does a virtual user do? Proposes, from random numbers alone; lets somebody perform, in one attempt, what was proposed.

use std::sync::Arc;

use super::foreign::asking::{Drawn, HttpWork};
use super::own::{self, OwnWork};
use super::scheduling::SchedulingWork;
use super::session::{HttpSession, SqlSession};
use super::stock::Clinic;
use crate::history::{Asking, OperationKind};
use crate::outcome::{Abort, Outcome};
use crate::pg::load::{Between, Connection, Failure, Isolation, Phase};
use crate::random::Random;
use crate::scenario::{Booking as BookingPlan, Targets};
use crate::target::booking::Booker;
use crate::target::http::Caller;
use crate::target::{self, Attempt, Who};
use crate::workload::booking::Proposal;
use crate::workload::{contest, scheduling};
use crate::{Error, Result};

/// What the virtual users of a turn do.
pub enum Work {
    /// Book units of authorisations.
    Booking(BookingWork),
    /// Change the schedules of residents.
    Scheduling(SchedulingWork),
    /// Statements of the user's own.
    Own(OwnWork),
    /// Requests of the user's own to an API.
    Http(Arc<HttpWork>),
}

/// Units of authorisations are booked under one strategy.
pub struct BookingWork {
    /// Who performs it.
    pub booker: Booker,
    /// Who asks for it over HTTP; the server then does what the booker would do.
    pub caller: Option<Caller>,
    /// Whose authorisations, and who acts.
    pub clinics: Vec<Clinic>,
    /// The first of the authorisations that were made for it.
    pub base: i64,
    /// What is booked.
    pub plan: BookingPlan,
    /// How its operations are chosen.
    pub weights: Weights,
}

/// Chooses by weight.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Sums of the weights up to and including each.
    sums: Vec<f64>,
}

impl Weights {
    /// Of these weights, of which at least one is above 0.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        Self {
            sums: weights
                .into_iter()
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        }
    }

    /// The index of one.
    pub fn choose(&self, random: &mut Random) -> usize {
        if self.sums.len() < 2 {
            return 0;
        }
        let drawn = random.unit() * self.sums.last().copied().unwrap_or_default();
        self.sums.partition_point(|sum| *sum <= drawn).min(self.sums.len() - 1)
    }
}

/// What a virtual user intends; the same for every attempt at it.
#[derive(Debug, Clone)]
pub struct Intention {
    /// The number of the operation in the plan.
    pub operation: usize,
    /// What is done.
    pub what: What,
}

/// What is done.
#[derive(Debug, Clone)]
pub enum What {
    /// A booking.
    Booking(Proposal),
    /// A change of a schedule.
    Scheduling(contest::Proposal),
    /// An operation of the user's own: where its choices come from.
    Own(Random),
    /// Requests of the user's own.
    Asked(Arc<Drawn>),
}

/// What was prepared on a connection.
pub enum Prepared {
    /// The statements of bookings.
    Booking(target::booking::Prepared),
    /// Those of changes of schedules.
    Scheduling(Box<scheduling::Statements>),
    /// Those of each operation of the user's own.
    Own(Vec<own::Prepared>),
}

impl Work {
    /// The isolation levels that its transactions name.
    pub fn levels(&self) -> Vec<Isolation> {
        match self {
            Self::Booking(work) => work.booker.levels(),
            Self::Scheduling(work) => vec![work.scheduler.level()],
            Self::Own(work) => work.levels(),
            Self::Http(_) => Vec::new(),
        }
    }

    /// What the virtual user `vu` does in the round at `position`; and how many of all have room, where that is not the same in every round.
    /// `None` where there are no rounds.
    pub fn propose_in_round(&self, random: &mut Random, position: u64, vu: u16) -> Option<(Intention, Option<u32>)> {
        match self {
            Self::Booking(work) => Some((work.propose(random, position), None)),
            Self::Scheduling(work) => {
                let (intention, room) = work.propose(position, vu);
                Some((intention, Some(room)))
            }
            Self::Own(_) | Self::Http(_) => None,
        }
    }

    /// The operations that can be seen to be broken, as bits by their numbers; `None`: one is as good as all.
    pub fn breakable(&self) -> Option<u64> {
        match self {
            Self::Scheduling(work) => Some(work.breakable()),
            Self::Booking(_) | Self::Own(_) | Self::Http(_) => None,
        }
    }

    /// Prepares everything on a new connection, with `between` between it and the server; `another` opens one more, which may be needed.
    ///
    /// # Errors
    /// The server's answer.
    pub(super) async fn prepare(
        &self,
        connection: &mut Connection,
        between: Between,
        another: impl AsyncFnOnce() -> Result<Connection>,
    ) -> Result<Prepared> {
        Ok(match self {
            Self::Booking(work) => Prepared::Booking(work.booker.prepare(connection, another).await?),
            Self::Scheduling(work) => Prepared::Scheduling(Box::new(work.scheduler.prepare(connection).await?)),
            Self::Own(work) => Prepared::Own(work.prepare(connection, between).await?),
            Self::Http(_) => return Err(Error::inconclusive("an API is not asked in SQL: this is a bug in dbstress")),
        })
    }

    /// Makes one attempt in SQL.
    pub(super) async fn in_sql(
        &self,
        SqlSession { connection, prepared }: &mut SqlSession,
        intention: &Intention,
        who: Who,
        scratch: &mut own::Scratch,
        phase: &Phase,
    ) -> Attempt {
        match (self, prepared, &intention.what) {
            (Self::Booking(work), Prepared::Booking(prepared), What::Booking(proposal)) => {
                work.booker.attempt(connection, prepared, proposal, work.booker.key(proposal).as_ref(), who, phase).await
            }
            (Self::Scheduling(work), Prepared::Scheduling(statements), What::Scheduling(proposal)) => {
                work.scheduler.attempt(connection, statements, proposal, who, phase).await
            }
            (Self::Own(work), Prepared::Own(prepared), What::Own(random)) => {
                work.perform(connection, intention.operation, prepared, who, random.clone(), scratch, phase).await
            }
            // What is proposed and what is prepared come from the same work.
            _ => Attempt::Failed(Failure::local(Abort::Other)),
        }
    }

    /// Makes one attempt over HTTP.
    pub(super) async fn over_http(
        &self,
        HttpSession { client, carried }: &mut HttpSession,
        intention: &Intention,
        who: Who,
        scratch: &mut own::Scratch,
        phase: &Phase,
    ) -> Attempt {
        match (self, &intention.what) {
            (Self::Booking(BookingWork { booker, caller: Some(caller), .. }), What::Booking(proposal)) => {
                caller.book(client, carried, proposal, booker.key(proposal).as_ref(), who, phase).await
            }
            (Self::Scheduling(SchedulingWork { caller: Some(caller), .. }), What::Scheduling(proposal)) => {
                caller.change(client, carried, proposal, who, phase).await
            }
            (Self::Http(work), What::Asked(drawn)) => {
                work.perform(client, intention.operation, drawn, who, &mut scratch.notes, phase).await
            }
            // Whoever connects to an API has work for it.
            _ => Attempt::Failed(Failure::local(Abort::Other)),
        }
    }
}

impl Intention {
    /// The booking that is intended, if it is one.
    pub fn proposal(&self) -> Option<&Proposal> {
        match &self.what {
            What::Booking(proposal) => Some(proposal),
            What::Scheduling(_) | What::Own(_) | What::Asked(_) => None,
        }
    }

    /// What kind of operation it is.
    pub fn kind(&self) -> OperationKind {
        match &self.what {
            What::Booking(proposal) => proposal.kind,
            What::Scheduling(proposal) => proposal.kind(),
            What::Own(_) | What::Asked(_) => OperationKind::Own,
        }
    }

    /// What it is done to, and how many units are asked for: an authorisation, or a programme, of which everybody wants one change.
    pub fn subject(&self) -> (i64, i32) {
        match &self.what {
            What::Booking(proposal) => (proposal.authorisation, proposal.units),
            What::Scheduling(proposal) => (proposal.programme, 1),
            What::Own(_) | What::Asked(_) => (0, 0),
        }
    }

    /// How it is asked for, if with a key.
    pub fn asking(&self) -> Option<Asking> {
        self.proposal()?.key.map(|(asking, _)| asking)
    }

    /// The same as it is asked for at first: who asks twice asks as everybody does, and then again.
    #[must_use]
    pub fn at_first(&self) -> Self {
        let mut first = self.clone();
        if let What::Booking(Proposal { key: Some((asking @ (Asking::Again | Asking::Late), _)), .. }) = &mut first.what {
            *asking = Asking::First;
        }
        first
    }

    /// What is asked after an answer, by who asks twice.
    pub fn then(&self, outcome: Outcome) -> Option<Self> {
        let is_answer = matches!(outcome, Outcome::Committed | Outcome::Replayed | Outcome::Refused(_));
        (is_answer && matches!(self.asking(), Some(Asking::Again | Asking::Late))).then(|| self.clone())
    }
}

impl BookingWork {
    /// What is done next: one of the operations, on the authorisation at `position` of the stock, if they are taken one by one.
    pub fn propose(&self, random: &mut Random, position: u64) -> Intention {
        let operation = self.weights.choose(random);
        let chosen = &self.plan.operations[operation];
        // In a round of requests with keys the second authorisation is that of the other organisation.
        let key = chosen.request.map(|asking| (asking, position));
        let position = position * self.plan.per_round() + u64::from(chosen.request == Some(Asking::OtherTenant));
        let position = match self.plan.targets {
            Targets::Rounds | Targets::OneByOne => position,
            Targets::Spread { authorisations, hot } => match hot {
                // The hot ones come first in the stock.
                Some(hot) if random.unit() < hot.share => random.below(u64::from(hot.authorisations)),
                _ => u64::from(hot.map_or(0, |h| h.authorisations)) + random.below(u64::from(authorisations)),
            },
        };
        let home = (position % self.clinics.len() as u64) as usize;
        let is_attack = self.plan.strangers > 0.0 && random.unit() < self.plan.strangers && self.clinics.len() > 1;
        let clinic = if is_attack { (home + 1) % self.clinics.len() } else { home };
        let actors = &self.clinics[clinic].actors;
        let proposal = Proposal {
            kind: chosen.kind,
            units: chosen.units,
            authorisation: self.base.saturating_add_unsigned(position),
            actor: actors[random.below(actors.len() as u64) as usize],
            is_attack,
            key,
        };
        Intention { operation, what: What::Booking(proposal) }
    }
}
