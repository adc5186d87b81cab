//! The load itself: threads, virtual users, rounds, and how they stop.
//!
//! Each load thread has a runtime of its own and owns its virtual users, connections, histograms and history; nothing crosses threads on the
//! path of an iteration but the start of a round and its end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::{SeedableRng, rngs::ChaCha8Rng};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::stock::{Clinic, Stock};
use super::vu::{Thread, Vu};
use crate::history::{OperationKind, Record, Writer};
use crate::metrics::Recorder;
use crate::outcome::{Abort, Outcome, OutcomeClass, Refusal};
use crate::pg::ConnectOptions;
use crate::plan::{Limit, Mode, Plan};
use crate::strategy::Strategy;
use crate::workload::booking::{Actor, Place, Proposal, churn};
use crate::{Error, Result};

/// Connections opened at the same time, so that a server is not greeted by hundreds at once.
const OPENING: usize = 16;
/// Value of the round counter before the first round, and after the last.
const BEFORE: u64 = 0;
const OVER: u64 = u64::MAX;

/// What one strategy's turn is made of.
pub struct Turn {
    /// The plan it belongs to.
    pub plan: Plan,
    /// Which strategy.
    pub strategy: Strategy,
    /// Where its rows are.
    pub place: Place,
    /// The server.
    pub options: ConnectOptions,
    /// Whose authorisations, and who acts.
    pub clinics: Vec<Clinic>,
    /// When it must end at the latest.
    pub limit: Limit,
    /// Whether it ends with the first breach that a client sees: a control has nothing more to show.
    pub until_breach: bool,
    /// Folder for the history files.
    pub directory: PathBuf,
    /// Begins their names.
    pub label: String,
    /// Set when the user wants to stop; the round is finished first.
    pub interrupt: watch::Receiver<bool>,
}

/// What a turn left behind.
pub struct Driven {
    /// Measurements of all threads.
    pub recorder: Recorder,
    /// History files, one per load thread.
    pub histories: Vec<PathBuf>,
    /// Operations issued, by VU.
    pub issued: HashMap<u16, u32>,
    /// From the first release to the last answer.
    pub elapsed: Duration,
    /// Rounds, or authorisations used by churn.
    pub used: u64,
    /// The user stopped it.
    pub interrupted: bool,
    /// Why it ended before its time, if it did.
    pub failure: Option<Error>,
}

/// Counters for the progress line; written by one thread each, read now and then.
#[derive(Debug, Default)]
pub struct Progress {
    /// Iterations that committed.
    pub committed: AtomicU64,
    /// Iterations that were refused.
    pub refused: AtomicU64,
    /// Iterations that ended otherwise.
    pub other: AtomicU64,
}

/// Everything that the virtual users of all threads see.
pub(super) struct Everyone {
    turn: Turn,
    base: i64,
    epoch: Instant,
    /// [`BEFORE`], then 1 for the first round and so on, then [`OVER`].
    round: watch::Sender<u64>,
    /// When the present round was released, nanoseconds since the epoch.
    released: AtomicU64,
    /// When the first round was released, nanoseconds since the epoch.
    first_released: AtomicU64,
    /// VUs that have not finished the round.
    playing: AtomicU32,
    /// VUs that have won the present round.
    winners: AtomicU32,
    /// VUs that are not ready yet.
    preparing: AtomicU32,
    /// How far the load has come in the stock.
    position: watch::Sender<u64>,
    available: watch::Receiver<u64>,
    stopping: AtomicBool,
    breach: AtomicBool,
    failure: std::sync::Mutex<Option<Error>>,
    progress: Arc<Progress>,
    openings: Semaphore,
    ends: std::sync::OnceLock<Instant>,
}

/// A virtual user's view: the shared state, and shortcuts into it.
pub(super) struct Shared {
    everyone: Arc<Everyone>,
    pub application_name: String,
}

impl std::ops::Deref for Shared {
    type Target = Turn;

    fn deref(&self) -> &Turn {
        &self.everyone.turn
    }
}

impl Shared {
    /// On the run's clock.
    pub fn nanos(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.everyone.epoch).as_nanos() as u64
    }

    /// Takes note of a finished iteration.
    pub fn saw(&self, record: &Record) {
        let progress = &self.everyone.progress;
        match record.outcome.class() {
            OutcomeClass::Committed => progress.committed.fetch_add(1, Ordering::Relaxed),
            OutcomeClass::Refused => progress.refused.fetch_add(1, Ordering::Relaxed),
            _ => progress.other.fetch_add(1, Ordering::Relaxed),
        };
        if record.outcome == Outcome::Committed && record.applied.is_overbooked() {
            self.everyone.breach.store(true, Ordering::Relaxed);
        }
        let took = Duration::from_nanos(record.finished.saturating_sub(record.started));
        if record.outcome == Outcome::Aborted(Abort::ConnectionLost) && took >= self.plan.retry.deadline {
            self.everyone.fail(
                Error::inconclusive(format!(
                    "PostgreSQL at {} went away and did not come back within {} s",
                    self.options,
                    took.as_secs()
                ))
                .cure("look into the server's log; start it and run again"),
            );
        }
    }
}

impl Everyone {
    fn fail(&self, error: Error) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.stop();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.round.send_replace(OVER);
    }

    /// Lets the present round be finished and none be begun. Before the first, those who are ready would wait for others who will not come.
    fn finish_round(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.round.send_if_modified(|r| {
            let waits = *r == BEFORE;
            if waits {
                *r = OVER;
            }
            waits
        });
    }

    /// Whether no further iteration should begin, `done` of them being done.
    fn is_over(&self, done: u64) -> bool {
        let limit = match self.turn.limit {
            Limit::Rounds(most) => done >= most,
            Limit::Duration(_) => self.ends.get().is_some_and(|end| Instant::now() >= *end),
        };
        limit || self.stopping.load(Ordering::Relaxed) || (self.turn.until_breach && self.breach.load(Ordering::Relaxed))
    }

    /// Waits until the authorisation at `position` exists; `None` if it never will.
    async fn authorisation(&self, position: u64) -> Option<i64> {
        self.position.send_if_modified(|at| {
            let forward = position > *at;
            *at = (*at).max(position);
            forward
        });
        let mut available = self.available.clone();
        available.wait_for(|n| *n > position).await.ok()?;
        Some(self.base.saturating_add_unsigned(position))
    }

    fn clinic(&self, position: u64) -> usize {
        (position % self.turn.clinics.len() as u64) as usize
    }

    fn actor(&self, clinic: usize, vu: u16) -> Actor {
        let actors = &self.turn.clinics[clinic].actors;
        actors[usize::from(vu) % actors.len()]
    }
}

/// Runs one strategy's turn. Progress is counted into `progress` while it runs.
///
/// # Errors
/// When it could not begin. What went wrong later is in [`Driven::failure`]: what was done until then is still worth judging.
pub async fn drive(turn: Turn, stock: Stock, progress: Arc<Progress>) -> Result<Driven> {
    let threads = turn.plan.threads.clamp(1, turn.plan.vus as usize);
    let vus = turn.plan.vus;
    let (available_sender, available) = watch::channel(stock.made());
    let (position, position_receiver) = watch::channel(0);
    let everyone = Arc::new(Everyone {
        base: stock.base(),
        epoch: Instant::now(),
        round: watch::channel(BEFORE).0,
        released: AtomicU64::new(0),
        first_released: AtomicU64::new(0),
        playing: AtomicU32::new(vus),
        winners: AtomicU32::new(0),
        preparing: AtomicU32::new(vus),
        position,
        available,
        stopping: AtomicBool::new(false),
        breach: AtomicBool::new(false),
        failure: std::sync::Mutex::new(None),
        progress,
        openings: Semaphore::new(OPENING),
        ends: std::sync::OnceLock::new(),
        turn,
    });
    let (over, mut is_over) = watch::channel(false);
    let mut handles = Vec::new();
    for number in 0..threads {
        let everyone = everyone.clone();
        let path = everyone.turn.directory.join(format!("{}-thread{number}.history", everyone.turn.label));
        let mine: Vec<u16> = (0..vus as u16).filter(|vu| usize::from(*vu) % threads == number).collect();
        let over = over.clone();
        let worker = std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            let result = load_thread(&everyone, &mine, &path);
            if result.is_err() {
                everyone.stop();
            }
            drop(over); // when the last is dropped, the load is over
            result
        });
        handles.push(worker.map_err(|e| Error::inconclusive("a load thread could not be started").because(e))?);
    }
    drop(over);
    // If it fails, its end of the channel goes away, and nobody waits for authorisations any more.
    let feeding = tokio::spawn(stock.feed(position_receiver, available_sender));
    let mut interrupt = everyone.turn.interrupt.clone();
    let mut interrupted = false;
    loop {
        tokio::select! {
            _ = is_over.changed() => break,
            _ = interrupt.wait_for(|stop| *stop), if !interrupted => {
                interrupted = true;
                everyone.finish_round();
            }
        }
    }
    let mut driven = Driven {
        recorder: Recorder::default(),
        histories: Vec::new(),
        issued: HashMap::new(),
        elapsed: Duration::ZERO,
        used: 0,
        interrupted,
        failure: None,
    };
    let joined =
        tokio::task::spawn_blocking(move || handles.into_iter().map(std::thread::JoinHandle::join).collect::<Vec<_>>()).await;
    for thread in joined.unwrap_or_default() {
        match thread {
            Ok(Ok(done)) => {
                driven.recorder.merge(done.recorder);
                driven.issued.extend(done.issued);
                driven.histories.push(done.history);
                driven.elapsed = driven.elapsed.max(done.ended);
            }
            Ok(Err(error)) => driven.failure = Some(error),
            Err(_) => driven.failure = Some(Error::inconclusive("a load thread panicked: this is a bug in dbstress")),
        }
    }
    driven.used = *everyone.position.borrow() + 1;
    if let Ok(mut failure) = everyone.failure.lock() {
        driven.failure = driven.failure.or(failure.take());
    }
    // The feeding ends once nobody can ask for more.
    drop(everyone);
    let closed = match feeding.await {
        Ok(Ok(stock)) => stock.close(driven.used).await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::inconclusive("the feeding of authorisations panicked: this is a bug in dbstress")),
    };
    if let Err(error) = closed {
        driven.failure.get_or_insert(error);
    }
    Ok(driven)
}

struct Done {
    recorder: Recorder,
    history: PathBuf,
    issued: Vec<(u16, u32)>,
    ended: Duration,
}

fn load_thread(everyone: &Arc<Everyone>, vus: &[u16], path: &Path) -> Result<Done> {
    let writer = Writer::create(path).map_err(|e| {
        Error::usage(format!("the history cannot be written to {}", path.display()))
            .because(e)
            .cure("make the state directory writable, or choose another with --state-dir")
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .map_err(|e| Error::inconclusive("a load thread could not be started").because(e))?;
    let thread = Rc::new(Thread { recorder: RefCell::default(), history: RefCell::new(writer) });
    let issued = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for number in vus.iter().copied() {
            let everyone = everyone.clone();
            let thread = thread.clone();
            tasks.spawn_local(async move {
                let result = virtual_user(&everyone, thread, number).await;
                if result.is_err() {
                    everyone.stop();
                }
                result
            });
        }
        let mut issued = Vec::new();
        let mut failure = None;
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(count)) => issued.push(count),
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(_) => {
                    // A round would wait for it for ever.
                    everyone.stop();
                    failure = Some(Error::inconclusive("a virtual user panicked: this is a bug in dbstress"));
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(issued),
        }
    })?;
    drop(runtime);
    let ended = everyone.epoch.elapsed().saturating_sub(Duration::from_nanos(everyone.first_released.load(Ordering::Acquire)));
    let thread =
        Rc::try_unwrap(thread).map_err(|_| Error::inconclusive("a virtual user outlived its thread: this is a bug in dbstress"))?;
    thread
        .history
        .into_inner()
        .finish(&issued)
        .map_err(|e| Error::inconclusive("the history cannot be written").because(e).cure("free space in the state directory"))?;
    Ok(Done { recorder: thread.recorder.into_inner(), history: path.to_owned(), issued, ended })
}

async fn virtual_user(everyone: &Arc<Everyone>, thread: Rc<Thread>, number: u16) -> Result<(u16, u32)> {
    let run = everyone.turn.place.run;
    let shared = Rc::new(Shared { everyone: everyone.clone(), application_name: application_name(run) });
    let mut rng = ChaCha8Rng::seed_from_u64(everyone.turn.plan.rng_seed);
    rng.set_stream(u64::from(number));
    let mut round = everyone.round.subscribe();
    let mut vu = {
        let _permit = everyone.openings.acquire().await;
        if everyone.stopping.load(Ordering::Relaxed) {
            return Ok((number, 0));
        }
        Vu::open(number, rng, shared.clone(), thread).await?
    };
    if everyone.preparing.fetch_sub(1, Ordering::AcqRel) == 1 {
        // The last to be ready starts the clock.
        if let Limit::Duration(duration) = everyone.turn.limit {
            let _ = everyone.ends.set(Instant::now() + duration);
        }
        let now = shared.nanos(Instant::now());
        everyone.released.store(now, Ordering::Release);
        everyone.first_released.store(now, Ordering::Release);
        everyone.round.send_if_modified(|r| {
            let starts = *r == BEFORE;
            if starts {
                *r = 1;
            }
            starts
        });
    }
    match everyone.turn.plan.mode {
        Mode::Contest => contest(everyone, &mut vu, &mut round).await?,
        Mode::Churn => {
            let _ = round.wait_for(|r| *r != BEFORE).await;
            churn_on(everyone, &shared, &mut vu).await?;
        }
    }
    let issued = vu.issued();
    vu.close();
    Ok((number, issued))
}

/// Name of the sessions of a run in `pg_stat_activity`, without the VU.
pub fn application_name(run: i32) -> String {
    format!("dbstress/run{run}")
}

/// Plays round after round; whoever finishes a round last releases the next.
async fn contest(everyone: &Everyone, vu: &mut Vu, round: &mut watch::Receiver<u64>) -> Result<()> {
    let mut played = BEFORE;
    loop {
        let Ok(now) = round.wait_for(|r| *r != played).await.map(|r| *r) else { return Ok(()) };
        if now == OVER {
            return Ok(());
        }
        played = now;
        let position = now - 1;
        let Some(authorisation) = everyone.authorisation(position).await else { return Ok(()) };
        let proposal = Proposal {
            kind: OperationKind::Reserve,
            units: everyone.turn.plan.units,
            authorisation,
            actor: everyone.actor(everyone.clinic(position), vu.number),
            is_attack: false,
        };
        let record = vu.perform(proposal, everyone.released.load(Ordering::Acquire)).await?;
        if record.outcome == Outcome::Committed && everyone.winners.fetch_add(1, Ordering::Relaxed) >= everyone.turn.plan.winners()
        {
            // Even if the row looks right: an update was lost.
            everyone.breach.store(true, Ordering::Relaxed);
        }
        if everyone.playing.fetch_sub(1, Ordering::AcqRel) == 1 {
            if everyone.is_over(now) || everyone.authorisation(position + 1).await.is_none() {
                everyone.stop();
                return Ok(());
            }
            everyone.winners.store(0, Ordering::Relaxed);
            everyone.playing.store(everyone.turn.plan.vus, Ordering::Release);
            everyone.released.store(everyone.epoch.elapsed().as_nanos() as u64, Ordering::Release);
            // Unless somebody has stopped everything meanwhile.
            everyone.round.send_if_modified(|r| {
                let next = *r == now;
                if next {
                    *r = now + 1;
                }
                next
            });
        }
    }
}

/// Operates on one authorisation until it is exhausted, then on the next.
async fn churn_on(everyone: &Everyone, shared: &Shared, vu: &mut Vu) -> Result<()> {
    let mut position = 0;
    let mut done = 0;
    while !everyone.is_over(done) {
        let Some(authorisation) = everyone.authorisation(position).await else { return Ok(()) };
        let (kind, is_attack) = churn(&mut vu.rng);
        let home = everyone.clinic(position);
        let clinics = everyone.turn.clinics.len();
        let is_attack = is_attack && clinics > 1;
        let clinic = if is_attack { (home + 1) % clinics } else { home };
        let actor = everyone.actor(clinic, vu.number);
        let proposal = Proposal { kind, units: everyone.turn.plan.units, authorisation, actor, is_attack };
        let record = vu.perform(proposal, shared.nanos(Instant::now())).await?;
        done += 1;
        if record.outcome == Outcome::Refused(Refusal::Inactive) {
            position += 1;
        }
    }
    Ok(())
}
