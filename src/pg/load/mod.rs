//! Connections for traffic in bulk and under measurement; the only module that names tokio-postgres.

pub mod copy;

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::{ConnectOptions, Host, SslMode};
use crate::{Error, Result};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects; a task of the current runtime drives the connection until the client is dropped.
///
/// # Errors
/// Inconclusive when nobody answers or the server refuses; usage when encryption is demanded.
pub async fn connect(options: &ConnectOptions, application_name: &str) -> Result<Client> {
    if !matches!(options.ssl_mode, SslMode::Disable | SslMode::Prefer) {
        return Err(Error::usage("the load connections cannot be encrypted yet").cure("sslmode=prefer or sslmode=disable"));
    }
    let mut config = tokio_postgres::Config::new();
    config.user(&options.user).dbname(&options.database).port(options.port).application_name(application_name);
    config.connect_timeout(CONNECT_TIMEOUT);
    match &options.host {
        Host::Tcp(host) => config.host(host),
        Host::Socket(directory) => config.host_path(directory),
    };
    if let Some(password) = &options.password {
        config.password(password);
    }
    let failed = |e| {
        Error::inconclusive(format!("could not connect to PostgreSQL at {options}"))
            .because(e)
            .cure("check the address and the role")
    };
    let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
    // Its end is seen by whoever uses the client.
    tokio::spawn(connection);
    Ok(client)
}
