//! How is a booking performed in SQL, with a key and without?

use std::time::Duration;

use super::{Attempt, Who, applied_by, ended, refused};
use crate::Result;
use crate::bug::Bug;
use crate::history::{Applied, Asking, OperationKind};
use crate::outcome::{Abort, Refusal};
use crate::pg::load::{Connection, Ending, Failure, Isolation, Phase, Tx};
use crate::strategy::{Decision, Operation as _, RowLock, Strategy};
use crate::workload::booking::{Booking, Place, Proposal, Statements};
use crate::workload::keyed::{Claim, Key, KeyedStatements, Keys};
use crate::workload::twin::{self, Nested};

/// Books units of authorisations under one strategy.
#[derive(Debug, Clone)]
pub struct Booker {
    /// How rows are protected.
    pub strategy: Strategy,
    /// Where they are.
    pub place: Place,
    /// The application's pause between reading and writing.
    pub hold: Duration,
    /// The mistake that is made on purpose, if one is.
    pub bug: Option<Bug>,
    /// What becomes of the keys that requests carry; `None`: they carry none.
    pub keys: Option<Keys>,
}

/// What was prepared on a connection.
pub enum Prepared {
    /// The statements of bookings.
    Plain(Box<Statements>),
    /// Those of bookings on a second connection: a mistake that is made on purpose.
    Nested(Box<Nested>),
    /// Those of bookings that are asked for with a key.
    Keyed(Box<KeyedStatements>),
}

impl Prepared {
    /// Whether it can be used again, as far as it has connections of its own.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Nested(nested) if !nested.is_open())
    }
}

impl Booker {
    /// The isolation levels that its transactions name.
    pub fn levels(&self) -> Vec<Isolation> {
        twin::levels(self.bug, self.strategy)
    }

    /// The key that a proposal is asked for with, where requests carry keys.
    pub fn key(&self, proposal: &Proposal) -> Option<Key> {
        Key::of(proposal, self.place.run, self.keys?)
    }

    /// Prepares its statements on a new connection. `another` opens a second one, which a mistake may need.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(
        &self,
        connection: &mut Connection,
        another: impl AsyncFnOnce() -> Result<Connection>,
    ) -> Result<Prepared> {
        let Self { strategy, place, hold, bug, keys } = self;
        Ok(match keys {
            Some(keys) => Prepared::Keyed(Box::new(KeyedStatements::prepare(connection, place, *keys, *bug).await?)),
            None if *bug == Some(Bug::NestedTransaction) => {
                let nested = Nested::open(another().await?, connection, place, *strategy, *hold);
                Prepared::Nested(Box::new(nested.await?))
            }
            None => Prepared::Plain(Box::new(Statements::prepare(connection, place, *bug, None).await?)),
        })
    }

    /// Makes one attempt; `key` is what it is asked for with, where requests carry keys.
    pub async fn attempt(
        &self,
        connection: &mut Connection,
        prepared: &mut Prepared,
        proposal: &Proposal,
        key: Option<&Key>,
        who: Who,
        phase: &Phase,
    ) -> Attempt {
        match prepared {
            Prepared::Plain(statements) => {
                let booking = booking(proposal, who, None, statements);
                let attempt = self.book(connection, &booking, phase).await;
                twin::afterwards(connection, &booking, matches!(attempt, Attempt::Committed(_))).await;
                attempt
            }
            Prepared::Nested(nested) => {
                match nested.book(connection, |statements| booking(proposal, who, None, statements), phase).await {
                    Ok(Decision::Applied(applied)) => Attempt::Committed(applied),
                    Ok(Decision::Refused(refusal)) => Attempt::Refused(refusal),
                    Err(Ending::NotCommitted(failure)) => Attempt::Failed(failure),
                    Err(Ending::Committed | Ending::Unknown) => Attempt::Unknown,
                }
            }
            Prepared::Keyed(statements) => match key {
                Some(key) => self.ask(connection, statements, proposal, key, who, phase).await,
                // Whoever prepares for keys asks with them.
                None => Attempt::Failed(Failure::local(Abort::Other)),
            },
        }
    }

    /// Asks with a key.
    async fn ask(
        &self,
        connection: &mut Connection,
        statements: &KeyedStatements,
        proposal: &Proposal,
        key: &Key,
        who: Who,
        phase: &Phase,
    ) -> Attempt {
        let is_hanging_up = matches!(proposal.key, Some((Asking::HangUp, _)));
        let hangs_up = (is_hanging_up || twin::forgets(self.bug, who.op_id)) && who.unanswered == 0;
        if let Some(without_key) = statements.without_key.as_ref().filter(|_| who.unanswered > 0) {
            return self.book(connection, &booking(proposal, who, None, without_key), phase).await;
        }
        let level = self.strategy.isolation();
        let mut tx = match Tx::begin(connection, level, self.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return Attempt::Failed(failure),
        };
        match statements.claim(&mut tx, proposal, key).await {
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
        if self.bug == Some(Bug::ClaimApart) {
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
            tx = match Tx::begin(connection, level, self.hold, phase).await {
                Ok(tx) => tx,
                Err(failure) => return Attempt::Failed(failure),
            };
        }
        match self.strategy.apply(&mut tx, &booking(proposal, who, Some(key), &statements.effect)).await {
            Ok(Decision::Applied(_)) if hangs_up => {
                tx.commit_and_hang_up().await;
                Attempt::Unknown
            }
            Ok(Decision::Applied(applied)) => applied_by(tx, applied).await,
            Ok(Decision::Refused(refusal)) if tx.has_failed() => {
                tx.rollback().await;
                Attempt::Refused(refusal)
            }
            Ok(Decision::Refused(refusal)) => match statements.give_up(&mut tx, proposal, key).await {
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
        let isolation = twin::isolation(self.bug, self.strategy, booking.op_id.vu());
        let mut tx = match Tx::begin(connection, isolation, self.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return Attempt::Failed(failure),
        };
        if booking.proposal.kind == OperationKind::Browse {
            return browse(tx, booking).await;
        }
        match twin::apply(self.bug, self.strategy, &mut tx, booking).await {
            Ok(Decision::Applied(_)) if twin::hangs_up(self.bug, booking) => {
                tx.commit_and_hang_up().await;
                Attempt::Failed(Failure::local(Abort::ConnectionLost))
            }
            decided => ended(tx, decided).await,
        }
    }
}

fn booking<'s>(proposal: &Proposal, who: Who, key: Option<&'s Key>, statements: &'s Statements) -> Booking<'s> {
    Booking { proposal: *proposal, op_id: who.op_id, attempt: who.line(), key, statements }
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
