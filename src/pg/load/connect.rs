//! How is a measured connection opened, checked, and given up?

use std::time::Duration;

use tokio_postgres::config::ChannelBinding;
use tokio_postgres::{CancelToken, Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::wire::{Failure, Parameters, Reply, Row, ServerError, Statement, Transaction, Wire};
use super::{Ending, Isolation, Protocol, handshake, tls};
use crate::outcome::{Abort, Certainty, Signal, Stage, certainty};
use crate::pg::unconnected::unconnected;
use crate::pg::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

/// Asked first of a session that may take as long as it takes, whatever the database or the role would have it do; alone, since even this question
/// could be cancelled before it has been answered. The settings that not every server knows are in [`UNHURRIED`].
pub const NO_TIMEOUT: &str = "SET statement_timeout = 0";

/// Asked after [`NO_TIMEOUT`]. Settings that the server does not know are left out: the last two came with PostgreSQL 14 and 17.
pub const UNHURRIED: &str = "SELECT count(set_config(name, '0', false)) FROM pg_settings WHERE name IN \
     ('lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')";

/// One open connection. It belongs to the runtime that opened it.
pub struct Connection {
    wire: Wire,
    /// By isolation level; only the levels that were named when it was opened.
    begin: [Option<Statement>; 3],
    commit: Statement,
    rollback: Statement,
    last_words: Option<Box<ServerError>>,
    options: ConnectOptions,
    cancel: CancelToken,
    greeted_by: Option<i32>,
    tls: MakeRustlsConnect,
}

impl Connection {
    /// Connects and proves that the server gives the isolation levels that will be asked for, by reading them back.
    ///
    /// # Errors
    /// The failure of the connection or of the check.
    pub async fn open(options: &ConnectOptions, application_name: &str, levels: &[Isolation]) -> Result<Self> {
        Self::open_in(Protocol::default(), options, application_name, levels).await
    }

    /// As [`Self::open`], in another protocol.
    ///
    /// # Errors
    /// As there.
    pub async fn open_in(
        protocol: Protocol,
        options: &ConnectOptions,
        application_name: &str,
        levels: &[Isolation],
    ) -> Result<Self> {
        let tls = tls::connector(options)?;
        let timeout = options.session.connect_timeout;
        let opening = tokio::time::timeout(timeout, handshake::open(options, application_name, tls.clone()));
        let handshake::Opened { stream, cancel, greeted_by } =
            opening.await.map_err(|_| options.session.no_answer(options))?.map_err(|e| match e {
                handshake::Failed::Socket(error) => unconnected(options, None, None, error),
                handshake::Failed::Driver(error) => open_error(options, error),
            })?;
        let mut wire = Wire::new(stream, protocol, options.counted.clone());
        let commit = prepared(&mut wire, "COMMIT").await?;
        let rollback = prepared(&mut wire, "ROLLBACK").await?;
        let mut connection = Self {
            wire,
            begin: [const { None }; 3],
            commit,
            rollback,
            last_words: None,
            options: options.clone(),
            cancel,
            greeted_by,
            tls,
        };
        if let Some(question) = options.session.target.question()
            && connection.ask(question).await?.as_deref() != Some("true")
        {
            return Err(options.session.target.not_at(options));
        }
        connection.recognise().await?;
        for level in levels {
            connection.check(*level).await?;
            connection.begin[*level as usize] = Some(prepared(&mut connection.wire, level.begin()).await?);
        }
        Ok(connection)
    }

    /// Makes sure that the server is the one that earlier connections met.
    async fn recognise(&mut self) -> Result<()> {
        let same = self.options.same.clone();
        let questions = same.questions();
        for question in questions {
            match self.query(question).await {
                Ok(answer) => return same.compare(question, &answer.unwrap_or_default(), &self.options),
                Err(failure) if !self.is_open() || questions.len() == 1 => {
                    let why = format!("PostgreSQL at {} does not say which server it is", self.options);
                    return Err(Error::inconclusive(why).because(reason(&failure)));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    async fn check(&mut self, isolation: Isolation) -> Result<()> {
        if let Err(failure) = self.query(isolation.begin()).await {
            self.roll_back().await;
            return Err(match self.query("SELECT pg_is_in_recovery()").await {
                Ok(Some(answer)) if answer == "t" => {
                    Error::inconclusive(format!("PostgreSQL at {} is a standby, on which nothing can be written", self.options))
                        .because(reason(&failure))
                        .cure("connect to the primary, or promote the standby")
                }
                _ => refused(isolation.begin(), &failure),
            });
        }
        let level = self.ask("SHOW transaction_isolation").await?.unwrap_or_default();
        self.ask("COMMIT").await?;
        if level == isolation.setting() {
            return Ok(());
        }
        Err(Error::inconclusive(format!(
            "asked for {}, the server runs {level}: no result would be about the level named",
            isolation.setting()
        ))
        .cure("connect without what sits between, a pooler or a proxy that rewrites BEGIN"))
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement> {
        prepared(&mut self.wire, sql).await
    }

    /// Which protocol it speaks.
    pub fn protocol(&self) -> Protocol {
        self.wire.protocol()
    }

    /// The names of the columns of the last answer; only the simple protocol has them with each.
    pub fn column_names(&self) -> impl Iterator<Item = &[u8]> {
        self.wire.column_names()
    }

    /// What the server said when it was not clear whether a transaction had been committed, if it said anything; once.
    pub fn last_words(&mut self) -> Option<Box<ServerError>> {
        self.last_words.take()
    }

    /// Runs SQL without parameters, outside any measurement; the first value of its answer.
    ///
    /// # Errors
    /// The server's answer.
    pub async fn ask(&mut self, sql: &str) -> Result<Option<String>> {
        let answer = self.query(sql).await;
        answer.map_err(|e| refused(sql, &e))
    }

    /// As [`Self::ask`], where the answer may well be an error.
    ///
    /// # Errors
    /// The server's answer; a transaction has failed then.
    pub async fn query(&mut self, sql: &str) -> std::result::Result<Option<String>, Failure> {
        self.wire.query(sql).await?;
        Ok(self.wire.row().and_then(|row| row.values().next().flatten().map(str::to_owned)))
    }

    /// The number of the process that serves it, as it was told when it was opened; `None` if it was told none.
    pub fn greeted_by(&self) -> Option<i32> {
        self.greeted_by
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// The server's answer, or a level that was not named when the connection was opened.
    pub async fn begin(&mut self, isolation: Isolation) -> std::result::Result<(), Failure> {
        let Some(begin) = &self.begin[isolation as usize] else { return Err(Failure::local(Abort::Other)) };
        self.wire.execute(begin, |_| {}).await.map(|_| ())
    }

    /// Runs a statement; the first row of its answer is [`Self::row`].
    ///
    /// # Errors
    /// The server's answer; a transaction has failed then.
    pub async fn execute(
        &mut self,
        statement: &Statement,
        fill: impl FnOnce(&mut Parameters<'_>),
    ) -> std::result::Result<Reply, Failure> {
        self.wire.execute(statement, fill).await
    }

    /// Runs a statement that is a transaction of its own, and thereby its own COMMIT.
    ///
    /// # Errors
    /// How it ended, if not committed.
    pub async fn execute_alone(
        &mut self,
        statement: &Statement,
        fill: impl FnOnce(&mut Parameters<'_>),
    ) -> std::result::Result<Reply, Ending> {
        let answer = self.wire.execute(statement, fill).await;
        answer.map_err(|failure| self.ending(Stage::Alone, Err(failure)))
    }

    /// Commits. Committed is only what the server called so: it answers COMMIT of a failed transaction with the tag ROLLBACK and no error.
    pub async fn commit(&mut self) -> Ending {
        let answer = self.wire.execute(&self.commit, |_| {}).await;
        self.ending(Stage::Commit, answer)
    }

    /// Sends COMMIT and closes the connection before the answer: what a client that crashes then, or a network that fails, leaves behind.
    pub async fn commit_and_hang_up(&mut self) {
        self.wire.send_and_close(&self.commit).await;
    }

    /// Closes the connection, between two transactions.
    pub fn hang_up(&mut self) {
        self.wire.terminate();
    }

    /// As [`Self::commit`], with a COMMIT of the user's own wording.
    pub async fn commit_with(&mut self, statement: &Statement, fill: impl FnOnce(&mut Parameters<'_>)) -> Ending {
        let answer = self.wire.execute(statement, fill).await;
        self.ending(Stage::Commit, answer)
    }

    /// How a transaction ended that the server answered like this.
    fn ending(&mut self, stage: Stage, answer: std::result::Result<Reply, Failure>) -> Ending {
        let signal = match &answer {
            // Read in full before the stream ended, if it did.
            _ if self.wire.has_committed() => Signal::Commit,
            Ok(_) => Signal::Done,
            Err(Failure { server: Some(error), .. }) if self.wire.is_open() => Signal::Error(error.code),
            Err(Failure { server: Some(error), .. }) => Signal::Fatal(error.code),
            Err(_) => Signal::Silence,
        };
        match certainty(stage, signal) {
            Certainty::Applied => Ending::Committed,
            Certainty::NotApplied => Ending::NotCommitted(answer.err().unwrap_or(Failure::local(Abort::Other))),
            Certainty::Unknown => {
                self.last_words = answer.err().and_then(|failure| failure.server);
                Ending::Unknown
            }
        }
    }

    /// Rolls back and waits for it, so that the next user of the connection does not pay for it. A broken connection rolls back by itself.
    pub async fn roll_back(&mut self) {
        let _ = self.wire.execute(&self.rollback, |_| {}).await;
    }

    /// The first row of the last answer.
    pub fn row(&self) -> Option<Row<'_>> {
        self.wire.row()
    }

    /// Whether the last answer had the tag COMMIT.
    pub fn has_committed(&self) -> bool {
        self.wire.has_committed()
    }

    /// Whether it is in a transaction.
    pub fn transaction(&self) -> Transaction {
        self.wire.transaction()
    }

    /// Whether it can be used again.
    pub fn is_open(&self) -> bool {
        self.wire.is_open()
    }

    /// Gives it up while a statement may still run: asks the server to cancel it, then lets go.
    /// The cancel request can hit the next statement, which is why the connection is not used again.
    pub async fn discard(self) {
        let _ =
            tokio::time::timeout(Duration::from_secs(1), handshake::cancel(&self.options, &self.cancel, self.tls.clone())).await;
    }
}

async fn prepared(wire: &mut Wire, sql: &str) -> Result<Statement> {
    wire.prepare(sql).await.map_err(|e| refused(sql, &e))
}

/// A statement of ours that failed, outside any measurement.
fn refused(sql: &str, failure: &Failure) -> Error {
    let error = Error::inconclusive(format!("PostgreSQL refuses a statement: {sql}")).because(reason(failure));
    match failure.abort {
        Abort::QueryCancelled => error.cure(
            "ALTER ROLE … RESET statement_timeout, or ALTER DATABASE …: sessions of the load have the limits that the server gives them\n\
             or try again, if somebody cancelled it by hand",
        ),
        _ => error,
    }
}

/// A failure as somebody reads it.
fn reason(failure: &Failure) -> std::io::Error {
    std::io::Error::other(match &failure.server {
        Some(error) => format!("{} {}", error.code.as_str(), error.message),
        None => failure.abort.words().to_owned(),
    })
}

/// Connects; a task of the present runtime drives the connection until the client is dropped.
///
/// # Errors
/// Inconclusive when nobody answers or the server refuses.
pub async fn connect(options: &ConnectOptions, application_name: &str) -> Result<Client> {
    let config = config(options, application_name);
    let connecting = tokio::time::timeout(options.session.connect_timeout, config.connect(tls::connector(options)?));
    let connected = connecting.await.map_err(|_| options.session.no_answer(options))?;
    let (client, driver) = connected.map_err(|e| open_error(options, e))?;
    // An error of the driver reaches every waiting query as "closed"; there is nobody else to tell.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    if let Some(question) = options.session.target.question() {
        let answer = client.simple_query(question).await.map_err(|e| open_error(options, e))?;
        if !answer.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("true"))) {
            return Err(options.session.target.not_at(options));
        }
    }
    Ok(client)
}

/// How the driver is told where the server is.
pub(crate) fn config(options: &ConnectOptions, application_name: &str) -> Config {
    let mut config = Config::new();
    config.port(options.port).user(&options.user).dbname(&options.database).application_name(application_name);
    // As the other connections: what the system says.
    config.keepalives(false);
    config.channel_binding(if options.session.binds_channel { ChannelBinding::Prefer } else { ChannelBinding::Disable });
    if let Some(startup) = options.session.startup() {
        config.options(startup);
    }
    config.ssl_mode(match options.encryption() {
        SslMode::Disable => tokio_postgres::config::SslMode::Disable,
        SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
    });
    match &options.host {
        Host::Tcp(host) => config.host(host),
        Host::Socket(directory) => config.host_path(directory),
    };
    if let Some(password) = &options.password {
        config.password(password);
    }
    config
}

fn open_error(options: &ConnectOptions, error: tokio_postgres::Error) -> Error {
    let routine = error.as_db_error().and_then(|answer| answer.routine()).map(str::to_owned);
    let code = error.code().map(|code| code.code().to_owned());
    unconnected(options, code.as_deref(), routine.as_deref(), error)
}
