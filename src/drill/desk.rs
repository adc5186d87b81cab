//! How do the requests of a drill come by their connections, and who can be named afterwards? A pool with a mistake made at it, if one was asked for.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::PATIENCE;
use super::ground::{Door, Ground, Session, Unended};
use super::judge::{Culprit, Seen};
use super::mistake::Mistake;
use crate::outcome::Abort;
use crate::pg::load::Failure;
use crate::pg::pool::{Holder, Loan, Pool, PoolSettings, Recycle, Unavailable};
use crate::{Error, Result};

/// How long is waited for a connection that will not come.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// How many connections are not given back where that is the mistake.
const LEAKS: u32 = 4;

/// The pool of a drill.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Connections at most.
    pub size: u32,
    /// How long is waited for one; as long as it may take on a slow machine, if none is given.
    pub wait: Option<Duration>,
    /// What is done before one is lent again.
    pub recycle: Recycle,
    /// Requests of the drill.
    pub requests: u32,
}

/// A pool, and who had which of its sessions.
pub struct Desk {
    /// The pool itself.
    pub pool: Pool<Door>,
    mistake: Option<Mistake>,
    requests: u32,
    /// Turns true when every connection has been lent at once.
    is_full: watch::Sender<bool>,
    roll: Arc<Mutex<Roll>>,
}

/// Who had which session, and left it how. Sessions are known by the server's process.
#[derive(Default)]
struct Roll {
    /// By request: the session that it had last.
    sessions: BTreeMap<u32, i64>,
    /// By session that was given back inside a transaction: the request that did so first.
    unended: BTreeMap<i64, u32>,
}

/// A connection that a request has.
pub struct Lent {
    loan: Option<Loan<Door>>,
    who: u32,
    roll: Arc<Mutex<Roll>>,
    /// Held for no reason but that it was taken.
    _second: Option<Loan<Door>>,
    is_forgotten: bool,
}

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It waited for a connection until it was told that there is none.
    TimedOut,
    /// Something else, in words; the server's code, if it has one.
    Failed {
        /// SQLSTATE.
        code: Option<String>,
        /// What was said.
        why: String,
    },
    /// Its session went away without a word.
    Lost,
    /// There was to be a session for it, and none could be opened: why.
    Unopened(String),
}

impl Trouble {
    /// What becomes of every session that is ended.
    fn is_end(&self) -> bool {
        match self {
            Self::Lost => true,
            Self::Failed { code: Some(code), .. } => code == "57P01" || code.starts_with("08"),
            Self::TimedOut | Self::Failed { .. } | Self::Unopened(_) => false,
        }
    }

    /// What else than the use of the pool brings this about, and what to do about it; `None` if it is for the drill to judge.
    /// The codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
    pub fn surroundings(&self) -> Option<String> {
        let (code, why) = match self {
            Self::Failed { code: Some(code), why } => (code.as_str(), why),
            Self::Lost => return Some("a session was lost: somebody ended it, or the server or the network went away".into()),
            Self::Unopened(why) => return Some(format!("a session could not be opened: {why}")),
            Self::TimedOut | Self::Failed { code: None, .. } => return None,
        };
        let cause = match code {
            "57014" => {
                "a statement was cancelled, by hand or by statement_timeout; ALTER DATABASE … RESET statement_timeout, or ALTER ROLE …"
            }
            "57P01" => "somebody ended its sessions, or shut the server down; leave them alone while the drills are done",
            "57P02" => "the server crashed; its log says why",
            "57P03" => "the server is starting up or shutting down; try again in a moment",
            "53300" => {
                "there is no connection left; close other clients, or raise max_connections, or the CONNECTION LIMIT of the role or the database"
            }
            _ if code.starts_with("08") => "the connection to the server broke; look at what is between",
            _ => return None,
        };
        Some(format!("{code}: {cause} ({why})"))
    }
}

impl From<Unavailable> for Trouble {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Timeout { .. } => Self::TimedOut,
            Unavailable::Opening(error) => Self::Unopened(error.to_string()),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure.server {
            Some(error) => Self::Failed { code: Some(error.code.as_str().to_owned()), why: error.message },
            None if failure.abort == Abort::ConnectionLost => Self::Lost,
            None => Self::Failed { code: None, why: failure.abort.words().to_owned() },
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("got no connection"),
            Self::Failed { code: Some(code), why } => write!(f, "{code} {why}"),
            Self::Failed { code: None, why } | Self::Unopened(why) => f.write_str(why),
            Self::Lost => f.write_str(Abort::ConnectionLost.words()),
        }
    }
}

/// What a request came to.
pub type Answer<T = ()> = Result<T, Trouble>;

/// What all requests came to.
pub struct Answers<T = ()> {
    /// By request, what was served.
    pub served: Vec<(u32, T)>,
    /// By request, why not.
    pub troubles: Vec<(u32, Trouble)>,
}

impl<T> Answers<T> {
    /// Requests that were served.
    pub fn served(&self) -> i64 {
        self.served.len() as i64
    }

    /// Requests that were told that there is no connection.
    pub fn timed_out(&self) -> i64 {
        self.troubles.iter().filter(|(_, trouble)| *trouble == Trouble::TimedOut).count() as i64
    }

    /// Requests that ended in any other way.
    pub fn failed(&self) -> i64 {
        self.troubles.len() as i64 - self.timed_out()
    }
}

/// The requests that one worker is to be asked for, and what each came to.
pub type Asked<T = ()> = JoinSet<Vec<(u32, Answer<T>)>>;

/// Everything that has been asked, when it has been answered.
pub async fn answers<T: 'static>(mut asked: Asked<T>) -> Result<Answers<T>> {
    let mut answers = Answers { served: Vec::new(), troubles: Vec::new() };
    while let Some(ended) = asked.join_next().await {
        for (who, answer) in ended.map_err(|e| Error::inconclusive("a request was not ended").because(e))? {
            match answer {
                Ok(value) => answers.served.push((who, value)),
                Err(trouble) => answers.troubles.push((who, trouble)),
            }
        }
    }
    answers.served.sort_by_key(|(who, _)| *who);
    answers.troubles.sort_by_key(|(who, _)| *who);
    Ok(answers)
}

impl Desk {
    /// A pool whose requests make `mistake`.
    pub fn new(setup: Setup, mistake: Option<Mistake>, door: Door) -> Result<Arc<Self>> {
        let patience = if mistake == Some(Mistake::NestedCheckout) { IMPATIENCE } else { PATIENCE };
        let recycle = if mistake == Some(Mistake::Stale) { Recycle::Fast } else { setup.recycle };
        let settings = PoolSettings { size: setup.size, timeout: Some(setup.wait.unwrap_or(patience)), recycle };
        Ok(Arc::new(Self {
            pool: Pool::new(settings, door)?,
            mistake,
            requests: setup.requests,
            is_full: watch::Sender::new(false),
            roll: Arc::default(),
        }))
    }

    /// Whether this mistake is made.
    pub fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// A connection for the request `who`.
    pub async fn checkout(&self, who: u32) -> Answer<Lent> {
        let loan = self.pool.checkout(who).await?;
        self.roll().sessions.insert(who, loan.pid);
        if self.pool.books().in_use() >= u64::from(self.pool.settings().size) {
            self.is_full.send_replace(true);
        }
        let mut second = None;
        if self.makes(Mistake::NestedCheckout) {
            // What happens sooner or later in production is to happen now: everybody has the first before anybody wants the second.
            self.filled().await;
            second = Some(self.pool.checkout(who).await?);
        }
        let is_forgotten = self.makes(Mistake::Leak) && who.is_multiple_of((self.requests / LEAKS).max(1));
        Ok(Lent { loan: Some(loan), who, roll: self.roll.clone(), _second: second, is_forgotten })
    }

    /// The end of what was done with a connection: what failed is rolled back before it goes back.
    pub async fn ended<T>(&self, lent: &mut Lent, answer: Answer<T>) -> Answer<T> {
        if answer.is_err() && !self.makes(Mistake::NoRollback) {
            lent.roll_back().await;
        }
        answer
    }

    /// Waits until every connection has been lent at once.
    pub async fn filled(&self) {
        // The sender is our own: it outlives the wait.
        let _ = self.is_full.subscribe().wait_for(|full| *full).await;
    }

    /// Lets `workers` share the requests of the drill; `serve` is what each of them asks for.
    pub async fn work<T, F>(
        self: &Arc<Self>,
        workers: u32,
        serve: impl Fn(Arc<Self>, u32) -> F + Clone + Send + Sync + 'static,
    ) -> Result<Answers<T>>
    where
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let next = Arc::new(AtomicU32::new(1));
        let mut asked = JoinSet::new();
        for _ in 0..workers {
            let (desk, next, serve) = (self.clone(), next.clone(), serve.clone());
            asked.spawn(async move {
                let mut answers = Vec::new();
                loop {
                    let who = next.fetch_add(1, Ordering::Relaxed);
                    if who > desk.requests {
                        return answers;
                    }
                    answers.push((who, serve(desk.clone(), who).await));
                }
            });
        }
        self::answers(asked).await
    }

    /// The process of the session that a request had last.
    pub fn session_of(&self, who: u32) -> Option<i64> {
        self.roll().sessions.get(&who).copied()
    }

    /// What can be said of every pool when all requests have ended: nobody has a connection, no session is in a transaction, nobody blocked himself.
    pub async fn settle(&self, ground: &mut Ground, seen: &mut Seen) -> Result<()> {
        let books = self.pool.books();
        let (mut leaked, unended) = (self.pool.holders(), ground.unended().await?);
        leaked.sort_by_key(|holder| holder.who);
        seen.count("leaked", 0, books.in_use() as i64);
        seen.count("unended", 0, unended.len() as i64);
        seen.count("deadlocks of the pool", 0, books.deadlocks as i64);
        let mut jam = self.pool.jam();
        jam.sort_by_key(|holder| holder.who);
        if !jam.is_empty() {
            let size = jam.len();
            seen.diagnosis(format!("all {size} connections are held by requests that wait for a second one"));
        }
        seen.blame(jam.iter().map(|holder| self.holding(holder, "held it while it waited for a second one")));
        seen.blame(leaked.iter().map(|holder| self.holding(holder, "has not given it back")));
        seen.blame(unended.iter().map(|session| self.left_in_transaction(session)));
        Ok(())
    }

    /// Tells of those that were not served: who they were, and whether the surroundings did it.
    pub fn unserved<T>(&self, answers: &Answers<T>, seen: &mut Seen) {
        self.tell(answers, seen, |_| false);
    }

    /// The same where the drill has ended the sessions: that one has ended is for it to judge.
    pub fn unserved_after_the_end<T>(&self, answers: &Answers<T>, seen: &mut Seen) {
        self.tell(answers, seen, Trouble::is_end);
    }

    fn tell<T>(&self, answers: &Answers<T>, seen: &mut Seen, is_provoked: fn(&Trouble) -> bool) {
        let troubles = answers.troubles.iter().map(|(_, trouble)| trouble);
        troubles.filter(|trouble| !is_provoked(trouble)).filter_map(Trouble::surroundings).for_each(|why| seen.disturbed(why));
        let of = |(who, trouble): &(u32, Trouble)| Culprit {
            request: Some(*who),
            session: self.session_of(*who),
            seconds: None,
            what: trouble.to_string(),
        };
        seen.blame(answers.troubles.iter().map(of));
    }

    /// Somebody who has a connection, as a culprit.
    pub fn holding(&self, holder: &Holder, what: &str) -> Culprit {
        let seconds = Some(holder.held.as_secs_f64());
        Culprit { request: Some(holder.who), session: self.session_of(holder.who), seconds, what: what.into() }
    }

    fn left_in_transaction(&self, session: &Unended) -> Culprit {
        let request = self.roll().unended.get(&session.pid).copied();
        let what = format!("gave it back inside its transaction ({})", session.state);
        Culprit { request, session: Some(session.pid), seconds: Some(session.seconds), what }
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent {
    /// Takes it out of the pool for good, as broken.
    pub fn discard(mut self) {
        if let Some(loan) = self.loan.take() {
            drop(loan.discard());
        }
    }
}

impl Deref for Lent {
    type Target = Session;

    fn deref(&self) -> &Session {
        match &self.loan {
            Some(loan) => loan,
            None => unreachable!("only what ends it takes the connection out of it"),
        }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Session {
        match &mut self.loan {
            Some(loan) => loan,
            None => unreachable!("only what ends it takes the connection out of it"),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(session) = self.loan.as_deref() {
            let mut roll = self.roll.lock().unwrap_or_else(PoisonError::into_inner);
            if session.is_idle() {
                roll.unended.remove(&session.pid);
            } else {
                roll.unended.entry(session.pid).or_insert(self.who);
            }
        }
        if self.is_forgotten {
            std::mem::forget(self.loan.take());
        }
    }
}
