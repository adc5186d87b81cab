//! What does a virtual user do? Proposes, from random numbers alone; performs, in one attempt, what was proposed.

use std::sync::Arc;

use super::own::{self, OwnWork};
use super::scheduling::SchedulingWork;
use super::stock::Clinic;
use crate::Result;
use crate::bug::Bug;
use crate::history::{Applied, Asking, OpId, OperationKind};
use crate::outcome::Outcome;
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Connection, Ending, Failure, Isolation, Manner, Phase, Tx};
use crate::random::Random;
use crate::scenario::{Booking as BookingPlan, Targets};
use crate::strategy::Operation as _;
use crate::strategy::{Decision, RowLock, Strategy};
use crate::workload::booking::{Booking, Place, Proposal, Statements};
use crate::workload::contest;
use crate::workload::keyed::{Claim, Key, KeyedStatements};
use crate::workload::scheduling;
use crate::workload::twin::{self, Nested};

/// What the virtual users of a turn do.
pub enum Work {
    /// Book units of authorisations.
    Booking(BookingWork),
    /// Change the schedules of residents.
    Scheduling(SchedulingWork),
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
    /// A change of a schedule.
    Scheduling(contest::Proposal),
    /// An operation of the user's own: where its choices come from.
    Own(Random),
}

/// What was prepared on a connection.
pub enum Prepared {
    /// The statements of bookings.
    Booking(Box<Statements>),
    /// Those of bookings on a second connection: a mistake that is made on purpose.
    Nested(Box<Nested>),
    /// Those of bookings that are asked for with a key.
    Keyed(Box<KeyedStatements>),
    /// Those of changes of schedules.
    Scheduling(Box<scheduling::Statements>),
    /// Those of each operation of the user's own.
    Own(Vec<own::Prepared>),
}

/// How one attempt ended.
pub enum Attempt {
    /// Applied and acknowledged.
    Committed(Applied),
    /// The key was known: the stored response.
    Replayed {
        /// What it says.
        applied: Applied,
        /// The one whose response it is was under way when this one asked.
        met: bool,
    },
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
    /// How many of those before it sent COMMIT and were not answered.
    pub unanswered: u16,
}

impl Work {
    /// The isolation levels that its transactions name.
    pub fn levels(&self) -> Vec<Isolation> {
        match self {
            Self::Booking(work) => twin::levels(work.plan.bug, work.strategy),
            Self::Scheduling(work) => vec![work.strategy.isolation()],
            Self::Own(work) => work.levels(),
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
            Self::Own(_) => None,
        }
    }

    /// The operations that can be seen to be broken, as bits by their numbers; `None`: one is as good as all.
    pub fn breakable(&self) -> Option<u64> {
        match self {
            Self::Scheduling(work) => Some(work.breakable()),
            Self::Booking(_) | Self::Own(_) => None,
        }
    }

    /// Prepares everything on a new connection; `opener` has opened it, and may have to open another.
    ///
    /// # Errors
    /// The server's answer.
    async fn prepare(&self, connection: &mut Connection, opener: &Opener, application_name: &str) -> Result<Prepared> {
        Ok(match self {
            Self::Booking(BookingWork { plan, place, strategy, .. }) => match plan.keys {
                Some(keys) => Prepared::Keyed(Box::new(KeyedStatements::prepare(connection, place, keys, plan.bug).await?)),
                None if plan.bug == Some(Bug::NestedTransaction) => {
                    let second = opener.another(application_name).await?;
                    let nested = Nested::open(second, connection, place, *strategy, plan.hold);
                    Prepared::Nested(Box::new(nested.await?))
                }
                None => Prepared::Booking(Box::new(Statements::prepare(connection, place, plan.bug, None).await?)),
            },
            Self::Scheduling(work) => {
                Prepared::Scheduling(Box::new(scheduling::Statements::prepare(connection, &work.place).await?))
            }
            Self::Own(work) => Prepared::Own(work.prepare(connection, opener.manner.between).await?),
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
        match (self, prepared, &intention.what) {
            (Self::Booking(work), Prepared::Booking(statements), What::Booking(proposal)) => {
                let booking = booking(proposal, who, None, statements);
                let attempt = work.book(connection, &booking, phase).await;
                twin::afterwards(connection, &booking, matches!(attempt, Attempt::Committed(_))).await;
                attempt
            }
            (Self::Booking(_), Prepared::Nested(nested), What::Booking(proposal)) => {
                match nested.book(connection, |statements| booking(proposal, who, None, statements), phase).await {
                    Ok(Decision::Applied(applied)) => Attempt::Committed(applied),
                    Ok(Decision::Refused(refusal)) => Attempt::Refused(refusal),
                    Err(Ending::NotCommitted(failure)) => Attempt::Failed(failure),
                    Err(Ending::Committed | Ending::Unknown) => Attempt::Unknown,
                }
            }
            (Self::Booking(work), Prepared::Keyed(statements), What::Booking(proposal)) => {
                work.ask(connection, statements, proposal, who, phase).await
            }
            (Self::Scheduling(work), Prepared::Scheduling(statements), What::Scheduling(proposal)) => {
                work.attempt(connection, statements, proposal, who, phase).await
            }
            (Self::Own(work), Prepared::Own(prepared), What::Own(random)) => {
                work.perform(connection, intention.operation, prepared, who, random.clone(), scratch, phase).await
            }
            // What is proposed and what is prepared come from the same work.
            _ => Attempt::Failed(Failure::local(Abort::Other)),
        }
    }
}

fn booking<'s>(proposal: &Proposal, who: Who, key: Option<&'s Key>, statements: &'s Statements) -> Booking<'s> {
    // The ledger's column; a deadline of seconds allows far fewer attempts.
    let attempt = i16::try_from(who.attempt).unwrap_or(i16::MAX);
    Booking { proposal: *proposal, op_id: who.op_id, attempt, key, statements }
}

impl Intention {
    /// The booking that is intended, if it is one.
    pub fn proposal(&self) -> Option<&Proposal> {
        match &self.what {
            What::Booking(proposal) => Some(proposal),
            What::Scheduling(_) | What::Own(_) => None,
        }
    }

    /// What kind of operation it is.
    pub fn kind(&self) -> OperationKind {
        match &self.what {
            What::Booking(proposal) => proposal.kind,
            What::Scheduling(proposal) => proposal.kind(),
            What::Own(_) => OperationKind::Own,
        }
    }

    /// What it is done to, and how many units are asked for: an authorisation, or a programme, of which everybody wants one change.
    pub fn subject(&self) -> (i64, i32) {
        match &self.what {
            What::Booking(proposal) => (proposal.authorisation, proposal.units),
            What::Scheduling(proposal) => (proposal.programme, 1),
            What::Own(_) => (0, 0),
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

    /// Asks with a key.
    async fn ask(
        &self,
        connection: &mut Connection,
        statements: &KeyedStatements,
        proposal: &Proposal,
        who: Who,
        phase: &Phase,
    ) -> Attempt {
        let (Some(keys), Some((asking, _))) = (self.plan.keys, proposal.key) else {
            return Attempt::Failed(Failure::local(Abort::Other));
        };
        let Some(key) = Key::of(proposal, self.place.run, keys) else { return Attempt::Failed(Failure::local(Abort::Other)) };
        let hangs_up = (asking == Asking::HangUp || twin::forgets(self.plan.bug, who.op_id)) && who.unanswered == 0;
        if let Some(without_key) = statements.without_key.as_ref().filter(|_| who.unanswered > 0) {
            return self.book(connection, &booking(proposal, who, None, without_key), phase).await;
        }
        let level = self.strategy.isolation();
        let mut tx = match Tx::begin(connection, level, self.plan.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return Attempt::Failed(failure),
        };
        match statements.claim(&mut tx, proposal, &key).await {
            Ok(Claim::New) => {}
            Ok(Claim::Known { response, met }) => {
                return match tx.commit().await {
                    Ending::Committed => Attempt::Replayed { applied: response, met },
                    Ending::NotCommitted(failure) => Attempt::Failed(failure),
                    // It wrote nothing: whatever became of the COMMIT, it can be asked again.
                    Ending::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
                };
            }
            Ok(Claim::Mismatch) => return refused(tx, Refusal::KeyMismatch).await,
            Err(failure) => {
                tx.rollback().await;
                return Attempt::Failed(failure);
            }
        }
        if self.plan.bug == Some(Bug::ClaimApart) {
            // The bug: what happens between the two transactions leaves a key without an effect.
            tx.hold().await;
            match tx.commit().await {
                Ending::Committed => {}
                Ending::NotCommitted(failure) => return Attempt::Failed(failure),
                Ending::Unknown => return Attempt::Unknown,
            }
            if hangs_up {
                connection.hang_up();
                return Attempt::Unknown;
            }
            tx = match Tx::begin(connection, level, self.plan.hold, phase).await {
                Ok(tx) => tx,
                Err(failure) => return Attempt::Failed(failure),
            };
        }
        match self.strategy.apply(&mut tx, &booking(proposal, who, Some(&key), &statements.effect)).await {
            Ok(Decision::Applied(_)) if hangs_up => {
                tx.commit_and_hang_up().await;
                Attempt::Unknown
            }
            Ok(Decision::Applied(applied)) => applied_by(tx, applied).await,
            Ok(Decision::Refused(refusal)) if tx.has_failed() => {
                tx.rollback().await;
                Attempt::Refused(refusal)
            }
            Ok(Decision::Refused(refusal)) => match statements.give_up(&mut tx, proposal, &key).await {
                Ok(()) => refused(tx, refusal).await,
                Err(failure) => {
                    tx.rollback().await;
                    Attempt::Failed(failure)
                }
            },
            Err(failure) => {
                tx.rollback().await;
                Attempt::Failed(failure)
            }
        }
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
            Ok(Decision::Applied(_)) if twin::hangs_up(self.plan.bug, booking) => {
                tx.commit_and_hang_up().await;
                Attempt::Failed(Failure::local(Abort::ConnectionLost))
            }
            Ok(Decision::Applied(applied)) => applied_by(tx, applied).await,
            // The server refused the statement itself: nothing that was read can be committed, and nothing needs to be.
            Ok(Decision::Refused(refusal)) if tx.has_failed() => {
                tx.rollback().await;
                Attempt::Refused(refusal)
            }
            Ok(Decision::Refused(refusal)) => refused(tx, refusal).await,
            Err(failure) => {
                tx.rollback().await;
                Attempt::Failed(failure)
            }
        }
    }
}

/// What was written counts once its COMMIT was acknowledged.
pub(super) async fn applied_by(tx: Tx<'_>, applied: Applied) -> Attempt {
    match tx.commit().await {
        Ending::Committed => Attempt::Committed(applied),
        Ending::NotCommitted(failure) => Attempt::Failed(failure),
        Ending::Unknown => Attempt::Unknown,
    }
}

/// A refusal counts once its COMMIT succeeded: at SERIALIZABLE, a reader that is rolled back may have seen a state that never was.
pub(super) async fn refused(tx: Tx<'_>, refusal: Refusal) -> Attempt {
    match tx.commit().await {
        Ending::Committed => Attempt::Refused(refusal),
        Ending::NotCommitted(failure) => Attempt::Failed(failure),
        // It wrote nothing, so whatever became of the COMMIT, nothing was applied.
        Ending::Unknown => Attempt::Failed(Failure::local(Abort::ConnectionLost)),
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
    /// How connections speak to it, and what is between.
    pub manner: Manner,
    /// What they are opened for.
    pub work: Arc<Work>,
}

impl Opener {
    /// Connects, with the settings that the sessions of the load have, and prepares nothing.
    ///
    /// # Errors
    /// When it fails.
    pub async fn connect(&self, application_name: &str) -> Result<Connection> {
        let mut connection = self.another(application_name).await?;
        if let Work::Booking(work) = &*self.work
            && let Some(setting) = twin::session_setting(work.plan.bug)
        {
            connection.ask(setting).await?;
        }
        Ok(connection)
    }

    /// Connects, with the levels that its transactions name and no other settings.
    async fn another(&self, application_name: &str) -> Result<Connection> {
        Connection::open_in(self.manner.protocol, &self.options, application_name, &self.work.levels()).await
    }

    /// Opens one.
    ///
    /// # Errors
    /// When it fails, or the server refuses a statement.
    pub async fn open(&self, application_name: &str) -> Result<Session> {
        let mut connection = self.connect(application_name).await?;
        let prepared = self.work.prepare(&mut connection, self, application_name).await?;
        Ok(Session { connection, prepared })
    }
}
