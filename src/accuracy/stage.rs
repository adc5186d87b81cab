//! Who is at work at the same time? Validators on threads of their own, so that their processor time is theirs alone, and writers beside them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::cases::{self, Case, NAME};
use super::compare::Mistake;
use super::look::{Examined, Look, References, Snapshot};
use super::own::Desk;
use crate::acgme::Finding;
use crate::acgme::rules::RuleSet;
use crate::pg::ConnectOptions;
use crate::pg::admin::{Session, SqlError};
use crate::random::Random;
use crate::roster::Scope;
use crate::{Error, Result};

/// How long a writer pauses after each change: nobody changes a schedule faster, and tables are not to fill up with dead rows.
const PAUSE: Duration = Duration::from_millis(5);

/// Choices of writers are drawn from here.
const CHOICES: u64 = 7 << 32;

/// Where validators and writers meet.
pub struct Stage {
    /// How to get there.
    pub options: ConnectOptions,
    /// The sets of rules.
    pub sets: Vec<RuleSet>,
    /// When the phase began.
    pub began: Instant,
    stop: AtomicBool,
    commits: Mutex<Vec<Commit>>,
    toggled: Mutex<BTreeSet<i64>>,
    deadlocks: AtomicU64,
    errors: Mutex<Errors>,
}

/// A COMMIT of a writer.
#[derive(Debug, Clone, Copy)]
struct Commit {
    sent: Instant,
    answered: Instant,
    /// Whether a validation was reading all the while.
    is_seen: bool,
}

#[derive(Debug, Default)]
struct Errors {
    count: u64,
    first: Option<String>,
}

/// What writers have done.
#[derive(Debug, Clone, Default)]
pub struct Deeds {
    /// Transactions that were committed.
    pub commits: u64,
    /// Of these, sent and answered while a validation was reading.
    pub during: u64,
    /// Cases that were mended and planted again.
    pub toggled: u64,
    /// Transactions that were ended by a deadlock.
    pub deadlocks: u64,
    /// Other failures.
    pub errors: u64,
    /// What was said first.
    pub first_error: Option<String>,
}

/// What validators are compared with.
#[derive(Clone)]
pub enum Against {
    /// What was true before: nobody changes what they are about.
    Fixed(Arc<References>),
    /// What is true in the same snapshot, asked on a connection of its own.
    SameSnapshot,
}

/// A validation, examined.
pub struct Seen {
    /// When its snapshot was taken.
    pub since: Instant,
    /// When it had read everything.
    pub until: Instant,
    /// Its snapshot, as the server prints it.
    pub visible: String,
    /// What it took.
    pub look: Look,
    /// What the same took as SQL, if that was asked.
    pub sql: Option<Duration>,
    /// Planted cases that were mended.
    pub mended: Vec<String>,
    /// One for each set of rules.
    pub examined: Vec<Examined>,
}

/// What comes from the threads.
pub enum Message {
    /// A validation in a snapshot.
    Seen(Box<Seen>),
    /// A validation without one; what it got wrong, if anything, under which rules.
    Control(Option<(String, Mistake)>),
    /// Somebody could not go on.
    Failed(Error),
}

impl Stage {
    /// An empty one.
    pub fn new(options: &ConnectOptions, sets: &[RuleSet]) -> Arc<Self> {
        Arc::new(Self {
            options: options.clone(),
            sets: sets.to_vec(),
            began: Instant::now(),
            stop: AtomicBool::new(false),
            commits: Mutex::default(),
            toggled: Mutex::default(),
            deadlocks: AtomicU64::new(0),
            errors: Mutex::default(),
        })
    }

    /// Everybody ends what they are at, and goes.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether they have been told to.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether a COMMIT was sent and answered in that time; each of them is counted as seen from now on.
    pub fn meet(&self, since: Instant, until: Instant) -> bool {
        let mut commits = lock(&self.commits);
        let met = commits.iter_mut().filter(|commit| commit.sent >= since && commit.answered <= until);
        met.map(|commit| commit.is_seen = true).count() > 0
    }

    /// What writers have done so far.
    pub fn deeds(&self) -> Deeds {
        let (commits, errors) = (lock(&self.commits), lock(&self.errors));
        Deeds {
            commits: commits.len() as u64,
            during: commits.iter().filter(|commit| commit.is_seen).count() as u64,
            toggled: lock(&self.toggled).len() as u64,
            deadlocks: self.deadlocks.load(Ordering::Relaxed),
            errors: errors.count,
            first_error: errors.first.clone(),
        }
    }

    /// Makes a change in a transaction of its own, and whether that came to be.
    async fn change(&self, session: &mut Session, sql: &str) -> Result<bool, SqlError> {
        let begun = session.execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; {sql}")).await;
        let sent = Instant::now();
        let ended = match begun {
            Ok(_) => session.execute("COMMIT").await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(_) => {
                lock(&self.commits).push(Commit { sent, answered: Instant::now(), is_seen: false });
                Ok(true)
            }
            Err(error) => {
                if error.code.as_deref() == Some("40P01") {
                    self.deadlocks.fetch_add(1, Ordering::Relaxed);
                } else {
                    let mut errors = lock(&self.errors);
                    errors.count += 1;
                    errors.first.get_or_insert_with(|| error.to_string());
                }
                if error.is_lost_connection() {
                    return Err(error);
                }
                session.execute("ROLLBACK").await?;
                Ok(false)
            }
        }
    }

    /// Changes what is on a desk, until the end.
    ///
    /// # Errors
    /// The loss of the connection.
    pub async fn write_beside(self: Arc<Self>, writer: u64, desk: Desk) -> Result<()> {
        let mut session = Session::connect(&self.options, &format!("{NAME}writer {writer}")).await?;
        let mut random = Random::of(writer, CHOICES, 0);
        while !self.is_over() {
            self.change(&mut session, &desk.change(&mut random)).await?;
            tokio::time::sleep(PAUSE).await;
        }
        session.close().await;
        Ok(())
    }

    /// Mends and plants cases that nobody else does, in an order that changes, until the end. What is mended then stays so.
    ///
    /// # Errors
    /// The loss of the connection.
    pub async fn toggle(self: Arc<Self>, writer: u64, cases: Vec<Case>) -> Result<()> {
        let mut session = Session::connect(&self.options, &format!("{NAME}writer {writer}")).await?;
        let mut random = Random::of(writer, CHOICES, 1);
        let mut mended = BTreeSet::new();
        let mut order: Vec<&Case> = cases.iter().collect();
        while !self.is_over() {
            for last in (1..order.len()).rev() {
                order.swap(last, random.below(last as u64 + 1) as usize);
            }
            for case in &order {
                if self.is_over() {
                    break;
                }
                let is_mended = mended.contains(&case.plant);
                let sql = if is_mended { case.plant() } else { case.mend() };
                if self.change(&mut session, &sql).await? {
                    if is_mended {
                        mended.remove(&case.plant);
                        lock(&self.toggled).insert(case.plant);
                    } else {
                        mended.insert(case.plant);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        session.close().await;
        Ok(())
    }

    /// Starts a validator on a thread of its own, until the end, or for so many validations.
    pub fn validator(
        self: &Arc<Self>,
        number: u32,
        against: Against,
        most: Option<u32>,
        said: UnboundedSender<Message>,
    ) -> Result<JoinHandle<()>> {
        let stage = Arc::clone(self);
        on_a_thread(format!("validator {number}"), said.clone(), async move || stage.validate(number, against, most, &said).await)
    }

    /// Starts a validator that takes no snapshot on a thread of its own, until the end.
    pub fn control(self: &Arc<Self>, said: UnboundedSender<Message>) -> Result<JoinHandle<()>> {
        let stage = Arc::clone(self);
        on_a_thread("control".into(), said.clone(), async move || stage.mix(&said).await)
    }

    async fn validate(&self, number: u32, against: Against, most: Option<u32>, said: &UnboundedSender<Message>) -> Result<()> {
        let mut session = Session::connect(&self.options, &format!("{NAME}validator {number}")).await?;
        let mut other = match against {
            Against::Fixed(_) => None,
            Against::SameSnapshot => Some(Session::connect(&self.options, &format!("{NAME}truth {number}")).await?),
        };
        let mut validations = 0;
        while !self.is_over() && most.is_none_or(|most| validations < most) {
            let seen = match (&against, &mut other) {
                (Against::Fixed(references), _) => self.look(&mut session, references).await?,
                (Against::SameSnapshot, Some(other)) => self.look_twice(&mut session, other).await?,
                (Against::SameSnapshot, None) => return Ok(()),
            };
            validations += 1;
            if said.send(Message::Seen(Box::new(seen))).is_err() {
                return Ok(());
            }
        }
        session.close().await;
        if let Some(other) = other {
            other.close().await;
        }
        Ok(())
    }

    async fn look(&self, session: &mut Session, references: &References) -> Result<Seen> {
        let mut snapshot = Snapshot::begin(session).await?;
        let look = Look::take(snapshot.session(), &self.sets).await?;
        let (visible, since, until) = (snapshot.visible.clone(), snapshot.since, Instant::now());
        snapshot.end().await?;
        Ok(Seen::of(look, references, None, (visible, since, until)))
    }

    /// The rules on one connection, and what they are compared with on another, in one snapshot.
    async fn look_twice(&self, session: &mut Session, other: &mut Session) -> Result<Seen> {
        let mut snapshot = Snapshot::begin(session).await?;
        let name = snapshot.export().await?;
        let mut same = Snapshot::join(other, &name).await?;
        if same.visible != snapshot.visible {
            return Err(Error::inconclusive(format!(
                "two snapshots that should be one: {} and {}",
                snapshot.visible, same.visible
            )));
        }
        let look = Look::take(snapshot.session(), &self.sets).await?;
        let (visible, since, until) = (snapshot.visible.clone(), snapshot.since, Instant::now());
        let references = References::ask(same.session(), &self.sets).await?;
        same.end().await?;
        snapshot.end().await?;
        Ok(Seen::of(look, &references, Some(references.sql), (visible, since, until)))
    }

    /// Validates in several statements, each of which sees a state of its own. Wrong is only what was true neither before nor after: that the
    /// schedule has changed meanwhile is not the validator's fault.
    async fn mix(&self, said: &UnboundedSender<Message>) -> Result<()> {
        let mut session = Session::connect(&self.options, &format!("{NAME}control")).await?;
        session.execute("SET default_transaction_isolation = 'read committed'").await?;
        let scope = Scope::default();
        while !self.is_over() {
            let mut before = Vec::new();
            for set in &self.sets {
                before.push(cases::truth(&mut session, set.name, &scope).await?);
            }
            let look = Look::take(&mut session, &self.sets).await?;
            let mut wrong = None;
            for ((set, before), found) in self.sets.iter().zip(before).zip(&look.found) {
                let after = cases::truth(&mut session, set.name, &scope).await?.compare(found);
                let excused = before.compare(found);
                let is_wrong = |mistake: &&Mistake| excused.mistakes.iter().any(|other| other.about() == mistake.about());
                let mistake = after.mistakes.iter().find(is_wrong);
                wrong = wrong.or(mistake.map(|mistake| (set.name.to_owned(), mistake.clone())));
            }
            if said.send(Message::Control(wrong)).is_err() {
                return Ok(());
            }
        }
        session.close().await;
        Ok(())
    }
}

impl Seen {
    /// A validation, compared with what there should be.
    pub fn of(look: Look, references: &References, sql: Option<Duration>, when: (String, Instant, Instant)) -> Self {
        let (visible, since, until) = when;
        let examined = look.found.iter().zip(&references.of).map(|(found, reference)| Examined::of(found, reference)).collect();
        Self { since, until, visible, look, sql, mended: references.mended.clone(), examined }
    }

    /// The findings, for each set of rules.
    pub fn found(&self) -> &[Vec<Finding>] {
        &self.look.found
    }
}

/// Runs `work` to its end on a thread of its own, and says why if it fails.
fn on_a_thread<F: Future<Output = Result<()>>>(
    name: String,
    said: UnboundedSender<Message>,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<JoinHandle<()>> {
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(work()),
            Err(error) => Err(Error::inconclusive("the runtime cannot be made").because(error)),
        };
        if let Err(error) = ended {
            // Whoever would have listened has gone.
            let _ = said.send(Message::Failed(error));
        }
    };
    let started = std::thread::Builder::new().name(name).spawn(body);
    started.map_err(|error| Error::inconclusive("a thread cannot be started").because(error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
