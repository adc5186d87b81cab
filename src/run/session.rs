//! What does a virtual user make its attempts with? A session of the database, or a connection to an API.

use std::sync::Arc;
use std::time::Duration;

use super::own::Scratch;
use super::work::{Intention, Prepared, Work};
use crate::http::{self, Address};
use crate::pg::ConnectOptions;
use crate::pg::load::{Connection, Manner, Phase};
use crate::target::http::{Carried, Told};
use crate::target::{Attempt, Who};
use crate::workload::twin;
use crate::{Error, Result};

/// What one virtual user at a time makes its attempts with.
pub enum Session {
    /// In SQL.
    Sql(Box<SqlSession>),
    /// Over HTTP.
    Http(Box<HttpSession>),
}

/// A session of the database and what was prepared in it.
pub struct SqlSession {
    /// The session.
    pub connection: Connection,
    /// What was prepared.
    pub prepared: Prepared,
}

/// A connection to an API.
pub struct HttpSession {
    /// The connection.
    pub client: http::Client,
    /// What its user carries.
    pub carried: Carried,
}

impl Session {
    /// Whether it can be used again.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Sql(session) => {
                session.connection.is_open() && !matches!(&session.prepared, Prepared::Booking(prepared) if !prepared.is_open())
            }
            Self::Http(session) => session.client.is_open(),
        }
    }

    /// Makes one attempt.
    pub async fn attempt(&mut self, work: &Work, intention: &Intention, who: Who, scratch: &mut Scratch, phase: &Phase) -> Attempt {
        match self {
            Self::Sql(session) => {
                let ended = work.in_sql(session, intention, who, scratch, phase).await;
                if matches!(ended, Attempt::Unknown) {
                    phase.said(session.connection.last_words());
                }
                ended
            }
            Self::Http(session) => work.over_http(session, intention, who, scratch, phase).await,
        }
    }

    /// What the answer to the last attempt said besides how it ended; `None` where nobody but ourselves makes attempts.
    pub fn told(&mut self) -> Option<Told> {
        match self {
            Self::Sql(_) => None,
            Self::Http(session) => Some(std::mem::take(&mut session.carried.told)),
        }
    }

    /// How long it took each time that a connection to an API was replaced which the API had closed, since this was last asked.
    pub fn reconnected(&mut self) -> Vec<Duration> {
        match self {
            Self::Sql(_) => Vec::new(),
            Self::Http(session) => session.client.reconnected(),
        }
    }

    /// Gives it up: nobody uses it again.
    pub async fn discard(self) {
        if let Self::Sql(session) = self {
            session.connection.discard().await;
        }
    }
}

/// How the virtual users of a turn reach what performs for them.
#[derive(Clone)]
pub enum Way {
    /// In SQL.
    Sql {
        /// The server.
        options: Box<ConnectOptions>,
        /// How connections speak to it, and what is between.
        manner: Manner,
    },
    /// Over HTTP: where the API is.
    Http(Address),
}

impl Way {
    /// Whether it leads to an API.
    pub fn is_http(&self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// Whether there is a pooler before the server.
    pub fn is_pooled(&self) -> bool {
        matches!(self, Self::Sql { manner, .. } if manner.between.is_pooler())
    }

    /// That another server than the tested one has answered there, if one has.
    pub fn another_server(&self) -> Option<Error> {
        match self {
            Self::Sql { options, .. } => options.same.another(),
            Self::Http(_) => None,
        }
    }

    /// What is there, in words: `PostgreSQL at …`.
    pub fn words(&self) -> String {
        match self {
            Self::Sql { options, .. } if self.is_pooled() => format!("the pooler at {options}"),
            Self::Sql { options, .. } => format!("PostgreSQL at {options}"),
            Self::Http(address) => format!("the API at {address}"),
        }
    }
}

/// Opens the sessions of a turn.
#[derive(Clone)]
pub struct Opener {
    /// Where they lead.
    pub way: Way,
    /// What they are opened for.
    pub work: Arc<Work>,
}

impl Opener {
    /// Opens one, and prepares everything in it. A session of the database is called `application_name` there.
    ///
    /// # Errors
    /// When it fails, or the server refuses a statement.
    pub async fn open(&self, application_name: &str) -> Result<Session> {
        match &self.way {
            Way::Sql { options, manner } => {
                let another = async || connect(options, *manner, &self.work, application_name).await;
                let mut connection = usual(options, *manner, &self.work, application_name).await?;
                let prepared = self.work.prepare(&mut connection, manner.between, another).await?;
                Ok(Session::Sql(Box::new(SqlSession { connection, prepared })))
            }
            Way::Http(address) => {
                let client = http::Client::connect(address).await.map_err(|why| {
                    Error::inconclusive(format!("{} does not let anybody connect", self.way.words()))
                        .because(why)
                        .cure("look into its log, or correct the URL")
                })?;
                Ok(Session::Http(Box::new(HttpSession { client, carried: Carried::default() })))
            }
        }
    }
}

/// Connects to the database, with the settings that the sessions of the load have, and prepares nothing.
///
/// # Errors
/// When it fails.
pub async fn usual(options: &ConnectOptions, manner: Manner, work: &Work, application_name: &str) -> Result<Connection> {
    let mut connection = connect(options, manner, work, application_name).await?;
    if let Work::Booking(work) = work
        && let Some(setting) = twin::session_setting(work.booker.bug)
    {
        connection.ask(setting).await?;
    }
    Ok(connection)
}

/// Connects, with the levels that its transactions name and no other settings.
async fn connect(options: &ConnectOptions, manner: Manner, work: &Work, application_name: &str) -> Result<Connection> {
    Connection::open_in(manner.protocol, options, application_name, &work.levels()).await
}
