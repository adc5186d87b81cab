//! How do many share few connections, as the requests of an application do? One pool with a limit, a wait that ends, and books that are kept:
//! who has a connection, who waits for one, and whether every one came back.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, RecycleError, RecycleResult, TimeoutType, Timeouts};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};

use crate::{Error, Result};

/// How long opening a connection may take.
const OPENING: Duration = Duration::from_secs(10);

/// What a pool keeps open.
pub trait Pooled: Send + 'static {
    /// Whether it can be used again, as far as is known without asking the server.
    fn is_open(&self) -> bool;

    /// Whether it can be used again, by asking the server.
    fn answers(&mut self) -> impl Future<Output = bool> + Send;
}

/// Opens what a pool keeps.
pub trait Open: Clone + Send + Sync + 'static {
    /// What it opens.
    type Item: Pooled;

    /// Opens one.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&self) -> impl Future<Output = Result<Self::Item>> + Send;
}

/// What is done with a connection before it is lent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Recycle {
    /// Nothing is asked of the server: one that it has ended meanwhile is lent all the same
    #[default]
    Fast,
    /// The server is asked, a round trip for each loan: pre-ping, test-before-acquire
    Verified,
}

impl Recycle {
    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Verified => "verified",
        }
    }
}

/// A pool as an application would set it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections at most.
    pub size: u32,
    /// How long is waited for one; `None` is for as long as whoever waits likes.
    pub timeout: Option<Duration>,
    /// What is done before one is lent again.
    pub recycle: Recycle,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// It was waited for as long as the pool allows.
    #[error("no connection of the pool within {} ms{}", waited.as_millis(), if *.is_deadlock { ": all are held by those who wait for another" } else { "" })]
    Timeout {
        /// How long.
        waited: Duration,
        /// Every connection was held by somebody who waited for another one: no patience would have helped.
        is_deadlock: bool,
    },
    /// One had to be opened, and could not be.
    #[error(transparent)]
    Opening(#[from] Error),
}

/// What the books say. Counts are from the beginning on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Connections lent.
    pub checkouts: u64,
    /// Connections given back.
    pub checkins: u64,
    /// Connections taken out for good, as broken.
    pub discarded: u64,
    /// Waits that ended without one.
    pub timeouts: u64,
    /// Timeouts at which everybody who held a connection waited for another.
    pub deadlocks: u64,
    /// Connections opened.
    pub opened: u64,
    /// Times that one was lent again.
    pub reused: u64,
    /// Connections found closed when they were to be lent again.
    pub stale: u64,
    /// Most that were lent at once.
    pub most_in_use: u64,
    /// Most borrowers that waited at once.
    pub most_waiting: u64,
    /// For how long connections were held, all together.
    #[serde(rename = "held_ms", with = "crate::milliseconds")]
    pub held: Duration,
}

impl Books {
    /// Connections that are lent at present. After everybody has ended, each is one that was not given back.
    pub fn in_use(&self) -> u64 {
        self.checkouts.saturating_sub(self.checkins + self.discarded)
    }
}

/// The pool at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Connections that are open.
    pub size: u64,
    /// Those of them that nobody has.
    pub available: u64,
    /// Those that somebody has.
    pub in_use: u64,
    /// Who waits for one.
    pub waiting: u64,
}

/// Somebody who has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Who, as given when it was lent.
    pub who: u32,
    /// For how long.
    pub held: Duration,
    /// Whether the same waits for another one.
    pub is_waiting: bool,
}

/// A pool. Its connections belong to a runtime of their own: on a borrower's, all others would wait for that one's thread, and they would end
/// with it.
pub struct Pool<O: Open> {
    pool: managed::Pool<Manager<O>>,
    ledger: Arc<Ledger>,
    settings: PoolSettings,
    /// Dropped last: connections need it as long as they live.
    runtime: Option<Runtime>,
}

/// A connection on loan; given back when dropped.
pub struct Loan<O: Open> {
    /// Taken only when it is given up.
    object: Option<Object<Manager<O>>>,
    ledger: Arc<Ledger>,
    number: u64,
    since: Instant,
}

struct Manager<O> {
    opener: O,
    ledger: Arc<Ledger>,
    recycle: Recycle,
    runtime: Handle,
}

/// What is written down.
struct Ledger {
    size: usize,
    checkouts: AtomicU64,
    checkins: AtomicU64,
    discarded: AtomicU64,
    timeouts: AtomicU64,
    deadlocks: AtomicU64,
    opened: AtomicU64,
    reused: AtomicU64,
    stale: AtomicU64,
    most_in_use: AtomicU64,
    most_waiting: AtomicU64,
    held_nanos: AtomicU64,
    /// By the number of the loan: who has it, and since when.
    loans: Mutex<HashMap<u64, (u32, Instant)>>,
    /// Who waits, and how often at once.
    waiting: Mutex<BTreeMap<u32, u32>>,
    /// Who held all connections at the first deadlock.
    jam: Mutex<Vec<Holder>>,
}

impl Ledger {
    fn new(size: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            size,
            checkouts: zero(),
            checkins: zero(),
            discarded: zero(),
            timeouts: zero(),
            deadlocks: zero(),
            opened: zero(),
            reused: zero(),
            stale: zero(),
            most_in_use: zero(),
            most_waiting: zero(),
            held_nanos: zero(),
            loans: Mutex::default(),
            waiting: Mutex::default(),
            jam: Mutex::default(),
        }
    }

    // Whoever panicked with a lock in hand left a number that is still right.
    fn loans(&self) -> MutexGuard<'_, HashMap<u64, (u32, Instant)>> {
        self.loans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u32, u32>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jam(&self) -> MutexGuard<'_, Vec<Holder>> {
        self.jam.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holders(&self) -> Vec<Holder> {
        let waiting = self.waiting();
        let of = |(who, since): &(u32, Instant)| Holder { who: *who, held: since.elapsed(), is_waiting: waiting.contains_key(who) };
        self.loans().values().map(of).collect()
    }

    /// Whether every connection that there may be is held by somebody who waits for another. Keeps who they were, the first time.
    fn is_deadlocked(&self) -> bool {
        let holders = self.holders();
        let is_deadlocked = holders.len() == self.size && holders.iter().all(|holder| holder.is_waiting);
        let mut jam = self.jam();
        if is_deadlocked && jam.is_empty() {
            *jam = holders;
        }
        is_deadlocked
    }
}

/// Stands in the queue; leaves it when dropped.
struct Queued<'l> {
    ledger: &'l Ledger,
    who: u32,
}

impl<'l> Queued<'l> {
    fn new(ledger: &'l Ledger, who: u32) -> Self {
        let waiting = {
            let mut waiting = ledger.waiting();
            *waiting.entry(who).or_default() += 1;
            waiting.len() as u64
        };
        ledger.most_waiting.fetch_max(waiting, Ordering::Relaxed);
        Self { ledger, who }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut waiting = self.ledger.waiting();
        if let Some(times) = waiting.get_mut(&self.who) {
            *times -= 1;
            if *times == 0 {
                waiting.remove(&self.who);
            }
        }
    }
}

impl<O: Open> managed::Manager for Manager<O> {
    type Type = O::Item;
    type Error = Error;

    async fn create(&self) -> Result<O::Item> {
        let opener = self.opener.clone();
        let opening = self.runtime.spawn(async move { opener.open().await });
        let item = opening.await.map_err(|_| Error::inconclusive("a connection of the pool could not be opened"))??;
        self.ledger.opened.fetch_add(1, Ordering::Relaxed);
        Ok(item)
    }

    async fn recycle(&self, item: &mut O::Item, _: &Metrics) -> RecycleResult<Error> {
        let is_good = item.is_open() && (self.recycle == Recycle::Fast || item.answers().await);
        let count = if is_good { &self.ledger.reused } else { &self.ledger.stale };
        count.fetch_add(1, Ordering::Relaxed);
        if is_good { Ok(()) } else { Err(RecycleError::message("closed")) }
    }
}

impl<O: Open> Pool<O> {
    /// A pool, none of whose connections is open yet.
    ///
    /// # Errors
    /// When its runtime cannot be made.
    pub fn new(settings: PoolSettings, opener: O) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pool")
            .enable_all()
            .build()
            .map_err(|e| Error::inconclusive("the pool's runtime cannot be made").because(e))?;
        let ledger = Arc::new(Ledger::new(settings.size as usize));
        let manager = Manager { opener, ledger: ledger.clone(), recycle: settings.recycle, runtime: runtime.handle().clone() };
        let pool = managed::Pool::builder(manager)
            .max_size(settings.size as usize)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| Error::inconclusive("the pool cannot be made").because(e))?;
        Ok(Self { pool, ledger, settings, runtime: Some(runtime) })
    }

    /// How it was set up.
    pub fn settings(&self) -> PoolSettings {
        self.settings
    }

    /// Opens every connection, so that the load does not wait for that. It is not in the books.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn fill(&self) -> Result<()> {
        let timeouts = Timeouts { wait: None, create: Some(OPENING), recycle: None };
        let mut all = Vec::new();
        for _ in 0..self.settings.size {
            all.push(self.pool.timeout_get(&timeouts).await.map_err(opening)?);
        }
        drop(all);
        Ok(())
    }

    /// Waits for a connection, on behalf of `who`, any number by which [`Self::holders`] tells borrowers apart.
    ///
    /// # Errors
    /// When it was waited for long enough, or had to be opened and could not be.
    pub async fn checkout(&self, who: u32) -> Result<Loan<O>, Unavailable> {
        let at_once = Timeouts { wait: Some(Duration::ZERO), create: Some(OPENING), recycle: None };
        let object = match self.pool.timeout_get(&at_once).await {
            Err(managed::PoolError::Timeout(TimeoutType::Wait)) => self.wait(who).await?,
            other => other.map_err(opening)?,
        };
        let number = self.ledger.checkouts.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        let lent = {
            let mut loans = self.ledger.loans();
            loans.insert(number, (who, since));
            loans.len() as u64
        };
        self.ledger.most_in_use.fetch_max(lent, Ordering::Relaxed);
        Ok(Loan { object: Some(object), ledger: self.ledger.clone(), number, since })
    }

    /// Nobody who waits already is overtaken: whoever finds none at once stands behind them.
    async fn wait(&self, who: u32) -> Result<Object<Manager<O>>, Unavailable> {
        let began = Instant::now();
        let queued = Queued::new(&self.ledger, who);
        let timeouts = Timeouts { wait: self.settings.timeout, create: Some(OPENING), recycle: None };
        match self.pool.timeout_get(&timeouts).await {
            Err(managed::PoolError::Timeout(TimeoutType::Wait)) => {
                let is_deadlock = self.ledger.is_deadlocked();
                drop(queued);
                self.ledger.timeouts.fetch_add(1, Ordering::Relaxed);
                self.ledger.deadlocks.fetch_add(u64::from(is_deadlock), Ordering::Relaxed);
                Err(Unavailable::Timeout { waited: began.elapsed(), is_deadlock })
            }
            other => Ok(other.map_err(opening)?),
        }
    }

    /// What has been written down so far.
    pub fn books(&self) -> Books {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let ledger = &self.ledger;
        // What ends a loan is read first: a loan that ends in between must not seem to end before it began.
        let (checkins, discarded) = (read(&ledger.checkins), read(&ledger.discarded));
        Books {
            checkouts: read(&ledger.checkouts),
            checkins,
            discarded,
            timeouts: read(&ledger.timeouts),
            deadlocks: read(&ledger.deadlocks),
            opened: read(&ledger.opened),
            reused: read(&ledger.reused),
            stale: read(&ledger.stale),
            most_in_use: read(&ledger.most_in_use),
            most_waiting: read(&ledger.most_waiting),
            held: Duration::from_nanos(read(&ledger.held_nanos)),
        }
    }

    /// What it looks like now. It takes the pool's own lock: not for every operation.
    pub fn status(&self) -> Status {
        let status = self.pool.status();
        Status {
            size: status.size as u64,
            available: status.available as u64,
            in_use: self.books().in_use(),
            waiting: self.ledger.waiting().values().map(|times| u64::from(*times)).sum(),
        }
    }

    /// Who has a connection now.
    pub fn holders(&self) -> Vec<Holder> {
        self.ledger.holders()
    }

    /// Who held all connections and waited for another, at the first timeout at which that was so; nobody, if it never was.
    pub fn jam(&self) -> Vec<Holder> {
        self.ledger.jam().clone()
    }

    /// Closes every connection that nobody has, so that whoever comes next gets a new one.
    pub fn empty(&self) {
        self.pool.retain(|_, _| false);
    }
}

fn opening(error: managed::PoolError<Error>) -> Error {
    match error {
        managed::PoolError::Backend(error) => error,
        managed::PoolError::Timeout(TimeoutType::Create) => {
            Error::inconclusive(format!("a connection of the pool was not open after {} s", OPENING.as_secs()))
        }
        other => Error::inconclusive("the pool gives no connection").because(std::io::Error::other(other.to_string())),
    }
}

impl<O: Open> Drop for Pool<O> {
    fn drop(&mut self) {
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            // May happen inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl<O: Open> Loan<O> {
    /// Takes it for good, as broken; the pool will open another.
    pub fn discard(mut self) -> Option<O::Item> {
        let object = self.object.take()?;
        self.ends(&self.ledger.discarded);
        Some(Object::take(object))
    }

    fn ends(&self, count: &AtomicU64) {
        self.ledger.loans().remove(&self.number);
        self.ledger.held_nanos.fetch_add(self.since.elapsed().as_nanos() as u64, Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl<O: Open> Deref for Loan<O> {
    type Target = O::Item;

    fn deref(&self) -> &O::Item {
        match &self.object {
            Some(object) => object,
            None => unreachable!("only what consumes a loan takes the connection out of it"),
        }
    }
}

impl<O: Open> DerefMut for Loan<O> {
    fn deref_mut(&mut self) -> &mut O::Item {
        match &mut self.object {
            Some(object) => object,
            None => unreachable!("only what consumes a loan takes the connection out of it"),
        }
    }
}

impl<O: Open> Drop for Loan<O> {
    fn drop(&mut self) {
        if self.object.is_some() {
            // In the books before it is back: the next borrower must not seem to have it at the same time.
            self.ends(&self.ledger.checkins);
        }
    }
}
