//! One virtual user: takes an intention through attempts to an outcome, and writes down what it saw.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::ChaCha8Rng;

use super::drive::Shared;
use crate::history::{Applied, OpId, Record, Writer};
use crate::metrics::Recorder;
use crate::outcome::{Abort, Outcome, Refusal};
use crate::pg::load::{Connection, Ending, Failure, Phase, Tx};
use crate::strategy::Decision;
use crate::workload::booking::{Booking, Proposal, Statements};
use crate::{Error, Result};

/// What the virtual users of one load thread share; nothing else does.
pub(super) struct Thread {
    pub recorder: RefCell<Recorder>,
    pub history: RefCell<Writer>,
}

/// An open connection and what was prepared on it.
struct Session {
    connection: Connection,
    statements: Statements,
}

/// A virtual user.
pub(super) struct Vu {
    pub number: u16,
    pub rng: ChaCha8Rng,
    shared: Rc<Shared>,
    thread: Rc<Thread>,
    session: Option<Session>,
    issued: u32,
}

/// How one attempt ended.
enum Attempt {
    Committed(Applied),
    Refused(Refusal),
    Failed(Failure),
    Unknown,
}

/// An attempt that is let run past the deadline of its iteration gets at least this long.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

impl Vu {
    /// Connects and prepares.
    pub async fn open(number: u16, rng: ChaCha8Rng, shared: Rc<Shared>, thread: Rc<Thread>) -> Result<Self> {
        let mut vu = Self { number, rng, shared, thread, session: None, issued: 0 };
        vu.session = Some(vu.connect().await?);
        Ok(vu)
    }

    /// How many operations it has issued.
    pub fn issued(&self) -> u32 {
        self.issued
    }

    async fn connect(&self) -> Result<Session> {
        let shared = &self.shared;
        let name = format!("{}/vu{}", shared.application_name, self.number);
        let mut connection = Connection::open(&shared.options, &name, shared.strategy.isolation()).await?;
        let statements = Statements::prepare(&mut connection, &shared.place).await?;
        Ok(Session { connection, statements })
    }

    /// Carries a proposal to an outcome. `scheduled` is when it should have started, on the run's clock.
    ///
    /// # Errors
    /// When the history cannot be written: the run must end.
    pub async fn perform(&mut self, proposal: Proposal, scheduled: u64) -> Result<Record> {
        let n = self.issued;
        // Issued before anything is sent: a line in the ledger with a larger n belongs to nobody.
        self.issued += 1;
        let started = Instant::now();
        let retry = self.shared.plan.retry;
        let mut attempts: u16 = 0;
        let mut conflicts: u8 = 0;
        let (outcome, applied, phase) = loop {
            attempts = attempts.saturating_add(1);
            let phase = Phase::default();
            let left = retry.deadline.saturating_sub(started.elapsed()).max(LEAST_ATTEMPT);
            let attempt = self.attempt(proposal, n, attempts, &phase, left).await;
            let failure = match attempt {
                Attempt::Committed(applied) => break (Outcome::Committed, applied, phase),
                Attempt::Refused(refusal) => break (Outcome::Refused(refusal), Applied::default(), phase),
                Attempt::Unknown => {
                    self.session = None;
                    break (Outcome::Unknown, Applied::default(), phase);
                }
                Attempt::Failed(failure) => failure,
            };
            conflicts = conflicts.saturating_add(u8::from(failure.abort.is_conflict()));
            let server = failure.server.as_ref().map(|e| (e.code, e.routine.as_str()));
            self.thread.recorder.borrow_mut().failed_attempt(failure.abort, server);
            if self.session.as_ref().is_some_and(|s| !s.connection.is_open()) {
                self.session = None;
            }
            let pause = failure.abort.is_retryable().then(|| retry.pause(attempts, started.elapsed(), &mut self.rng)).flatten();
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break (Outcome::Aborted(failure.abort), Applied::default(), phase),
            }
        };
        let record = Record {
            n,
            vu: self.number,
            kind: proposal.kind,
            outcome,
            attempts,
            conflicts,
            is_attack: proposal.is_attack,
            authorisation: proposal.authorisation,
            units: proposal.units,
            scheduled,
            started: self.shared.nanos(started),
            last_attempt: self.shared.nanos(phase.first_statement().unwrap_or(started)),
            commit_sent: phase.commit_sent().map_or(0, |t| self.shared.nanos(t)),
            finished: self.shared.nanos(Instant::now()),
            applied,
        };
        self.thread.recorder.borrow_mut().record(&record);
        self.thread.history.borrow_mut().append(&record).map_err(|e| {
            Error::inconclusive("the history cannot be written").because(e).cure("free space in the state directory")
        })?;
        self.shared.saw(&record);
        Ok(record)
    }

    async fn attempt(&mut self, proposal: Proposal, n: u32, attempt: u16, phase: &Phase, left: Duration) -> Attempt {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => match tokio::time::timeout(left, self.connect()).await {
                Ok(Ok(session)) => session,
                // Never began.
                Ok(Err(_)) | Err(_) => return Attempt::Failed(Failure::local(Abort::ConnectionLost)),
            },
        };
        let booking = Booking {
            proposal,
            op_id: OpId::new(self.shared.place.run, self.number, n),
            // The ledger's column; a deadline of seconds allows far fewer.
            attempt: i16::try_from(attempt).unwrap_or(i16::MAX),
            statements: &session.statements,
        };
        match tokio::time::timeout(left, try_once(&self.shared, &mut session.connection, &booking, phase)).await {
            Ok(attempt) => {
                self.session = Some(session);
                attempt
            }
            // Dropping the future cancels nothing on the server; the connection must not be used again.
            Err(_) => {
                session.connection.discard().await;
                match phase.commit_sent() {
                    Some(_) => Attempt::Unknown,
                    None => Attempt::Failed(Failure::local(Abort::Deadline)),
                }
            }
        }
    }

    /// Says goodbye to the server.
    pub fn close(self) {
        // Dropping the connection says it.
        drop(self.session);
    }
}

async fn try_once(shared: &Shared, connection: &mut Connection, booking: &Booking<'_>, phase: &Phase) -> Attempt {
    let mut tx = match Tx::begin(connection, shared.plan.think, phase).await {
        Ok(tx) => tx,
        Err(failure) => return Attempt::Failed(failure),
    };
    match shared.strategy.apply(&mut tx, booking).await {
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
