//! One virtual user: takes an intention through attempts to an outcome, and writes down what it saw.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::alarm::{Alarm, Alarms};
use super::drive::Everyone;
use super::own::Scratch;
use super::pool::Checkout;
use super::session::Session;
use super::work::{Intention, Work};
use crate::contract::{MOST_ATTEMPTS, MOST_TRIES};
use crate::history::{Applied, OpId, Record, Writer};
use crate::metrics::{Iteration, Recorder};
use crate::outcome::{Abort, Certainty, Outcome, Signal, Sqlstate, certainty};
use crate::pg::load::{Failure, Phase};
use crate::pg::pool::Unavailable;
use crate::pg::retry::Retry;
use crate::random::Random;
use crate::target::http::Told;
use crate::target::{Attempt, Who};
use crate::{Error, Result};

/// What the virtual users of one load thread share; nothing else does.
pub(super) struct Thread {
    pub recorder: RefCell<Recorder>,
    /// None where nothing could be audited.
    pub history: RefCell<Option<Writer>>,
    /// Virtual users at work.
    pub busy: Cell<u32>,
    /// When attempts are given up.
    pub alarms: Alarms,
}

impl Thread {
    /// Counts an arrival that nobody took up.
    pub fn dropped(&self, is_measured: bool) {
        let mut recorder = self.recorder.borrow_mut();
        if is_measured { recorder.dropped() } else { recorder.warm_up() }
    }
}

/// A virtual user.
pub(super) struct Vu {
    pub number: u16,
    thread: Rc<Thread>,
    /// Its own connection; none while it has none, and always none with a pool.
    session: Option<Session>,
    issued: u32,
    scratch: Scratch,
    jitter: Random,
    alarm: Alarm,
    /// Connections that could not be opened since the last that could.
    knocks: u16,
    /// What the last answer over HTTP said besides.
    told: Option<Told>,
}

/// How far an iteration has come in attempts.
#[derive(Default)]
struct Attempts {
    /// Those of the virtual user.
    made: u16,
    /// Those of them that a server may have seen that makes attempts of its own.
    sent: u16,
    /// The number of the last one in the ledger.
    at: u16,
    /// BEGIN…COMMIT tries, whoever made them.
    tries: u16,
    /// Those that were turned down because of a concurrent transaction.
    conflicts: u8,
}

/// Stream of the pauses between the attempts of virtual user 0; those of the others follow.
const JITTER: u64 = 3 << 32;

impl Vu {
    /// Connects and prepares, unless connections come from a pool.
    pub async fn open(number: u16, everyone: &Everyone, thread: Rc<Thread>) -> Result<Self> {
        // No iteration draws from this: how often is tried again must not change what is proposed.
        let jitter = Random::of(everyone.turn.plan.rng_seed, JITTER + u64::from(number), 0);
        let alarm = thread.alarms.set_up();
        let session = match &everyone.pool {
            Some(_) => None,
            None => Some(open(everyone, &thread, number).await?),
        };
        Ok(Self { number, thread, session, issued: 0, scratch: Scratch::default(), jitter, alarm, knocks: 0, told: None })
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
        let is_measured = everyone.is_measured(scheduled);
        let is_keyed = intention.proposal().is_some_and(|proposal| proposal.key.is_some());
        let mut attempts = Attempts::default();
        let mut unanswered: u16 = 0;
        let mut first_commit = None;
        let mut now = started;
        let mut has_changed = false;
        let (outcome, applied, phase) = loop {
            attempts.made = attempts.made.saturating_add(1);
            let phase = Phase::beginning(now);
            let patience = match &*everyone.opener.work {
                // Each answer has its own time, and there are pauses between them.
                Work::Http(work) => work.patience(intention.operation).max(everyone.turn.patience),
                _ => everyone.turn.patience,
            };
            let deadline = (started + retry.deadline).max(now + patience);
            let is_http = everyone.turn.way.is_http();
            let who = Who { op_id, attempt: if is_http { attempts.sent + 1 } else { attempts.made }, unanswered };
            let attempt = self.attempt(everyone, intention, who, &phase, deadline, is_measured).await;
            let told = self.told.take();
            if is_http {
                attempts.were_told(phase.commit_sent().is_some(), told.as_ref());
                self.note(everyone, told.as_ref(), is_measured);
                self.note_checks(everyone, intention, is_measured);
            } else {
                attempts.at = attempts.made;
                attempts.tries = attempts.made;
            }
            if let Some(error) = phase.last_words().filter(|_| is_measured) {
                let said = (error.code, error.routine.as_str(), error.message.as_str());
                self.thread.recorder.borrow_mut().failed_attempt(Abort::from_sqlstate(error.code), Some(said));
            }
            let (failure, may_retry) = match attempt {
                Attempt::Committed(applied) => {
                    has_changed = true;
                    break (Outcome::Committed, applied, phase);
                }
                Attempt::Unchanged => break (Outcome::Committed, Applied::default(), phase),
                Attempt::RolledBack => break (Outcome::RolledBack, Applied::default(), phase),
                Attempt::Replayed { applied, met } => {
                    attempts.conflicts = attempts.conflicts.saturating_add(u8::from(met));
                    break (Outcome::Replayed, applied, phase);
                }
                Attempt::Refused(refusal) => break (Outcome::Refused(refusal), Applied::default(), phase),
                // Who has a key asks again; what was lost is then told.
                Attempt::Unknown if is_keyed => {
                    self.session = None;
                    unanswered += 1;
                    first_commit = first_commit.or(phase.commit_sent());
                    if is_measured {
                        self.thread.recorder.borrow_mut().unanswered();
                    }
                    (None, true)
                }
                Attempt::Unknown => {
                    self.session = None;
                    break (Outcome::Unknown, Applied::default(), phase);
                }
                Attempt::Failed(failure) => {
                    let may = failure.abort.is_retryable();
                    (Some(failure), may)
                }
                Attempt::Again(failure) => (Some(failure), true),
                Attempt::GivenUp(failure, words) => {
                    if failure.abort.is_of_the_test() && everyone.turn.plan.keeps_ledger() {
                        everyone.turned_away(failure.abort, || words.clone().unwrap_or_default());
                    }
                    if let Some(words) = words.filter(|_| is_measured) {
                        self.thread.recorder.borrow_mut().remark(failure.abort.words(), || words);
                    }
                    (Some(failure), false)
                }
            };
            attempts.conflicts =
                attempts.conflicts.saturating_add(u8::from(failure.as_ref().is_some_and(|f| f.abort.is_conflict())));
            if let Some(failure) = failure.as_ref().filter(|_| is_measured) {
                let server = failure.server.as_ref().map(|e| (e.code, e.routine.as_str(), e.message.as_str()));
                self.thread.recorder.borrow_mut().failed_attempt(failure.abort, server);
            }
            if self.session.as_ref().is_some_and(|s| !s.is_open()) {
                self.session = None;
            }
            now = Instant::now();
            // What the ledger cannot tell apart any more is not tried.
            let may_retry = may_retry && attempts.sent < MOST_TRIES;
            let pause = may_retry.then(|| retry.pause(attempts.made, now - started, &mut self.jitter)).flatten();
            let wanted = told.and_then(|told| told.retry_after).unwrap_or_default();
            let pause = pause.map(|pause| pause.max(wanted).min(retry.deadline.saturating_sub(now - started)));
            let pause = match self.knocks {
                0 => pause,
                // Nobody let it in, which may take a while to change.
                times => pause.map(|pause| {
                    pause.max(Retry::knock(times, &mut self.jitter)).min(retry.deadline.saturating_sub(now - started))
                }),
            };
            match pause.filter(|pause| now + *pause < everyone.hard_stop()) {
                Some(Duration::ZERO) => {}
                Some(pause) => {
                    tokio::time::sleep(pause).await;
                    now = Instant::now();
                }
                None => {
                    let outcome = match failure {
                        // An attempt that was not answered may have committed, whatever became of those after it.
                        Some(failure) if unanswered == 0 => Outcome::Aborted(failure.abort),
                        _ => Outcome::Unknown,
                    };
                    break (outcome, Applied::default(), phase);
                }
            }
        };
        self.thread.busy.update(|n| n - 1);
        let ended = Instant::now();
        let finished = everyone.nanos(ended);
        let is_attack = intention.proposal().is_some_and(|proposal| proposal.is_attack);
        let iteration =
            Iteration { outcome, attempts: attempts.tries, is_attack, has_changed, scheduled, started: started_at, finished };
        if is_measured {
            self.thread.recorder.borrow_mut().record(intention.operation, iteration);
        } else {
            self.thread.recorder.borrow_mut().warm_up();
        }
        if let Some(history) = self.thread.history.borrow_mut().as_mut() {
            let (authorisation, units) = intention.subject();
            let record = Record {
                n,
                vu: self.number,
                kind: intention.kind(),
                asking: intention.asking(),
                outcome,
                attempts: attempts.at,
                conflicts: attempts.conflicts,
                is_attack,
                authorisation,
                units,
                scheduled,
                started: started_at,
                last_attempt: phase.first_statement().map_or(started_at, |t| everyone.nanos(t)),
                // What was never answered may have been in force since the first of its COMMITs.
                commit_sent: first_commit
                    .filter(|_| outcome == Outcome::Unknown)
                    .or(phase.commit_sent())
                    .map_or(0, |t| everyone.nanos(t)),
                finished,
                applied,
                began: phase.begun(),
            };
            history.append(&record).map_err(|e| {
                Error::inconclusive("the history cannot be written").because(e).cure("free space in the state directory")
            })?;
        }
        everyone.saw(outcome, applied, Duration::from_nanos(finished - started_at), self.knocks == 0);
        Ok((outcome, ended))
    }

    /// Writes down what an attempt at an API had to say besides how it ended.
    fn note_checks(&mut self, everyone: &Everyone, intention: &Intention, is_measured: bool) {
        let Work::Http(work) = &*everyone.opener.work else { return };
        let mut recorder = self.thread.recorder.borrow_mut();
        for (call, check, held) in self.scratch.notes.checks.drain(..).filter(|_| is_measured) {
            if let Some((operation, name)) = work.check(intention.operation, call, check) {
                recorder.checked(operation, name, held);
            }
        }
        if let Some(words) = self.scratch.notes.unknown.take().filter(|_| is_measured) {
            recorder.remark("unknown outcome", || words);
        }
        if let Some((abort, words)) = self.scratch.notes.surprise.take() {
            everyone.turned_away(abort, || words);
        }
    }

    /// Writes down what an answer said of the server's own attempts, and of itself.
    fn note(&self, everyone: &Everyone, told: Option<&Told>, is_measured: bool) {
        let Some(told) = told else { return };
        if let Some(wrong) = &told.wrong {
            everyone.wrong_answer(wrong.clone());
        }
        if !is_measured {
            return;
        }
        let mut recorder = self.thread.recorder.borrow_mut();
        for failed in &told.failed {
            // Of some, the word is the server's code.
            let code = failed.abort.short();
            let routine = failed.routine.as_deref().filter(|_| code.starts_with(|c: char| c.is_ascii_digit()));
            let server = routine.map(|routine| (Sqlstate::new(code), routine, "told by the API"));
            for _ in 0..failed.times.min(MOST_ATTEMPTS.into()) {
                recorder.failed_attempt(failed.abort, server);
            }
        }
    }

    async fn attempt(
        &mut self,
        everyone: &Everyone,
        intention: &Intention,
        who: Who,
        phase: &Phase,
        deadline: Instant,
        is_measured: bool,
    ) -> Attempt {
        let mut session = match self.session(everyone, phase, deadline, is_measured).await {
            Ok(session) => session,
            Err(failed) => return failed,
        };
        let ended = {
            let work = &everyone.opener.work;
            let attempting = pin!(session.as_mut().attempt(work, intention, who, &mut self.scratch, phase));
            self.alarm.within(deadline, attempting).await
        };
        self.told = session.as_mut().told();
        for took in session.as_mut().reconnected() {
            self.thread.recorder.borrow_mut().connected(took.as_nanos() as u64);
        }
        match ended {
            Some(attempt) => {
                if let Checkout::Own(session) = session {
                    self.session = Some(session);
                }
                attempt
            }
            // Dropping the future cancels nothing on the server; the connection must not be used again.
            None => {
                session.discard().await;
                match certainty(phase.stage(), Signal::Silence) {
                    Certainty::NotApplied => Attempt::GivenUp(Failure::local(Abort::Deadline), None),
                    Certainty::Applied | Certainty::Unknown => {
                        // Who has a key asks again, and is then told.
                        if is_measured && intention.proposal().is_none_or(|proposal| proposal.key.is_none()) {
                            self.thread.recorder.borrow_mut().cut_off();
                        }
                        Attempt::Unknown
                    }
                }
            }
        }
    }

    /// A connection for one attempt: its own, or one of the pool's.
    async fn session(
        &mut self,
        everyone: &Everyone,
        phase: &Phase,
        deadline: Instant,
        is_measured: bool,
    ) -> Result<Checkout, Attempt> {
        if let Some(session) = self.session.take() {
            return Ok(Checkout::Own(session));
        }
        let opened = match &everyone.pool {
            Some(pool) => {
                let began = Instant::now();
                let checkout = self.alarm.within(deadline, pin!(pool.checkout(self.number.into()))).await;
                if is_measured {
                    self.thread.recorder.borrow_mut().wait(began.elapsed().as_nanos() as u64);
                }
                phase.begins();
                if let Some(Err(Unavailable::Timeout { .. })) = checkout {
                    // The server lets everybody in; it is the pool that does not.
                    return Err(Attempt::GivenUp(Failure::local(Abort::PoolTimeout), None));
                }
                checkout.map(|checkout| checkout.map(Checkout::Pooled).map_err(|_| ()))
            }
            None => {
                let opened = self.alarm.within(deadline, pin!(open(everyone, &self.thread, self.number))).await;
                phase.begins();
                opened.map(|opened| opened.map(Checkout::Own).map_err(|_| ()))
            }
        };
        if let Some(error) = everyone.turn.way.another_server() {
            everyone.fail(error);
            return Err(Attempt::GivenUp(Failure::local(Abort::ConnectionLost), None));
        }
        self.knocks = if matches!(opened, Some(Ok(_))) { 0 } else { self.knocks.saturating_add(1) };
        // Never began.
        match opened {
            Some(Ok(session)) => Ok(session),
            Some(Err(())) => Err(Attempt::Failed(Failure::local(Abort::ConnectionLost))),
            None if everyone.pool.is_some() => Err(Attempt::GivenUp(Failure::local(Abort::Deadline), None)),
            None => Err(Attempt::Failed(Failure::local(Abort::ConnectionLost))),
        }
    }
}

impl Attempts {
    /// Takes in what the last answer told of the server's attempts; if nothing was sent, there were none.
    fn were_told(&mut self, was_sent: bool, told: Option<&Told>) {
        self.tries = self.tries.saturating_add(told.map_or(0, |told| told.attempts).max(1));
        let conflicts = told.into_iter().flat_map(|told| &told.failed).filter(|failed| failed.abort.is_conflict());
        let conflicts: u32 = conflicts.map(|failed| failed.times).sum();
        self.conflicts = self.conflicts.saturating_add(u8::try_from(conflicts).unwrap_or(u8::MAX));
        if was_sent {
            // One that says nothing may have made as many as there can be.
            let last = told.map_or(0, |told| told.attempts);
            self.at = self.sent * MOST_ATTEMPTS + if last == 0 { MOST_ATTEMPTS } else { last.min(MOST_ATTEMPTS) };
            self.sent += 1;
        }
    }
}

/// Opens a session for the virtual user, and writes down how long that took if it is one of an API.
async fn open(everyone: &Everyone, thread: &Thread, vu: u16) -> Result<Session> {
    let began = Instant::now();
    let session = everyone.opener.open(&name_of(everyone, vu)).await?;
    if everyone.turn.way.is_http() {
        thread.recorder.borrow_mut().connected(began.elapsed().as_nanos() as u64);
    }
    Ok(session)
}

/// Its sessions in `pg_stat_activity`.
fn name_of(everyone: &Everyone, vu: u16) -> String {
    format!("{}/vu{vu}", everyone.application_name)
}
