//! What does a virtual user do? Proposes, from random numbers alone; performs, in one attempt, what was proposed.

use std::sync::Arc;

use super::own::{self, OwnWork};
use super::stock::Clinic;
use crate::Result;
use crate::bug::Bug;
use crate::history::{Applied, OpId, OperationKind};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Connection, Ending, Failure, Isolation, Phase, Tx};
use crate::random::Random;
use crate::scenario::{Booking as BookingPlan, Targets};
use crate::strategy::Operation as _;
use crate::strategy::{Decision, RowLock, Strategy};
use crate::workload::booking::{Booking, Place, Proposal, Statements};
use crate::workload::twin::{self, Nested};

/// What the virtual users of a turn do.
pub enum Work {
    /// Book units of authorisations.
    Booking(BookingWork),
    /// Statements of the user's own.
    Own(OwnWork),
}

/// Units of authorisations are booked under one strategy.
pub struct BookingWork {
    /// How rows are protected.
    pub strategy: Strategy,
    /// Where they are.
    pub place: Place,
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
    /// An operation of the user's own: where its choices come from.
    Own(Random),
}

/// What was prepared on a connection.
pub enum Prepared {
    /// The statements of bookings.
    Booking(Box<Statements>),
    /// Those of bookings on a second connection: a mistake that is made on purpose.
    Nested(Box<Nested>),
    /// Those of each operation of the user's own.
    Own(Vec<own::Prepared>),
}

/// How one attempt ended.
pub enum Attempt {
    /// Applied and acknowledged.
    Committed(Applied),
    /// A business rule said no.
    Refused(Refusal),
    /// Certainly not applied; tried again if its reason is one for that.
    Failed(Failure),
    /// Certainly not applied, and to be tried again whatever the reason.
    Again(Failure),
    /// Certainly not applied, and not to be tried again whatever the reason; with words for a person, if there are any.
    GivenUp(Failure, Option<String>),
    /// COMMIT was sent and not answered.
    Unknown,
}

/// Who is at it and for which time.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// The operation, everywhere.
    pub op_id: OpId,
    /// Which attempt this is, from 1.
    pub attempt: u16,
}

impl Work {
    /// The isolation levels that its transactions name.
    pub fn levels(&self) -> Vec<Isolation> {
        match self {
            Self::Booking(work) => twin::levels(work.plan.bug, work.strategy),
            Self::Own(work) => work.levels(),
        }
    }

    /// Prepares everything on a new connection; `opener` has opened it, and may have to open another.
    ///
    /// # Errors
    /// The server's answer.
    async fn prepare(&self, connection: &mut Connection, opener: &Opener, application_name: &str) -> Result<Prepared> {
        Ok(match self {
            Self::Booking(BookingWork { plan, place, strategy, .. }) => {
                if let Some(setting) = twin::session_setting(plan.bug) {
                    connection.ask(setting).await?;
                }
                if plan.bug == Some(Bug::NestedTransaction) {
                    let nested = Nested::open(&opener.options, application_name, connection, place, *strategy, plan.hold);
                    return Ok(Prepared::Nested(Box::new(nested.await?)));
                }
                Prepared::Booking(Box::new(Statements::prepare(connection, place, plan.bug).await?))
            }
            Self::Own(work) => Prepared::Own(work.prepare(connection).await?),
        })
    }

    /// Makes one attempt.
    pub async fn attempt(
        &self,
        connection: &mut Connection,
        prepared: &mut Prepared,
        intention: &Intention,
        who: Who,
        scratch: &mut own::Scratch,
        phase: &Phase,
    ) -> Attempt {
        // The ledger's column; a deadline of seconds allows far fewer.
        let number = i16::try_from(who.attempt).unwrap_or(i16::MAX);
        match (self, prepared, &intention.what) {
            (Self::Booking(work), Prepared::Booking(statements), What::Booking(proposal)) => {
                let booking = Booking { proposal: *proposal, op_id: who.op_id, attempt: number, statements };
                let attempt = work.book(connection, &booking, phase).await;
                twin::afterwards(connection, &booking, matches!(attempt, Attempt::Committed(_))).await;
                attempt
            }
            (Self::Booking(_), Prepared::Nested(nested), What::Booking(proposal)) => {
                let booking = |statements| Booking { proposal: *proposal, op_id: who.op_id, attempt: number, statements };
                match nested.book(connection, booking, phase).await {
                    Ok(Decision::Applied(applied)) => Attempt::Committed(applied),
                    Ok(Decision::Refused(refusal)) => Attempt::Refused(refusal),
                    Err(Ending::NotCommitted(failure)) => Attempt::Failed(failure),
                    Err(Ending::Committed | Ending::Unknown) => Attempt::Unknown,
                }
            }
            (Self::Own(work), Prepared::Own(prepared), What::Own(random)) => {
                work.perform(connection, intention.operation, prepared, who, random.clone(), scratch, phase).await
            }
            // What is proposed and what is prepared come from the same work.
            _ => Attempt::Failed(Failure::local(Abort::Other)),
        }
    }
}

impl BookingWork {
    /// What is done next: one of the operations, on the authorisation at `position` of the stock, if they are taken one by one.
    pub fn propose(&self, random: &mut Random, position: u64) -> Intention {
        let operation = self.weights.choose(random);
        let chosen = &self.plan.operations[operation];
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
        };
        Intention { operation, what: What::Booking(proposal) }
    }

    async fn book(&self, connection: &mut Connection, booking: &Booking<'_>, phase: &Phase) -> Attempt {
        let isolation = twin::isolation(self.plan.bug, self.strategy, booking.op_id.vu());
        let mut tx = match Tx::begin(connection, isolation, self.plan.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return Attempt::Failed(failure),
        };
        if booking.proposal.kind == OperationKind::Browse {
            return browse(tx, booking).await;
        }
        match twin::apply(self.plan.bug, self.strategy, &mut tx, booking).await {
            Ok(Decision::Applied(applied)) => match tx.commit().await {
                Ending::Committed => Attempt::Committed(applied),
                Ending::NotCommitted(failure) => Attempt::Failed(failure),
                Ending::Unknown => Attempt::Unknown,
            },
            // The server refused the statement itself: nothing that was read can be committed, and nothing needs to be.
            Ok(Decision::Refused(refusal)) if tx.has_failed() => {
                tx.rollback().await;
                Attempt::Refused(refusal)
            }
            // A refusal counts once its COMMIT succeeded: at SERIALIZABLE, a reader that is rolled back may have seen a state that never was.
            Ok(Decision::Refused(refusal)) => match tx.commit().await {
                Ending::Committed => Attempt::Refused(refusal),
                Ending::NotCommitted(failure) => Attempt::Failed(failure),
                // It wrote nothing, so whatever became of the COMMIT, nothing was applied.
                Ending::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
            },
            Err(failure) => {
                tx.rollback().await;
                Attempt::Failed(failure)
            }
        }
    }
}

/// Looks, in a transaction of the strategy's level, and leaves everything as it is.
async fn browse(mut tx: Tx<'_>, booking: &Booking<'_>) -> Attempt {
    match booking.read(&mut tx, RowLock::None).await {
        Ok(state) => match tx.commit().await {
            Ending::Committed if state.is_none() => Attempt::Refused(Refusal::NotFound),
            Ending::Committed => Attempt::Committed(Applied::default()),
            Ending::NotCommitted(failure) => Attempt::Failed(failure),
            Ending::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
        },
        Err(failure) => {
            tx.rollback().await;
            Attempt::Failed(failure)
        }
    }
}

/// A connection and what was prepared on it.
pub struct Session {
    /// The connection.
    pub connection: Connection,
    /// What was prepared.
    pub prepared: Prepared,
}

impl Session {
    /// Whether it can be used again.
    pub fn is_open(&self) -> bool {
        self.connection.is_open() && !matches!(&self.prepared, Prepared::Nested(nested) if !nested.is_open())
    }
}

/// How a turn's connections are opened.
#[derive(Clone)]
pub struct Opener {
    /// The server.
    pub options: crate::pg::ConnectOptions,
    /// What they are opened for.
    pub work: Arc<Work>,
}

impl Opener {
    /// Opens one.
    ///
    /// # Errors
    /// When it fails, or the server refuses a statement.
    pub async fn open(&self, application_name: &str) -> Result<Session> {
        let mut connection = Connection::open(&self.options, application_name, &self.work.levels()).await?;
        let prepared = self.work.prepare(&mut connection, self, application_name).await?;
        Ok(Session { connection, prepared })
    }
}
