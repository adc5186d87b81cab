//! How is a change of a schedule performed in SQL?

use std::time::Duration;

use super::{Attempt, Who, ended};
use crate::Result;
use crate::outcome::Abort;
use crate::pg::load::{Connection, Isolation, Phase, Tx};
use crate::strategy::Strategy;
use crate::workload::booking::Place;
use crate::workload::contest::Proposal;
use crate::workload::scheduling::{Scheduling, Statements};

/// Changes schedules under one strategy.
#[derive(Debug, Clone)]
pub struct Scheduler {
    /// How rows are protected.
    pub strategy: Strategy,
    /// Where they are.
    pub place: Place,
    /// The application's pause between reading and writing.
    pub hold: Duration,
}

impl Scheduler {
    /// The isolation level that its transactions name.
    pub fn level(&self) -> Isolation {
        self.strategy.isolation()
    }

    /// Prepares its statements on a new connection.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(&self, connection: &mut Connection) -> Result<Statements> {
        Statements::prepare(connection, &self.place).await
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
        let mut tx = match Tx::begin(connection, self.strategy.isolation(), self.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return Attempt::Failed(failure),
        };
        let operation = Scheduling { proposal: *proposal, op_id: who.op_id, attempt: who.line(), statements };
        let decided = self.strategy.apply(&mut tx, &operation).await;
        match ended(tx, decided).await {
            // Somebody has done the same meanwhile: whoever reads again is told that it is so already.
            Attempt::Failed(failure) if failure.abort == Abort::UniqueViolation => Attempt::Again(failure),
            attempt => attempt,
        }
    }
}
