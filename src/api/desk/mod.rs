//! Who does in SQL what a handler was asked for, and what became of it?
//!
//! A desk belongs to one thread and its runtime: sessions that its requests share, and a task for each request, which goes on whether or not
//! anybody still waits for the answer.

pub mod accounts;
mod compliance;
mod floor;
mod look;
mod perform;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::floor::Floor;
use crate::Result;
use crate::bug::Bug;
use crate::history::{Applied, OpId, OperationKind};
use crate::outcome::{Abort, Refusal};
use crate::pg::ConnectOptions;
use crate::pg::retry::Retry;
use crate::seed::Dataset;
use crate::strategy::Strategy;
use crate::target::view::View;
use crate::workload::keyed::Keys;
use crate::workload::{appointment, contest};

/// How a desk works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub options: ConnectOptions,
    /// At most so many sessions.
    pub sessions: u32,
    /// What they call themselves, before their number: `dbstress/serve-4711`.
    pub name: String,
    /// How rows are protected.
    pub strategy: Strategy,
    /// The mistake that bookings and schedules make on purpose, if one.
    pub bug: Option<Bug>,
    /// The mistakes of its own.
    pub mistakes: Mistakes,
    /// The application's pause between reading and writing.
    pub hold: Duration,
    /// What becomes of the keys that requests carry.
    pub keys: Keys,
    /// How attempts are made again. What bounds a request in time is its own deadline.
    pub retry: Retry,
    /// The run of requests that come with no grant.
    pub run: i32,
    /// Number of the thread, in the place of a virtual user's.
    pub thread: u16,
    /// The clock of the domain, UTC, as PostgreSQL prints it.
    pub as_of: String,
    /// What is in the database.
    pub dataset: Dataset,
}

/// What a desk does wrong on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// Says that it is done, and then rolls it back, one time in 16.
    pub ok_before_commit: bool,
    /// Takes whoever asks to be of the organisation that is asked about.
    pub no_tenant_check: bool,
    /// Lists, every seventh time, for the organisation of who asked before.
    pub tenant_left_behind: bool,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Of which organisation, or programme; `None`: of all of them.
    pub organisation: Option<i64>,
    /// The practitioner, or person; 0: nobody in particular.
    pub actor: i64,
}

/// What a run may do: a row of `dbstress.run_grant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The run, whose operations may be named.
    pub run: i32,
    /// Where its rows are.
    pub schema: &'static str,
    /// How rows are protected; `None`: as the server does.
    pub strategy: Option<Strategy>,
    /// The mistake that is made on purpose; `None`: the server's own, if it makes one.
    pub bug: Option<Bug>,
    /// The application's pause between reading and writing; zero: the server's own.
    pub hold: Duration,
    /// What becomes of keys; `None`: as the server does.
    pub keys: Option<Keys>,
}

/// Somebody who may log in: a row of `dbstress.account`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As it logs in.
    pub login: String,
    /// In PHC's notation.
    pub password_hash: String,
    /// What it may do.
    pub role: String,
    /// Of which organisation, or programme; `None`: of all of them.
    pub organisation: Option<i64>,
    /// The practitioner, or person.
    pub actor: Option<i64>,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Units are reserved, released or consumed.
    Book {
        /// Which of the three.
        kind: OperationKind,
        /// How many: at least 1.
        units: i32,
        /// Of which authorisation.
        authorisation: i64,
        /// With which key, and by how many seconds the request is later than the dataset.
        key: Option<(String, i64)>,
    },
    /// A schedule is changed.
    Change(contest::Proposal),
    /// An appointment is made, cancelled or completed.
    Appoint(appointment::Ask),
    /// Nothing is changed.
    View(View),
    /// The grant with a secret of this digest, if there is one.
    Grant(String),
    /// The account that logs in so, if there is one.
    Account(String),
}

/// What is asked for, by whom, and until when.
#[derive(Debug, Clone)]
pub struct Order {
    /// What.
    pub ask: Ask,
    /// By whom.
    pub who: Caller,
    /// With which grant.
    pub grant: Option<Arc<Grant>>,
    /// As which operation of the grant's run, and which attempt of the client at it, from 1 to [`crate::contract::MOST_TRIES`]. `None`: an
    /// operation of the desk's own.
    pub operation: Option<(OpId, u16)>,
    /// No attempt begins after it.
    pub deadline: Instant,
}

/// How an attempt failed: why, and the routine of the server that said so, where one did.
pub type How = (Abort, Option<String>);

/// What became of it.
#[derive(Debug, Clone)]
pub struct Reply {
    /// How it ended.
    pub done: Done,
    /// How many attempts were made.
    pub attempts: u16,
    /// How attempts failed that were made again, and how often.
    pub failed: Vec<(How, u32)>,
    /// When the transaction of the last attempt began, microseconds of the server's clock; 0: the server was not asked.
    pub began: i64,
    /// Another transaction with the same key was under way when this one asked.
    pub met: bool,
    /// The operation as the ledger has it, where something could have been written to it.
    pub operation: Option<OpId>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Units were booked, and this is what that left.
    Booked(Applied),
    /// The key was known: the answer of then.
    Replayed(Applied),
    /// A schedule was changed.
    Changed,
    /// An appointment, as it is now: JSON.
    Appointment(String),
    /// What there is to see: JSON.
    Seen(String),
    /// The grant that was asked for.
    Granted(Option<Arc<Grant>>),
    /// The account that was asked for.
    Account(Option<Account>),
    /// A rule says no.
    Refused(Refusal),
    /// The appointment has been cancelled or completed already.
    NotLive,
    /// Another request with the same key is under way.
    InFlight,
    /// Not done, however often it was tried: why not the last time.
    Spent(Abort),
    /// Not done: no session was free in time, or the database cannot be reached.
    Unavailable,
    /// Not done, and trying again is no cure: a mistake of the server's.
    Failed(Abort),
    /// COMMIT was not answered.
    Unknown,
}

/// Where handlers ask. Cloned for each of them.
#[derive(Debug, Clone)]
pub struct Desk {
    asked: mpsc::UnboundedSender<Message>,
}

/// What goes to the thread's task.
#[derive(Debug)]
enum Message {
    Order(Box<Order>, oneshot::Sender<Reply>),
    Close(oneshot::Sender<()>),
}

impl Reply {
    fn of(done: Done) -> Self {
        Self { done, attempts: 0, failed: Vec::new(), began: 0, met: false, operation: None }
    }
}

impl Desk {
    /// Opens a session, so that what is wrong shows at once, and a task that answers. On a runtime of the calling thread alone, within a
    /// [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// When the session cannot be opened.
    pub async fn open(settings: Settings) -> Result<Self> {
        let floor = Rc::new(Floor::new(settings));
        floor.back(floor.open().await?);
        let (asked, orders) = mpsc::unbounded_channel();
        tokio::task::spawn_local(serve(floor, orders));
        Ok(Self { asked })
    }

    /// Has it done. Whoever drops this future does not hear what became of it; it is done all the same.
    pub async fn ask(&self, order: Order) -> Reply {
        let (answer, answered) = oneshot::channel();
        if self.asked.send(Message::Order(Box::new(order), answer)).is_err() {
            return Reply::of(Done::Unavailable);
        }
        // Whoever took it is gone: nobody knows how far it came.
        answered.await.unwrap_or_else(|_| Reply::of(Done::Unknown))
    }

    /// Whether it takes no more orders.
    pub fn is_closed(&self) -> bool {
        self.asked.is_closed()
    }

    /// Takes no more orders, finishes those that were taken, and closes the sessions.
    pub async fn close(self) {
        let (closed, is_closed) = oneshot::channel();
        if self.asked.send(Message::Close(closed)).is_ok() {
            let _ = is_closed.await;
        }
    }
}

/// Has orders performed, each by a task of its own, until no more can come; then waits for those that are under way.
async fn serve(floor: Rc<Floor>, mut orders: mpsc::UnboundedReceiver<Message>) {
    let mut under_way = JoinSet::new();
    let mut closing = Vec::new();
    loop {
        tokio::select! {
            message = orders.recv() => match message {
                Some(Message::Order(order, answer)) => {
                    let floor = floor.clone();
                    under_way.spawn_local(async move {
                        // Whether or not somebody still listens.
                        let _ = answer.send(perform::perform(floor, *order).await);
                    });
                }
                // What was sent before is still received.
                Some(Message::Close(closed)) => {
                    orders.close();
                    closing.push(closed);
                }
                None => break,
            },
            Some(_) = under_way.join_next() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
    floor.close();
    for closed in closing {
        let _ = closed.send(());
    }
}
