//! How is a measured connection opened, checked, and given up?

use std::time::Duration;

use tokio_postgres::{CancelToken, Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Isolation, tls};
use crate::outcome::{Abort, Sqlstate};
use crate::pg::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An attempt that failed before COMMIT was sent: certainly not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it means.
    pub abort: Abort,
    /// The server's code and the routine that reported it, when it was the server that said no.
    pub server: Option<(Sqlstate, String)>,
}

impl Failure {
    /// A failure that no server reported.
    pub fn local(abort: Abort) -> Self {
        Self { abort, server: None }
    }

    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => {
                let code = Sqlstate::new(db.code().code());
                Self { abort: Abort::from_sqlstate(code), server: Some((code, db.routine().unwrap_or("unknown").to_owned())) }
            }
            None if error.is_closed() || is_io(error) => Self::local(Abort::ConnectionLost),
            None => Self::local(Abort::Other),
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>())
}

/// One open connection. Its driver task lives on the runtime that opened it.
pub struct Connection {
    pub(super) client: Client,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
}

impl Connection {
    /// Connects and proves that the server gives the isolation level that will be asked for, by reading it back.
    ///
    /// # Errors
    /// The failure of the connection or of the check.
    pub async fn open(options: &ConnectOptions, application_name: &str, isolation: Isolation) -> Result<Self> {
        let client = connect(options, application_name).await?;
        let connection = Self { cancel: client.cancel_token(), client, tls: tls::connector(options)? };
        connection.check_isolation(isolation).await?;
        Ok(connection)
    }

    async fn check_isolation(&self, isolation: Isolation) -> Result<()> {
        let failed = |e| Error::inconclusive("the isolation level could not be read back").because(e);
        self.client.batch_execute(isolation.begin()).await.map_err(failed)?;
        let row = self.client.query_one("SHOW transaction_isolation", &[]).await.map_err(failed)?;
        self.client.batch_execute("COMMIT").await.map_err(failed)?;
        let level: String = row.get(0);
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
    pub async fn prepare(&self, sql: &str) -> Result<Statement> {
        self.client.prepare(sql).await.map_err(|e| Error::inconclusive(format!("PostgreSQL refuses a statement: {sql}")).because(e))
    }

    /// Whether it can be used again.
    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Gives it up while a statement may still run: asks the server to cancel it, then lets go.
    /// The cancel request can hit the next statement, which is why the connection is not used again.
    pub async fn discard(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.cancel.cancel_query(self.tls)).await;
    }
}

/// Connects; a task of the present runtime drives the connection until the client is dropped.
///
/// # Errors
/// Inconclusive when nobody answers or the server refuses.
pub async fn connect(options: &ConnectOptions, application_name: &str) -> Result<Client> {
    let config = config(options, application_name);
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(tls::connector(options)?));
    let (client, driver) = connecting
        .await
        .map_err(|_| Error::inconclusive(format!("no answer from PostgreSQL at {options} within {} s", CONNECT_TIMEOUT.as_secs())))?
        .map_err(|e| open_error(options, e))?;
    // An error of the driver reaches every waiting query as "closed"; there is nobody else to tell.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(client)
}

fn config(options: &ConnectOptions, application_name: &str) -> Config {
    let mut config = Config::new();
    config.port(options.port).user(&options.user).dbname(&options.database).application_name(application_name);
    config.ssl_mode(match options.ssl_mode {
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
    let code = error.code().map(|c| c.code().to_owned());
    let message = match code.as_deref() {
        Some("53300") => format!("PostgreSQL at {options} has no connection left"),
        _ => format!("a load connection to PostgreSQL at {options} failed"),
    };
    let error = Error::inconclusive(message).because(error);
    match code.as_deref() {
        Some("53300") => error.cure("lower --vus, raise max_connections, or close other clients"),
        _ => error,
    }
}
