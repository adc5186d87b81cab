//! The load itself: threads, virtual users, how they begin together, how they are heard, and how they stop.
//!
//! Each load thread has a runtime of its own and owns its virtual users, connections, histograms and history; nothing crosses threads on the
//! path of an iteration but the start of a round and its end. Once a second each thread hands its histograms over.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::alarm::Alarms;
use super::faults;
use super::grievance::{Grievances, Likely, likely, likely_anywhere};
use super::pacing::{self, Desk};
use super::pool::{self, Door, Pool};
use super::rounds::{self, Rounds};
use super::seconds::{Handover, Seconds};
use super::session::{Opener, Way};
use super::stock::Stock;
use super::vu::{Thread, Vu};
use super::work::Work;
use crate::fault::{Injector, Strike};
use crate::history::{Applied, Mark, Writer};
use crate::metrics::{Recorder, SoFar, Tick, cpu_of_this_thread};
use crate::outcome::{Abort, Outcome};
use crate::plan::{Load, Plan};
use crate::record::{PoolRecord, Rules};
use crate::{Error, Result};

/// Connections opened at the same time, so that a server is not greeted by hundreds at once.
const OPENING: usize = 16;
/// How often a load thread hands its histograms over.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// How often alarms are looked at, and whether a load thread is late.
const HEARTBEAT: Duration = Duration::from_millis(10);
/// A generator that is later than this more than once in a hundred times adds to what it measures.
pub const LAG_LIMIT: Duration = Duration::from_millis(10);

/// What one turn is made of.
pub struct Turn {
    /// The plan it belongs to.
    pub plan: Plan,
    /// The plan's load, or less of it.
    pub load: Load,
    /// What the virtual users do.
    pub work: Arc<Work>,
    /// An attempt that begins shortly before the deadline of its iteration is given at least this long.
    pub patience: Duration,
    /// How the virtual users reach what performs for them.
    pub way: Way,
    /// Number of the run, as in the ledger.
    pub run: i32,
    /// Whether it ends with the first breach that a client sees: a control has nothing more to show.
    pub until_breach: bool,
    /// Folder for the history files and what their names begin with; none where nothing could be audited.
    pub history: Option<(PathBuf, String)>,
    /// Set when the user wants to stop; what is under way is finished first.
    pub interrupt: watch::Receiver<bool>,
    /// Lets things go wrong meanwhile.
    pub injector: Option<Injector>,
    /// Is told when everybody is ready; who listens hears the end of the load when it is gone.
    pub began: watch::Sender<Option<Instant>>,
}

impl Turn {
    /// The history file of one of those who write; `None` where nothing could be audited.
    pub fn history_of(&self, writer: &str) -> Option<PathBuf> {
        self.history.as_ref().map(|(folder, label)| folder.join(format!("{label}-{writer}.history")))
    }
}

/// What a turn left behind.
pub struct Driven {
    /// Measurements of all threads, without the warm-up.
    pub recorder: Recorder,
    /// Second by second, the warm-up included.
    pub ticks: Vec<Tick>,
    /// History files, one per load thread.
    pub histories: Vec<PathBuf>,
    /// Operations issued, by VU.
    pub issued: HashMap<u16, u32>,
    /// From the beginning to the last answer.
    pub elapsed: Duration,
    /// CPU that the load threads used.
    pub cpu: Duration,
    /// Rounds, or authorisations used one by one.
    pub used: u64,
    /// The user stopped it.
    pub interrupted: bool,
    /// Why it was stopped before its time by what it measured.
    pub given_up: Option<String>,
    /// Why it ended before its time, if it did.
    pub failure: Option<Error>,
    /// What went wrong on purpose, in the order in which it did.
    pub marks: Vec<(Mark, Strike)>,
    /// When everybody was ready, nanoseconds on the run's clock.
    pub began: u64,
    /// Settings of a session of the load.
    pub settings: BTreeMap<String, String>,
    /// What the pool did; none without one, or if the load never began.
    pub pool: Option<PoolRecord>,
    /// What was answered that is no answer to what was asked.
    pub wrong: Option<String>,
}

/// A second of the load, for whoever watches.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Since the beginning.
    pub elapsed: Duration,
    /// The last second; none before the first is over.
    pub tick: Option<Tick>,
    /// What has ended, from the beginning on.
    pub so_far: SoFar,
    /// What the rules came to so far, if they are checked.
    pub rules: Option<Rules>,
}

/// Everything that the virtual users of all threads see.
pub(super) struct Everyone {
    pub turn: Turn,
    pub opener: Opener,
    pub pool: Option<Arc<Pool>>,
    pub application_name: String,
    pub rounds: Rounds,
    /// Iterations taken of those that there are in all.
    pub taken: AtomicU64,
    epoch: Instant,
    /// No iteration begins any more.
    over: watch::Sender<bool>,
    stopping: AtomicBool,
    /// When what is still under way is given up, nanoseconds on the run's clock.
    hard_stop: AtomicU64,
    ends: OnceLock<Instant>,
    /// Until when nothing is measured, nanoseconds on the run's clock.
    warm: AtomicU64,
    /// VUs that are not ready yet.
    preparing: AtomicU32,
    /// How far the load has come in the stock.
    position: watch::Sender<u64>,
    available: watch::Receiver<u64>,
    breach: AtomicBool,
    failure: Mutex<Option<Error>>,
    grievances: Grievances,
    openings: Semaphore,
    /// The server is down on purpose.
    outage: Arc<AtomicBool>,
}

impl Everyone {
    /// On the run's clock.
    pub fn nanos(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// The inverse of [`Self::nanos`].
    pub fn instant(&self, nanos: u64) -> Instant {
        self.epoch + Duration::from_nanos(nanos)
    }

    /// When the load began, once it has; `None` if it never will.
    pub async fn begun(&self) -> Option<Instant> {
        let mut began = self.turn.began.subscribe();
        let mut over = self.over.subscribe();
        tokio::select! {
            began = began.wait_for(Option::is_some) => began.ok().and_then(|b| *b),
            _ = over.wait_for(|over| *over) => None,
        }
    }

    /// Whether no further iteration should begin.
    pub fn is_over(&self) -> bool {
        self.is_over_at(Instant::now())
    }

    /// As [`Self::is_over`], for who knows what time it is.
    pub fn is_over_at(&self, now: Instant) -> bool {
        self.is_stopping() || self.ends.get().is_some_and(|end| now >= *end)
    }

    /// Waits, and says whether the load still goes on then.
    pub async fn sleep_until(&self, instant: Instant) -> bool {
        let until = self.ends.get().map_or(instant, |ends| instant.min(*ends));
        let mut over = self.over.subscribe();
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            _ = over.wait_for(|over| *over) => {}
        }
        !self.is_over()
    }

    /// When iterations that are still under way are given up.
    pub fn hard_stop(&self) -> Instant {
        match self.hard_stop.load(Ordering::Relaxed) {
            u64::MAX => self.epoch + Duration::from_secs(u64::from(u32::MAX)),
            nanos => self.instant(nanos),
        }
    }

    /// Waits until they are.
    pub async fn hard_stopped(&self) {
        let mut over = self.over.subscribe();
        tokio::select! {
            () = tokio::time::sleep_until(self.hard_stop().into()) => return,
            _ = over.wait_for(|over| *over) => {}
        }
        // Whoever ended it has brought that moment nearer, and nobody does so again.
        tokio::time::sleep_until(self.hard_stop().into()).await;
    }

    /// Whether it was ended before its time.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether what was due at that time counts; the warm-up does not.
    pub fn is_measured(&self, scheduled: u64) -> bool {
        scheduled >= self.warm.load(Ordering::Relaxed)
    }

    /// Takes note of a finished iteration; `is_let_in` unless its last attempt could not get a connection.
    pub fn saw(&self, outcome: Outcome, applied: Applied, took: Duration, is_let_in: bool) {
        if outcome == Outcome::Committed && applied.is_overbooked() {
            self.breach();
        }
        // Who has a key and was not answered before does not know what became of it, however long it has knocked since.
        let is_lost = outcome == Outcome::Aborted(Abort::ConnectionLost) || outcome == Outcome::Unknown && !is_let_in;
        let is_lost = is_lost && took >= self.turn.plan.retry.deadline;
        if is_lost && !self.outage.load(Ordering::Relaxed) {
            let gone = format!("{} went away and did not come back within {} s", self.turn.way.words(), took.as_secs());
            self.fail(Error::inconclusive(gone).cure(if self.turn.way.is_pooled() {
                "look into the pooler's log, then into the server's; start it and run again"
            } else {
                "look into the server's log; start it and run again"
            }));
        }
    }

    /// An attempt was turned away for a reason that is none of the tested: nothing that follows could prove anything.
    pub fn turned_away(&self, abort: Abort, words: impl FnOnce() -> String) {
        self.grievances.turned_away(abort, words);
        self.finish();
    }

    /// An answer is none to what was asked.
    pub fn wrong_answer(&self, words: String) {
        self.grievances.wrong_answer(words);
    }

    /// Something was seen that must not be.
    pub fn breach(&self) {
        if self.turn.until_breach && !self.breach.swap(true, Ordering::Relaxed) {
            self.finish();
        }
    }

    /// Ends the load: it cannot go on, or nothing that follows would be about the tested server.
    pub fn fail(&self, error: Error) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.stop();
    }

    /// Nobody begins anything any more, a round neither.
    pub fn stop(&self) {
        self.finish();
        self.rounds.over();
    }

    /// Lets what is under way, the present round too, be finished, and nothing be begun.
    pub fn finish(&self) {
        if !self.stopping.swap(true, Ordering::Relaxed) {
            let hard = self.nanos(Instant::now() + self.turn.plan.graceful_stop);
            self.hard_stop.fetch_min(hard, Ordering::Relaxed);
        }
        self.over.send_replace(true);
        self.rounds.over_unless_begun();
    }

    /// Waits until the authorisation at `position` exists; false if it never will, or not before iterations are given up. Work that needs no
    /// stock has all it needs.
    pub async fn is_stocked(&self, position: u64) -> bool {
        self.position.send_if_modified(|at| {
            let forward = position > *at;
            *at = (*at).max(position);
            forward
        });
        if *self.available.borrow() > position {
            return true;
        }
        let mut available = self.available.clone();
        tokio::select! {
            made = available.wait_for(|n| *n > position) => made.is_ok(),
            () = self.hard_stopped() => false,
        }
    }

    /// Everybody is ready: time begins.
    fn begin(&self) {
        let now = Instant::now();
        if let Some(duration) = self.turn.load.duration() {
            let _ = self.ends.set(now + duration);
            // Somebody may have stopped it before it began.
            self.hard_stop.fetch_min(self.nanos(now + duration + self.turn.plan.graceful_stop), Ordering::Relaxed);
        }
        self.warm.store(self.nanos(now + self.turn.plan.warm_up), Ordering::Relaxed);
        self.turn.began.send_replace(Some(now));
        self.rounds.begin(self.nanos(now));
    }
}

/// Ends the load when nobody waits for it any more: what is under way is given up at once. A load that has ended is not there any more.
struct Unattended(Weak<Everyone>);

impl Drop for Unattended {
    fn drop(&mut self) {
        if let Some(everyone) = self.0.upgrade() {
            everyone.hard_stop.store(0, Ordering::Relaxed);
            everyone.stop();
        }
    }
}

/// Runs one turn. After every second `watch` is shown what happened in it and everything measured so far, and may end the turn by saying why.
///
/// # Errors
/// When it could not begin. What went wrong later is in [`Driven::failure`]: what was done until then is still worth judging.
pub async fn drive(
    mut turn: Turn,
    stock: Option<Stock>,
    mut watch: impl FnMut(&Progress, &Recorder) -> Option<String>,
) -> Result<Driven> {
    let vus = turn.load.vus();
    let threads = turn.plan.threads.min(vus as usize).max(1);
    let application_name = application_name(turn.run);
    let opener = Opener { way: turn.way.clone(), work: turn.work.clone() };
    let pool = match turn.plan.pool() {
        Some(settings) => {
            let door = Door { opener: opener.clone(), application_name: application_name.clone(), opened: Arc::default() };
            let pool = Pool::new(settings, door)?;
            pool.fill().await?;
            Some(Arc::new(pool))
        }
        None => None,
    };
    let injector = turn.injector.take();
    let struck = injector.as_ref().map(|injector| injector.arena().struck()).unwrap_or_default();
    let outage = injector.as_ref().map(|injector| injector.arena().outage()).unwrap_or_default();
    let operations = turn.plan.operations().len();
    let waits = pool.is_some();
    // Work without a stock never waits for one.
    let (available_sender, available) = watch::channel(stock.as_ref().map_or(u64::MAX, Stock::made));
    let (position, position_receiver) = watch::channel(0);
    let everyone = Arc::new(Everyone {
        opener,
        pool,
        application_name,
        rounds: Rounds::new(vus),
        taken: AtomicU64::new(0),
        epoch: Instant::now(),
        over: watch::channel(false).0,
        stopping: AtomicBool::new(false),
        hard_stop: AtomicU64::new(u64::MAX),
        ends: OnceLock::new(),
        warm: AtomicU64::new(0),
        preparing: AtomicU32::new(vus),
        position,
        available,
        breach: AtomicBool::new(false),
        failure: Mutex::new(None),
        grievances: Grievances::default(),
        openings: Semaphore::new(OPENING),
        outage,
        turn,
    });
    let _unattended = Unattended(Arc::downgrade(&everyone));
    let (handover, mut handed) = mpsc::unbounded_channel();
    let mut handles = Vec::new();
    let mut hearers = Vec::new();
    for number in 0..threads {
        let (hearer, beats) = mpsc::unbounded_channel();
        hearers.push(hearer);
        let everyone = everyone.clone();
        let load_thread = LoadThread {
            number,
            threads,
            vus: (0..vus as u16).filter(|vu| usize::from(*vu) % threads == number).collect(),
            recorder: Recorder::new(operations, waits),
            beats,
            handover: handover.clone(),
        };
        let worker = std::thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            let result = load_thread.run(&everyone);
            if result.is_err() {
                everyone.stop();
            }
            result
        });
        handles.push(worker.map_err(|e| Error::inconclusive("a load thread could not be started").because(e))?);
    }
    // When the last thread has dropped its end, the load is over.
    drop(handover);
    let heart = std::thread::Builder::new().name("heart".into()).spawn(move || beat(&hearers));
    heart.map_err(|e| Error::inconclusive("the heart could not be started").because(e))?;
    // If it fails, its end of the channel goes away, and nobody waits for authorisations any more.
    let feeding = stock.map(|stock| tokio::spawn(stock.feed(position_receiver, available_sender)));
    let observing = everyone.pool.clone().map(|pool| {
        let everyone = everyone.clone();
        tokio::spawn(async move {
            let began = everyone.begun().await?;
            let over = everyone.over.subscribe();
            drop(everyone);
            Some(pool::observe(pool, began, over).await)
        })
    });
    let injecting = injector.map(|injector| {
        let everyone = everyone.clone();
        tokio::spawn(async move {
            let began = everyone.begun().await?;
            let over = everyone.over.subscribe();
            drop(everyone);
            Some(injector.run(began, over).await)
        })
    });
    let mut interrupt = everyone.turn.interrupt.clone();
    let mut interrupted = false;
    let mut given_up = None;
    let mut collected = Seconds::new(Recorder::new(operations, waits), threads);
    loop {
        tokio::select! {
            handover = handed.recv() => match handover {
                None => break,
                Some(handover) => {
                    collected.take(handover);
                    while let Some(second) = collected.complete(&everyone.turn.load) {
                        let progress = Progress {
                            elapsed: Duration::from_secs_f64(second),
                            tick: collected.ticks.last().cloned(),
                            so_far: SoFar::of(collected.total.counts(), struck.load(Ordering::Relaxed)),
                            rules: None,
                        };
                        if let Some(why) = watch(&progress, &collected.total) {
                            given_up.get_or_insert(why);
                            everyone.finish();
                        }
                    }
                }
            },
            Ok(_) = interrupt.wait_for(|stop| *stop), if !interrupted => {
                interrupted = true;
                everyone.finish();
            }
        }
    }
    let mut driven = Driven {
        recorder: Recorder::new(operations, waits),
        ticks: Vec::new(),
        histories: Vec::new(),
        issued: HashMap::new(),
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        used: 0,
        interrupted,
        given_up,
        failure: None,
        marks: Vec::new(),
        began: everyone.turn.began.borrow().map_or(0, |began| everyone.nanos(began)),
        settings: BTreeMap::new(),
        pool: None,
        wrong: None,
    };
    // Nothing else goes wrong from here on, and whatever did is healed.
    everyone.over.send_replace(true);
    if let Some(injecting) = injecting {
        let (strikes, failure) = injecting.await.ok().flatten().unwrap_or_default();
        driven.marks = strikes.into_iter().map(|strike| (faults::mark(&everyone, &strike), strike)).collect();
        if let Some((path, written)) = faults::write_marks(&everyone, &driven.marks) {
            driven.histories.push(path);
            driven.failure = failure.or(written.err());
        } else {
            driven.failure = failure;
        }
    }
    let joined =
        tokio::task::spawn_blocking(move || handles.into_iter().map(std::thread::JoinHandle::join).collect::<Vec<_>>()).await;
    for (number, thread) in joined.unwrap_or_default().into_iter().enumerate() {
        // Whatever became of it: a history that has no end must be missed, or what it lacks would look like the work of strangers.
        driven.histories.extend(everyone.turn.history_of(&format!("thread{number}")));
        match thread {
            Ok(Ok(done)) => {
                driven.issued.extend(done.issued);
                driven.elapsed = driven.elapsed.max(done.elapsed);
                driven.cpu += done.cpu;
            }
            // What could not be healed comes first: the rest follows from it.
            Ok(Err(error)) => driven.failure = driven.failure.or(Some(error)),
            Err(_) => driven.failure = Some(Error::inconclusive("a load thread panicked: this is a bug in dbstress")),
        }
    }
    if let (Some(observing), Some(pool)) = (observing, &everyone.pool) {
        driven.pool = observing.await.ok().flatten();
        if let Some(record) = &mut driven.pool {
            pool::settle(record, pool, driven.elapsed);
        }
    }
    collected.finish(driven.elapsed.as_secs_f64(), &everyone.turn.load);
    driven.recorder = collected.total;
    driven.ticks = collected.ticks;
    driven.used = *everyone.position.borrow() + 1;
    if let Ok(mut failure) = everyone.failure.lock() {
        driven.failure = driven.failure.or(failure.take());
    }
    let likely: Likely = if everyone.turn.plan.http().is_some() { likely_anywhere } else { likely };
    driven.failure = driven.failure.or(everyone.grievances.failure(&everyone.turn.way.words(), likely));
    driven.wrong = everyone.grievances.wrong();
    // The feeding ends once nobody can ask for more.
    drop(everyone);
    let Some(feeding) = feeding else { return Ok(driven) };
    let closed = match feeding.await {
        Ok(Ok(stock)) if driven.failure.is_none() => stock.close(driven.used).await,
        // The server may be gone: what was never used does no harm, and asking for it to be removed would only wait.
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::inconclusive("the feeding of the stock panicked: this is a bug in dbstress")),
    };
    if let Err(error) = closed {
        driven.failure.get_or_insert(error);
    }
    Ok(driven)
}

struct LoadThread {
    number: usize,
    threads: usize,
    vus: Vec<u16>,
    recorder: Recorder,
    beats: mpsc::UnboundedReceiver<Instant>,
    handover: mpsc::UnboundedSender<Handover>,
}

struct Done {
    issued: Vec<(u16, u32)>,
    elapsed: Duration,
    cpu: Duration,
}

impl LoadThread {
    fn run(self, everyone: &Arc<Everyone>) -> Result<Done> {
        let path = everyone.turn.history_of(&format!("thread{}", self.number));
        let writer = path.as_deref().map(Writer::create).transpose().map_err(|e| {
            Error::usage("the history cannot be written")
                .because(e)
                .cure("make the state directory writable, or choose another with --state-dir")
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .map_err(|e| Error::inconclusive("a load thread could not be started").because(e))?;
        let thread = Rc::new(Thread {
            recorder: RefCell::new(self.recorder),
            history: RefCell::new(writer),
            busy: Cell::new(0),
            alarms: Alarms::default(),
        });
        let desk = Rc::new(Desk::default());
        let second = Rc::new(Cell::new(1));
        let share = (self.number as u64, self.threads as u64);
        let issued = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for number in self.vus {
                let (everyone, thread, desk) = (everyone.clone(), thread.clone(), desk.clone());
                tasks.spawn_local(async move {
                    let result = virtual_user(&everyone, thread, &desk, number).await;
                    if result.is_err() {
                        everyone.stop();
                    }
                    result
                });
            }
            let mut beside = JoinSet::new();
            let (number, beats, handover) = (self.number, self.beats, self.handover.clone());
            beside.spawn_local(pulse(everyone.clone(), thread.clone(), number, second.clone(), beats, handover));
            if matches!(everyone.turn.load, Load::Open { .. }) {
                let (everyone, thread, desk) = (everyone.clone(), thread.clone(), desk.clone());
                beside.spawn_local(async move { pacing::arrivals(&everyone, &thread, &desk, share).await });
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
            beside.shutdown().await;
            match failure {
                Some(error) => Err(error),
                None => Ok(issued),
            }
        })?;
        drop(runtime);
        let elapsed = everyone.turn.began.borrow().map_or(Duration::ZERO, |began| began.elapsed());
        for due in desk.left() {
            thread.dropped(everyone.is_measured(everyone.nanos(due)));
        }
        let thread = Rc::try_unwrap(thread)
            .map_err(|_| Error::inconclusive("a virtual user outlived its thread: this is a bug in dbstress"))?;
        if let Some(writer) = thread.history.into_inner() {
            writer.finish(&issued).map_err(|e| {
                Error::inconclusive("the history cannot be written").because(e).cure("free space in the state directory")
            })?;
        }
        // Whoever would have taken it has gone for a reason that is told elsewhere.
        let recorder = thread.recorder.into_inner();
        let _ = self.handover.send(Handover { thread: self.number, second: second.get(), is_last: true, busy: 0, recorder });
        Ok(Done { issued, elapsed, cpu: cpu_of_this_thread() })
    }
}

/// The pulse of a load thread: rings alarms, measures how late the thread comes to what it should do, hands its measurements over once a
/// second, of which `second` is the present one. The beats come from a thread of their own, so that a load thread which only waits for answers
/// waits without a timer.
async fn pulse(
    everyone: Arc<Everyone>,
    thread: Rc<Thread>,
    number: usize,
    second: Rc<Cell<u32>>,
    mut beats: mpsc::UnboundedReceiver<Instant>,
    handover: mpsc::UnboundedSender<Handover>,
) {
    let mut began = None;
    // What is behind its schedule in an open loop shows where it happens.
    let is_measured_here = !matches!(everyone.turn.load, Load::Open { .. });
    while let Some(beat) = beats.recv().await {
        let now = Instant::now();
        thread.alarms.beat(now, everyone.hard_stop());
        began = began.or_else(|| *everyone.turn.began.borrow());
        let Some(began) = began else { continue };
        if is_measured_here && beat >= began && everyone.is_measured(everyone.nanos(beat)) {
            thread.recorder.borrow_mut().lag(now.saturating_duration_since(beat).as_nanos() as u64);
        }
        while now >= began + TICK * second.get() {
            let fresh = thread.recorder.borrow().fresh();
            let recorder = thread.recorder.replace(fresh);
            let over = Handover { thread: number, second: second.get(), is_last: false, busy: thread.busy.get(), recorder };
            if handover.send(over).is_err() {
                return;
            }
            second.update(|second| second + 1);
        }
    }
}

/// Beats until nobody listens any more.
fn beat(hearers: &[mpsc::UnboundedSender<Instant>]) {
    loop {
        let now = Instant::now();
        let heard = hearers.iter().filter(|hearer| hearer.send(now).is_ok()).count();
        if heard == 0 {
            return;
        }
        std::thread::sleep(HEARTBEAT);
    }
}

async fn virtual_user(everyone: &Arc<Everyone>, thread: Rc<Thread>, desk: &Rc<Desk>, number: u16) -> Result<(u16, u32)> {
    let mut vu = {
        let _permit = everyone.openings.acquire().await;
        if everyone.is_stopping() {
            return Ok((number, 0));
        }
        tokio::select! {
            vu = Vu::open(number, everyone, thread.clone()) => vu?,
            // The server may never let it in.
            () = everyone.hard_stopped() => return Ok((number, 0)),
        }
    };
    if everyone.preparing.fetch_sub(1, Ordering::AcqRel) == 1 {
        everyone.begin();
    }
    match everyone.turn.load {
        Load::Rounds { .. } => rounds::play(everyone, &mut vu).await?,
        Load::Closed { .. } => pacing::closed(everyone, &thread, &mut vu).await?,
        Load::Open { .. } => pacing::open(everyone, desk, &mut vu).await?,
    }
    Ok((number, vu.issued()))
}

/// Name of the sessions of a run in `pg_stat_activity`, without the VU.
pub fn application_name(run: i32) -> String {
    format!("dbstress/run{run}")
}
