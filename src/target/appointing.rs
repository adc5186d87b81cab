//! How is an appointment made, cancelled or completed in SQL?

use std::cell::RefCell;
use std::time::Duration;

use super::{Attempt, Who, ended};
use crate::Result;
use crate::pg::load::{Connection, Isolation, Phase, Tx};
use crate::strategy::Strategy;
use crate::workload::appointment::{Appointing, Ask, Statements};
use crate::workload::booking::{Actor, Place};

/// Makes and ends appointments under one strategy.
#[derive(Debug, Clone)]
pub struct Appointer {
    /// How rows are protected.
    pub strategy: Strategy,
    /// Where they are.
    pub place: Place,
    /// The application's pause between reading and writing.
    pub hold: Duration,
}

impl Appointer {
    /// The isolation level that its transactions name.
    pub fn level(&self) -> Isolation {
        self.strategy.isolation()
    }

    /// Prepares its statements on a new connection.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(&self, connection: &mut Connection) -> Result<Statements> {
        Statements::prepare(connection, &self.place, self.strategy).await
    }

    /// Makes one attempt; with it comes the appointment as JSON, if it was written. That it has ended is [`crate::outcome::Refusal::AlreadySo`].
    pub async fn attempt(
        &self,
        connection: &mut Connection,
        statements: &Statements,
        ask: Ask,
        actor: Actor,
        who: Who,
        phase: &Phase,
    ) -> (Attempt, String) {
        let mut tx = match Tx::begin(connection, self.level(), self.hold, phase).await {
            Ok(tx) => tx,
            Err(failure) => return (Attempt::Failed(failure), String::new()),
        };
        let operation =
            Appointing { ask, actor, op_id: who.op_id, attempt: who.line(), statements, left: RefCell::new(String::new()) };
        let decided = self.strategy.apply(&mut tx, &operation).await;
        let left = operation.left.take();
        (ended(tx, decided).await, left)
    }
}
