//! The units change on a connection of their own, which commits by itself; the transaction around it does the rest and may still fail. When it is
//! tried again, the units change again.
//!
//! The rest is a note at the patient, who is the same for everybody at a clinic: at SERIALIZABLE, who comes second cannot write it (40001).

use std::time::{Duration, Instant};

use super::super::booking::{Booking, Place, Statements};
use crate::Result;
use crate::bug::Bug;
use crate::pg::load::{Connection, Ending, Phase, Statement, Tx};
use crate::strategy::{Decision, Strategy};

/// The second connection, and what is done on the first.
pub struct Nested {
    second: Connection,
    /// The statements of bookings, prepared on the second.
    statements: Statements,
    look: Statement,
    note: Statement,
    strategy: Strategy,
    hold: Duration,
}

impl Nested {
    /// Prepares both connections, of which `second` was opened as `first` was.
    ///
    /// # Errors
    /// When the server refuses a statement.
    pub async fn open(
        mut second: Connection,
        first: &mut Connection,
        place: &Place,
        strategy: Strategy,
        hold: Duration,
    ) -> Result<Self> {
        let patient = format!("SELECT patient_id FROM {}.authorisation WHERE id = $1", place.schema);
        let note =
            format!("UPDATE {}.patient SET medical_record_number = medical_record_number WHERE id = ({patient})", place.schema);
        let (look, note) = (first.prepare(&patient).await?, first.prepare(&note).await?);
        let statements = Statements::prepare(&mut second, place, Some(Bug::NestedTransaction), None).await?;
        Ok(Self { second, statements, look, note, strategy, hold })
    }

    /// Whether the second connection can be used again.
    pub fn is_open(&self) -> bool {
        self.second.is_open()
    }

    /// Makes one attempt at what `booking` makes of the statements; `phase` is told of the transaction that changes the units.
    ///
    /// # Errors
    /// How the attempt ended, if neither done nor refused.
    pub async fn book<'s>(
        &'s mut self,
        first: &mut Connection,
        booking: impl FnOnce(&'s Statements) -> Booking<'s>,
        phase: &Phase,
    ) -> Result<Decision, Ending> {
        let booking = booking(&self.statements);
        let id = booking.proposal.authorisation;
        let around = Phase::beginning(Instant::now());
        let mut outer = begin(first, self.strategy, Duration::ZERO, &around).await?;
        let looked = outer.execute(&self.look, |p| p.integer(id)).await.map_err(Ending::NotCommitted);
        let decided = match looked {
            Ok(_) => units(&mut self.second, self.strategy, self.hold, &booking, phase).await,
            Err(ending) => Err(ending),
        };
        let noted = match &decided {
            Ok(Decision::Applied(_)) => {
                outer.execute(&self.note, |p| p.integer(id)).await.map(|_| ()).map_err(Ending::NotCommitted)
            }
            Ok(Decision::Refused(_)) | Err(_) => Ok(()),
        };
        match noted.and(decided) {
            Ok(decision) => match outer.commit().await {
                Ending::Committed => Ok(decision),
                ending => Err(ending),
            },
            Err(ending) => {
                outer.rollback().await;
                Err(ending)
            }
        }
    }
}

/// Reserves, releases or consumes, in a transaction of its own.
async fn units(
    second: &mut Connection,
    strategy: Strategy,
    hold: Duration,
    booking: &Booking<'_>,
    phase: &Phase,
) -> Result<Decision, Ending> {
    let mut inner = begin(second, strategy, hold, phase).await?;
    match strategy.apply(&mut inner, booking).await {
        Ok(decision) => match inner.commit().await {
            Ending::Committed => Ok(decision),
            ending => Err(ending),
        },
        Err(failure) => {
            inner.rollback().await;
            Err(Ending::NotCommitted(failure))
        }
    }
}

async fn begin<'c>(connection: &'c mut Connection, strategy: Strategy, hold: Duration, phase: &'c Phase) -> Result<Tx<'c>, Ending> {
    Tx::begin(connection, strategy.isolation(), hold, phase).await.map_err(Ending::NotCommitted)
}
