//! How does an order become an answer? Attempts, until one of them says what is so; then never another.
//!
//! An attempt that certainly came to nothing is made again where its reason is one that passes. One whose COMMIT was not answered is not: it
//! may have been done, and who asked is told that nobody knows.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use super::floor::{Floor, OWN_SCHEMA, Prepared, Session, Setup, What};
use super::look::{self, Look};
use super::{Ask, Caller, Done, Grant, Order, Reply, compliance};
use crate::bug::Bug;
use crate::contract::MOST_ATTEMPTS;
use crate::history::{Applied, OpId};
use crate::outcome::{Abort, Refusal, Stage};
use crate::pg::load::{Failure, Parameters, Phase};
use crate::pg::retry::Retry;
use crate::random::Random;
use crate::target::view::View;
use crate::target::{Attempt, Who};
use crate::workload::booking::{Actor, Proposal};
use crate::workload::keyed::Key;
use crate::workload::{appointment, contest};

/// An attempt that is let run past the deadline of its request gets at least this long.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);
/// One in so many of what is said to be done is rolled back: a mistake that is made on purpose.
const FORGOTTEN: u64 = 16;
/// Every so many lists are shown for whoever asked before: a mistake that is made on purpose.
const LEFT_BEHIND: u32 = 7;
/// Stream of what is forgotten.
const FORGETS: u64 = 7 << 32;

/// What is to be performed.
struct Job {
    who: Caller,
    work: Work,
}

/// What is done in an attempt.
enum Work {
    Book(Setup, Proposal, Option<Key>),
    Change(Setup, contest::Proposal),
    Appoint(Setup, appointment::Ask),
    See(View, Option<i64>),
    Grant(String),
    Account(String),
}

/// How an attempt ended.
enum Step {
    Done(Done),
    /// The key was known, and the one that it was known by was under way.
    Met(Done),
    /// Certainly nothing came of it; and whether it is worth another.
    Failed(Failure, bool),
    Unknown,
}

impl From<Failure> for Step {
    fn from(failure: Failure) -> Self {
        let may = failure.abort.is_retryable() && failure.abort != Abort::KeyInFlight;
        Self::Failed(failure, may)
    }
}

/// Has an order performed.
pub(super) async fn perform(floor: Rc<Floor>, order: Order) -> Reply {
    let Order { ask, who, grant, operation, deadline } = order;
    if let Ask::View(View::Compliance(days)) = ask {
        return Reply::of(compliance::look(&floor, seen_by(&floor, who, false), days, deadline).await);
    }
    let (op_id, tries) = operation.unwrap_or_else(|| (floor.operation(), 1));
    let Some(job) = Job::new(&floor, ask, who, grant.as_deref(), op_id) else {
        return Reply::of(Done::Refused(Refusal::NotFound));
    };
    let mut reply = Reply::of(Done::Unavailable);
    reply.operation = job.setup().map(|_| op_id);
    let Some(_seat) = floor.seat(deadline).await else { return reply };
    let mut session = None;
    reply.done = attempts(&floor, &job, (op_id, tries), deadline, &mut session, &mut reply).await;
    if let Some(session) = session {
        floor.back(session);
    }
    reply
}

/// Makes attempts until there is nothing more to be done; leaves the session, if it can be used again.
async fn attempts(
    floor: &Floor,
    job: &Job,
    (op_id, tries): (OpId, u16),
    deadline: Instant,
    session: &mut Option<Session>,
    reply: &mut Reply,
) -> Done {
    let settings = &floor.settings;
    let started = Instant::now();
    let retry = Retry { deadline: deadline.saturating_duration_since(started), ..settings.retry };
    let earlier = tries.saturating_sub(1).saturating_mul(MOST_ATTEMPTS);
    let (mut knocks, mut unanswered) = (0_u16, 0);
    loop {
        let mut at = match session.take() {
            Some(session) => session,
            None => match timeout_at(deadline.into(), floor.session(job.setup())).await {
                Ok(Ok(session)) => session,
                Ok(Err(_)) => {
                    knocks = knocks.saturating_add(1);
                    let pause = Retry::knock(knocks, &mut *floor.jitter.borrow_mut());
                    if Instant::now() + pause >= deadline {
                        return not_done(Abort::ConnectionLost, unanswered);
                    }
                    sleep(pause).await;
                    continue;
                }
                Err(_) => return not_done(Abort::ConnectionLost, unanswered),
            },
        };
        knocks = 0;
        reply.attempts += 1;
        let now = Instant::now();
        let phase = Phase::beginning(now);
        if settings.mistakes.ok_before_commit && Random::of(op_id.0.unsigned_abs(), FORGETS, 0).below(FORGOTTEN) == 0 {
            phase.forgets();
        }
        let who = Who { op_id, attempt: earlier.saturating_add(reply.attempts), unanswered };
        let ended = timeout_at(deadline.max(now + LEAST_ATTEMPT).into(), job.attempt(floor, &mut at, who, &phase)).await;
        reply.began = phase.begun();
        let step = match (ended, phase.stage()) {
            (Ok(step), _) => {
                if at.is_open() {
                    *session = Some(at);
                }
                step
            }
            // Nobody waits for the cancellation: whatever it comes to, the attempt has ended as it has.
            (Err(_), stage) => {
                tokio::task::spawn_local(at.discard());
                match stage {
                    Stage::Before => Step::Failed(Failure::local(Abort::Deadline), false),
                    Stage::Commit | Stage::Alone => Step::Unknown,
                }
            }
        };
        let failure = match step {
            Step::Done(done) => return done,
            Step::Met(done) => {
                reply.met = true;
                return done;
            }
            Step::Failed(failure, true) => failure,
            Step::Failed(failure, false) => {
                return match failure.abort {
                    Abort::KeyInFlight => Done::InFlight,
                    Abort::Deadline => not_done(Abort::Deadline, unanswered),
                    abort => Done::Failed(abort),
                };
            }
            // The mistake: it is asked again, and without the key that would tell.
            Step::Unknown if job.asks_again() => {
                *session = None;
                unanswered += 1;
                Failure::local(Abort::ConnectionLost)
            }
            Step::Unknown => {
                *session = None;
                return Done::Unknown;
            }
        };
        let pause = match reply.attempts {
            MOST_ATTEMPTS.. => None,
            made => retry.pause(made, started.elapsed(), &mut *floor.jitter.borrow_mut()),
        };
        let Some(pause) = pause.filter(|pause| Instant::now() + *pause < deadline) else {
            return not_done(failure.abort, unanswered);
        };
        let how = (failure.abort, failure.server.map(|server| server.routine));
        match reply.failed.iter_mut().find(|(known, _)| *known == how) {
            Some((_, times)) => *times += 1,
            None => reply.failed.push((how, 1)),
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

/// What is said when no attempt is left.
fn not_done(abort: Abort, unanswered: u16) -> Done {
    match abort {
        // One that was not answered may have been done, whatever became of those after it.
        _ if unanswered > 0 => Done::Unknown,
        Abort::ConnectionLost | Abort::TooManyConnections | Abort::Deadline => Done::Unavailable,
        abort => Done::Spent(abort),
    }
}

/// For whom a view is shown.
fn seen_by(floor: &Floor, who: Caller, is_list: bool) -> Option<i64> {
    let mistakes = floor.settings.mistakes;
    if mistakes.no_tenant_check {
        return None;
    }
    if !(mistakes.tenant_left_behind && is_list) {
        return who.organisation;
    }
    let (lists, before) = floor.lists.get();
    floor.lists.set((lists.wrapping_add(1), who.organisation));
    if lists % LEFT_BEHIND == LEFT_BEHIND - 1 { before } else { who.organisation }
}

impl Job {
    /// What an order comes to; `None` if there is no such thing.
    fn new(floor: &Floor, ask: Ask, who: Caller, grant: Option<&Grant>, op_id: OpId) -> Option<Self> {
        let setup = |what| Setup::new(&floor.settings, grant, op_id.run(), what);
        let work = match ask {
            Ask::Book { kind, units, authorisation, key } => {
                let actor = Actor { id: who.actor, organisation: who.organisation.unwrap_or_default() };
                let proposal = Proposal { kind, units, authorisation, actor, is_attack: false, key: None };
                let key = key.map(|(text, later)| Key::new(text, kind, units, later));
                Work::Book(setup(What::Booking { is_keyed: key.is_some() }), proposal, key)
            }
            Ask::Change(proposal) => Work::Change(setup(What::Scheduling), proposal),
            Ask::Appoint(ask) => {
                let setup = setup(What::Appointing);
                // Controls have no appointments.
                if setup.schema != OWN_SCHEMA {
                    return None;
                }
                Work::Appoint(setup, ask)
            }
            Ask::View(view) => Work::See(view, seen_by(floor, who, view.is_list())),
            Ask::Grant(digest) => Work::Grant(digest),
            Ask::Account(login) => Work::Account(login),
        };
        Some(Self { who, work })
    }

    /// What has to be prepared for it; `None` if it changes nothing.
    fn setup(&self) -> Option<&Setup> {
        match &self.work {
            Work::Book(setup, ..) | Work::Change(setup, _) | Work::Appoint(setup, _) => Some(setup),
            Work::See(..) | Work::Grant(_) | Work::Account(_) => None,
        }
    }

    /// Whether it is asked again although it may have been done.
    fn asks_again(&self) -> bool {
        matches!(&self.work, Work::Book(setup, _, Some(_)) if setup.bug() == Some(Bug::NoKey))
    }

    async fn attempt(&self, floor: &Floor, session: &mut Session, who: Who, phase: &Phase) -> Step {
        self.make(floor, session, who, phase).await.unwrap_or_else(Step::from)
    }

    async fn make(&self, floor: &Floor, session: &mut Session, who: Who, phase: &Phase) -> Result<Step, Failure> {
        match &self.work {
            Work::Book(setup, proposal, key) => {
                let home = Look::OfAuthorisation(setup.schema);
                let Some(actor) = self.actor(floor, session, home, proposal.authorisation).await? else { return Ok(NOT_FOUND) };
                let proposal = Proposal { actor, ..*proposal };
                let (connection, Prepared::Booking(booker, prepared)) = session.prepared(floor, setup).await? else {
                    return Ok(IMPOSSIBLE);
                };
                let attempt = booker.attempt(connection, prepared, &proposal, key.as_ref(), who, phase).await;
                Ok(step(attempt, Done::Booked))
            }
            Work::Change(setup, proposal) => {
                let is_checked = !floor.settings.mistakes.no_tenant_check;
                if is_checked && self.who.organisation.is_some_and(|own| own != proposal.programme) {
                    return Ok(Step::Done(Done::Refused(Refusal::WrongOrganisation)));
                }
                match look::check(session, setup.schema, proposal).await? {
                    Some(Refusal::WrongOrganisation) if !is_checked => {}
                    Some(refusal) => return Ok(Step::Done(Done::Refused(refusal))),
                    None => {}
                }
                let (connection, Prepared::Scheduling(scheduler, statements)) = session.prepared(floor, setup).await? else {
                    return Ok(IMPOSSIBLE);
                };
                let attempt = scheduler.attempt(connection, statements, proposal, who, phase).await;
                Ok(step(attempt, |_| Done::Changed))
            }
            Work::Appoint(setup, ask) => {
                let (home, id) = match *ask {
                    appointment::Ask::Create { authorisation, .. } => (Look::OfAuthorisation(setup.schema), authorisation),
                    appointment::Ask::Cancel(id) | appointment::Ask::Complete(id) => (Look::OfAppointment, id),
                };
                let Some(actor) = self.actor(floor, session, home, id).await? else { return Ok(NOT_FOUND) };
                let (connection, Prepared::Appointing(appointer, statements)) = session.prepared(floor, setup).await? else {
                    return Ok(IMPOSSIBLE);
                };
                let (attempt, left) = appointer.attempt(connection, statements, *ask, actor, who, phase).await;
                Ok(match attempt {
                    Attempt::Refused(Refusal::AlreadySo) => Step::Done(Done::NotLive),
                    attempt => step(attempt, |_| Done::Appointment(left)),
                })
            }
            Work::See(view, organisation) => {
                let Some(form) = view.form(*organisation) else { return Ok(IMPOSSIBLE) };
                let fill = |p: &mut Parameters<'_>| view.fill(*organisation, p);
                let seen = session.look(Look::View(form), fill, |values| values.next().flatten().map(str::to_owned)).await?;
                Ok(seen.flatten().map_or(NOT_FOUND, |seen| Step::Done(Done::Seen(seen))))
            }
            Work::Grant(digest) => {
                let grant = look::grant(session, &floor.settings, digest).await?;
                Ok(Step::Done(Done::Granted(grant)))
            }
            Work::Account(login) => Ok(Step::Done(Done::Account(look::account(session, login).await?))),
        }
    }

    /// Who acts: for whoever belongs to no organisation, as one of whose it is; `None` if that is not there.
    async fn actor(&self, floor: &Floor, session: &mut Session, home: Look, id: i64) -> Result<Option<Actor>, Failure> {
        let own = self.who.organisation.filter(|_| !floor.settings.mistakes.no_tenant_check);
        let organisation = match own {
            Some(own) => Some(own),
            None => look::number(session, home, id).await?,
        };
        Ok(organisation.map(|organisation| Actor { id: self.who.actor, organisation }))
    }
}

const NOT_FOUND: Step = Step::Done(Done::Refused(Refusal::NotFound));
/// What is prepared is of the kind that is asked for.
const IMPOSSIBLE: Step = Step::Failed(Failure { abort: Abort::Other, server: None }, false);

/// How an attempt ended, as it is told.
fn step(attempt: Attempt, done: impl FnOnce(Applied) -> Done) -> Step {
    match attempt {
        Attempt::Committed(applied) => Step::Done(done(applied)),
        Attempt::Replayed { applied, met: true } => Step::Met(Done::Replayed(applied)),
        Attempt::Replayed { applied, met: false } => Step::Done(Done::Replayed(applied)),
        Attempt::Refused(refusal) => Step::Done(Done::Refused(refusal)),
        Attempt::Failed(failure) => failure.into(),
        Attempt::Again(failure) => Step::Failed(failure, true),
        Attempt::GivenUp(failure, _) => Step::Failed(failure, false),
        Attempt::Unknown => Step::Unknown,
        // Only operations of a user's own end so.
        Attempt::Unchanged | Attempt::RolledBack => IMPOSSIBLE,
    }
}
