//! Which sessions does a desk have, and what has been prepared on them?

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use super::look::Look;
use super::{Grant, Settings};
use crate::Result;
use crate::bug::Bug;
use crate::history::OpId;
use crate::outcome::Abort;
use crate::pg::load::{Connection, Failure, Isolation, Parameters, Statement};
use crate::random::Random;
use crate::strategy::Strategy;
use crate::target::appointing::Appointer;
use crate::target::booking::{self, Booker};
use crate::target::scheduling::Scheduler;
use crate::workload::booking::Place;
use crate::workload::keyed::Keys;
use crate::workload::{appointment, scheduling, twin};

/// A grant may ask for any of them.
const LEVELS: [Isolation; 3] = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
/// A session that has prepared for so many different things is exchanged for a new one: a server that many runs come to would hold the statements of
/// all of them for ever.
const MOST_PREPARED: usize = 8;
/// Stream of the pauses between attempts.
const JITTER: u64 = 6 << 32;

/// What the tasks of a desk share.
pub(super) struct Floor {
    pub settings: Settings,
    /// As many permits as there may be sessions.
    seats: Semaphore,
    idle: RefCell<Vec<Session>>,
    opened: Cell<u32>,
    operations: Cell<u32>,
    pub jitter: RefCell<Random>,
    /// Lists that were shown, and for whom the last.
    pub lists: Cell<(u32, Option<i64>)>,
    /// The rules of duty hours are evaluated once at a time.
    pub evaluation: Semaphore,
}

/// What statements are prepared for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Setup {
    what: What,
    pub schema: &'static str,
    run: i32,
    /// What is said to protect rows, as the ledger has it.
    name: &'static str,
    strategy: Strategy,
    bug: Option<Bug>,
    hold: Duration,
    keys: Option<Keys>,
}

/// What is performed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    Booking { is_keyed: bool },
    Scheduling,
    Appointing,
}

impl Setup {
    /// As the settings say, or the grant.
    pub fn new(settings: &Settings, grant: Option<&Grant>, run: i32, what: What) -> Self {
        let control = grant.filter(|grant| grant.schema != OWN_SCHEMA);
        let named = control.and_then(|grant| grant.strategy);
        let strategy = named.unwrap_or(settings.strategy);
        let bug = control.and_then(|grant| grant.bug).or(settings.bug.filter(|_| named.is_none()));
        let hold = control.map(|grant| grant.hold).filter(|hold| !hold.is_zero()).unwrap_or(settings.hold);
        let keys = grant.and_then(|grant| grant.keys).unwrap_or(settings.keys);
        let mut setup = Self {
            what,
            schema: control.map_or(OWN_SCHEMA, |grant| grant.schema),
            run,
            name: strategy.name(),
            strategy,
            bug,
            hold,
            keys: matches!(what, What::Booking { is_keyed: true }).then_some(keys),
        };
        if control.is_none() && bug == Some(Bug::CheckThenAct) {
            // Whatever is asked for, at whatever level: what is said to protect is not there.
            setup.strategy = Strategy::Naive;
            setup.bug = None;
        }
        setup
    }

    /// The mistake that is made on purpose, if one is.
    pub fn bug(&self) -> Option<Bug> {
        self.bug
    }

    fn place(&self, settings: &Settings) -> Place {
        Place { schema: self.schema, run: self.run, strategy: self.name, as_of: settings.as_of.clone() }
    }
}

/// Where the rows are that are nobody's control.
pub(super) const OWN_SCHEMA: &str = "dbstress";

/// Who performs, with what was prepared for it.
pub(super) enum Prepared {
    Booking(Booker, booking::Prepared),
    Scheduling(Scheduler, Box<scheduling::Statements>),
    Appointing(Appointer, Box<appointment::Statements>),
}

/// A connection and what was prepared on it.
pub(super) struct Session {
    connection: Connection,
    prepared: Vec<(Setup, Prepared)>,
    looks: Vec<(Look, Statement)>,
    /// It was told something that others must not be served with.
    is_spoilt: bool,
}

impl Floor {
    pub fn new(settings: Settings) -> Self {
        Self {
            seats: Semaphore::new(settings.sessions.max(1) as usize),
            idle: RefCell::default(),
            opened: Cell::new(0),
            operations: Cell::new(0),
            jitter: RefCell::new(Random::of(settings.run.unsigned_abs().into(), JITTER, settings.thread.into())),
            lists: Cell::default(),
            evaluation: Semaphore::new(1),
            settings,
        }
    }

    /// The next operation of the desk's own.
    pub fn operation(&self) -> OpId {
        let n = self.operations.get();
        self.operations.set(n.wrapping_add(1));
        OpId::new(self.settings.run, self.settings.thread, n)
    }

    /// The right to a session, if one is to be had in time.
    pub async fn seat(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        match self.seats.try_acquire() {
            Ok(seat) => Some(seat),
            Err(_) => timeout_at(deadline.into(), self.seats.acquire()).await.ok()?.ok(),
        }
    }

    /// A session for whoever has a seat: one that is there, or a new one.
    pub async fn session(&self, setup: Option<&Setup>) -> Result<Session> {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(session) if setup.is_none_or(|setup| session.has_room_for(setup)) => Ok(session),
            _ => self.open().await,
        }
    }

    /// Opens a session.
    pub async fn open(&self) -> Result<Session> {
        let mut connection = self.connect().await?;
        if let Some(setting) = twin::session_setting(self.settings.bug) {
            connection.ask(setting).await?;
        }
        Ok(Session { connection, prepared: Vec::new(), looks: Vec::new(), is_spoilt: false })
    }

    async fn connect(&self) -> Result<Connection> {
        self.opened.update(|n| n.wrapping_add(1));
        let name = format!("{}/{}", self.settings.name, self.opened.get());
        Connection::open(&self.settings.options, &name, &LEVELS).await
    }

    /// Takes a session back, if it can be used again.
    pub fn back(&self, session: Session) {
        if session.is_open() && !session.is_spoilt {
            self.idle.borrow_mut().push(session);
        }
    }

    /// Closes the sessions that nobody uses.
    pub fn close(&self) {
        self.idle.borrow_mut().clear();
    }
}

impl Session {
    /// Whether it can be used again.
    pub fn is_open(&self) -> bool {
        let are_open =
            |(_, prepared): &(Setup, Prepared)| !matches!(prepared, Prepared::Booking(_, prepared) if !prepared.is_open());
        self.connection.is_open() && self.prepared.iter().all(are_open)
    }

    fn has_room_for(&self, setup: &Setup) -> bool {
        self.prepared.len() < MOST_PREPARED || self.prepared.iter().any(|(known, _)| known == setup)
    }

    /// The connection, and what is prepared on it for this.
    pub async fn prepared(&mut self, floor: &Floor, setup: &Setup) -> Result<(&mut Connection, &mut Prepared), Failure> {
        let at = match self.prepared.iter().position(|(known, _)| known == setup) {
            Some(at) => at,
            None => {
                let prepared = self.prepare(floor, setup).await.map_err(|_| self.failure())?;
                self.prepared.push((*setup, prepared));
                self.prepared.len() - 1
            }
        };
        Ok((&mut self.connection, &mut self.prepared[at].1))
    }

    async fn prepare(&mut self, floor: &Floor, setup: &Setup) -> Result<Prepared> {
        let connection = &mut self.connection;
        let (strategy, place, hold) = (setup.strategy, setup.place(&floor.settings), setup.hold);
        Ok(match setup.what {
            What::Booking { .. } => {
                if let Some(setting) = twin::session_setting(setup.bug).filter(|_| floor.settings.bug != setup.bug) {
                    connection.ask(setting).await?;
                    self.is_spoilt = true;
                }
                let booker = Booker { strategy, place, hold, bug: setup.bug, keys: setup.keys };
                let prepared = booker.prepare(connection, async || floor.connect().await).await?;
                Prepared::Booking(booker, prepared)
            }
            What::Scheduling => {
                let scheduler = Scheduler { strategy, place, hold };
                let statements = scheduler.prepare(connection).await?;
                Prepared::Scheduling(scheduler, Box::new(statements))
            }
            What::Appointing => {
                let appointer = Appointer { strategy, place, hold };
                let statements = appointer.prepare(connection).await?;
                Prepared::Appointing(appointer, Box::new(statements))
            }
        })
    }

    /// Asks a question that is a transaction of its own; the values of the first row, as text.
    pub async fn look<T>(
        &mut self,
        look: Look,
        fill: impl FnOnce(&mut Parameters<'_>),
        read: impl FnOnce(&mut dyn Iterator<Item = Option<&str>>) -> T,
    ) -> Result<Option<T>, Failure> {
        let at = match self.looks.iter().position(|(known, _)| *known == look) {
            Some(at) => at,
            None => {
                let statement = self.connection.prepare(&look.sql()).await.map_err(|_| self.failure())?;
                self.looks.push((look, statement));
                self.looks.len() - 1
            }
        };
        self.connection.execute(&self.looks[at].1, fill).await?;
        Ok(self.connection.row().map(|row| read(&mut row.values())))
    }

    /// Why it could not be prepared: the connection is gone, or the server does not want it.
    fn failure(&self) -> Failure {
        Failure::local(if self.connection.is_open() { Abort::Other } else { Abort::ConnectionLost })
    }

    /// Gives it up while a statement may still run on it.
    pub async fn discard(self) {
        self.connection.discard().await;
    }
}
