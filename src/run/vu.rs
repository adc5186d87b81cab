//! One virtual user: takes an intention through attempts to an outcome, and writes down what it saw.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::drive::Everyone;
use super::own::Scratch;
use super::pool::Checkout;
use super::work::{Attempt, Intention, Session, What, Who};
use crate::history::{Applied, OpId, Record, Writer};
use crate::metrics::{Iteration, Recorder};
use crate::outcome::{Abort, Outcome};
use crate::pg::load::{Failure, Phase};
use crate::random::Random;
use crate::{Error, Result};

/// What the virtual users of one load thread share; nothing else does.
pub(super) struct Thread {
    pub recorder: RefCell<Recorder>,
    /// None where nothing could be audited.
    pub history: RefCell<Option<Writer>>,
    /// Virtual users at work.
    pub busy: Cell<u32>,
}

/// A virtual user.
pub(super) struct Vu {
    pub number: u16,
    thread: Rc<Thread>,
    /// Its own connection; none while it has none, and always none with a pool.
    session: Option<Box<Session>>,
    issued: u32,
    scratch: Scratch,
    jitter: Random,
    alarm: Alarm,
}

/// Stream of the pauses between the attempts of virtual user 0; those of the others follow.
const JITTER: u64 = 3 << 32;
/// An attempt that is let run past the deadline of its iteration gets at least this long.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

impl Vu {
    /// Connects and prepares, unless connections come from a pool.
    pub async fn open(number: u16, everyone: &Everyone, thread: Rc<Thread>) -> Result<Self> {
        // No iteration draws from this: how often is tried again must not change what is proposed.
        let jitter = Random::of(everyone.turn.plan.rng_seed, JITTER + u64::from(number), 0);
        let session = match &everyone.pool {
            Some(_) => None,
            None => Some(Box::new(everyone.opener.open(&name_of(everyone, number)).await?)),
        };
        Ok(Self { number, thread, session, issued: 0, scratch: Scratch::default(), jitter, alarm: Alarm::new() })
    }

    /// How many operations it has issued.
    pub fn issued(&self) -> u32 {
        self.issued
    }

    /// Carries an intention to an outcome, which is known at the time that comes with it. `scheduled` is when it should have started, and
    /// `started` when it does: now.
    ///
    /// # Errors
    /// When the history cannot be written: the run must end.
    pub async fn perform(
        &mut self,
        everyone: &Everyone,
        intention: &Intention,
        scheduled: Instant,
        started: Instant,
    ) -> Result<(Outcome, Instant)> {
        let n = self.issued;
        // Issued before anything is sent: a line in the ledger with a larger n belongs to nobody.
        self.issued += 1;
        self.thread.busy.update(|n| n + 1);
        let started_at = everyone.nanos(started);
        let scheduled = everyone.nanos(scheduled);
        let retry = everyone.turn.plan.retry;
        let op_id = OpId::new(everyone.turn.run, self.number, n);
        let mut attempts: u16 = 0;
        let mut conflicts: u8 = 0;
        let mut now = started;
        let (outcome, applied, phase) = loop {
            attempts = attempts.saturating_add(1);
            let phase = Phase::beginning(now);
            let deadline = (started + retry.deadline).max(now + LEAST_ATTEMPT).min(everyone.hard_stop());
            let attempt = self.attempt(everyone, intention, Who { op_id, attempt: attempts }, &phase, deadline).await;
            let (failure, may_retry) = match attempt {
                Attempt::Committed(applied) => break (Outcome::Committed, applied, phase),
                Attempt::Refused(refusal) => break (Outcome::Refused(refusal), Applied::default(), phase),
                Attempt::Unknown => {
                    self.session = None;
                    break (Outcome::Unknown, Applied::default(), phase);
                }
                Attempt::Failed(failure) => {
                    let may = failure.abort.is_retryable();
                    (failure, may)
                }
                Attempt::Again(failure) => (failure, true),
                Attempt::GivenUp(failure, words) => {
                    if let Some(words) = words {
                        self.thread.recorder.borrow_mut().remark(failure.abort.words(), || words);
                    }
                    (failure, false)
                }
            };
            conflicts = conflicts.saturating_add(u8::from(failure.abort.is_conflict()));
            if everyone.is_measured(scheduled) {
                let server = failure.server.as_ref().map(|e| (e.code, e.routine.as_str(), e.message.as_str()));
                self.thread.recorder.borrow_mut().failed_attempt(failure.abort, server);
            }
            if self.session.as_ref().is_some_and(|s| !s.connection.is_open()) {
                self.session = None;
            }
            let pause = may_retry.then(|| retry.pause(attempts, started.elapsed(), &mut self.jitter)).flatten();
            now = Instant::now();
            match pause.filter(|pause| now + *pause < everyone.hard_stop()) {
                Some(Duration::ZERO) => {}
                Some(pause) => {
                    tokio::time::sleep(pause).await;
                    now = Instant::now();
                }
                None => break (Outcome::Aborted(failure.abort), Applied::default(), phase),
            }
        };
        self.thread.busy.update(|n| n - 1);
        let ended = Instant::now();
        let finished = everyone.nanos(ended);
        let is_attack = matches!(&intention.what, What::Booking(proposal) if proposal.is_attack);
        let iteration = Iteration { outcome, attempts, is_attack, scheduled, started: started_at, finished };
        if everyone.is_measured(scheduled) {
            self.thread.recorder.borrow_mut().record(intention.operation, iteration);
        } else {
            self.thread.recorder.borrow_mut().warm_up();
        }
        if let (What::Booking(proposal), Some(history)) = (&intention.what, self.thread.history.borrow_mut().as_mut()) {
            let record = Record {
                n,
                vu: self.number,
                kind: proposal.kind,
                outcome,
                attempts,
                conflicts,
                is_attack,
                authorisation: proposal.authorisation,
                units: proposal.units,
                scheduled,
                started: started_at,
                last_attempt: phase.first_statement().map_or(started_at, |t| everyone.nanos(t)),
                commit_sent: phase.commit_sent().map_or(0, |t| everyone.nanos(t)),
                finished,
                applied,
            };
            history.append(&record).map_err(|e| {
                Error::inconclusive("the history cannot be written").because(e).cure("free space in the state directory")
            })?;
        }
        everyone.saw(outcome, applied, Duration::from_nanos(finished - started_at));
        Ok((outcome, ended))
    }

    async fn attempt(
        &mut self,
        everyone: &Everyone,
        intention: &Intention,
        who: Who,
        phase: &Phase,
        deadline: Instant,
    ) -> Attempt {
        let mut session = match self.session(everyone, phase, deadline).await {
            Ok(session) => session,
            Err(failed) => return failed,
        };
        let ended = {
            let Session { connection, prepared } = session.as_mut();
            let attempting = pin!(everyone.opener.work.attempt(connection, prepared, intention, who, &mut self.scratch, phase));
            self.alarm.within(deadline, attempting).await
        };
        match ended {
            Some(attempt) => {
                if let Checkout::Own(session) = session {
                    self.session = Some(session);
                }
                attempt
            }
            // Dropping the future cancels nothing on the server; the connection must not be used again.
            None => {
                session.into_inner().connection.discard().await;
                match phase.commit_sent() {
                    Some(_) => Attempt::Unknown,
                    None => Attempt::GivenUp(Failure::local(Abort::Deadline), None),
                }
            }
        }
    }

    /// A connection for one attempt: its own, or one of the pool's.
    async fn session(&mut self, everyone: &Everyone, phase: &Phase, deadline: Instant) -> Result<Checkout, Attempt> {
        if let Some(session) = self.session.take() {
            return Ok(Checkout::Own(session));
        }
        let opened = match &everyone.pool {
            Some(pool) => {
                let began = Instant::now();
                let checkout = self.alarm.within(deadline, pin!(pool.checkout())).await;
                self.thread.recorder.borrow_mut().wait(began.elapsed().as_nanos() as u64);
                phase.begins();
                checkout
            }
            None => {
                let name = name_of(everyone, self.number);
                let opened = self.alarm.within(deadline, pin!(everyone.opener.open(&name))).await;
                phase.begins();
                opened.map(|opened| opened.map(|session| Checkout::Own(Box::new(session))))
            }
        };
        // Never began.
        match opened {
            Some(Ok(session)) => Ok(session),
            Some(Err(_)) => Err(Attempt::Failed(Failure::local(Abort::ConnectionLost))),
            None if everyone.pool.is_some() => Err(Attempt::GivenUp(Failure::local(Abort::Deadline), None)),
            None => Err(Attempt::Failed(Failure::local(Abort::ConnectionLost))),
        }
    }
}

/// Its sessions in `pg_stat_activity`.
fn name_of(everyone: &Everyone, vu: u16) -> String {
    format!("{}/vu{vu}", everyone.application_name)
}

/// A deadline that costs next to nothing while it is kept: the timer is moved when it rings, not at every attempt.
struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    fn new() -> Self {
        Self(Box::pin(tokio::time::sleep(Duration::from_secs(3600))))
    }

    /// What the future comes to, or `None` at the deadline.
    async fn within<T>(&mut self, deadline: Instant, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let deadline = tokio::time::Instant::from_std(deadline);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            if self.0.deadline() > deadline {
                self.0.as_mut().reset(deadline);
            }
            while self.0.as_mut().poll(cx).is_ready() {
                if tokio::time::Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                // It was set for an earlier attempt.
                self.0.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_each_deadline_and_not_before() {
        let mut alarm = Alarm::new();
        let start = tokio::time::Instant::now();
        let never = std::future::pending::<()>;
        for seconds in [5, 20, 21, 60] {
            let deadline = start + Duration::from_secs(seconds);
            assert_eq!(alarm.within(deadline.into_std(), pin!(never())).await, None);
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
        let deadline = (start + Duration::from_secs(100)).into_std();
        assert_eq!(alarm.within(deadline, pin!(tokio::time::sleep(Duration::from_secs(1)))).await, Some(()));
        assert_eq!(start.elapsed().as_secs(), 61);
    }
}
