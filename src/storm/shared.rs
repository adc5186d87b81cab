//! How does an application use tokio-postgres without a pool? One connection that all requests share, one after the other.

use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use super::{INSERT, Stack};
use crate::pg::ConnectOptions;
use crate::pg::admin::SqlError;
use crate::pg::load::config;

/// A connection behind a lock: a transaction needs it alone.
pub(super) struct Shared(Mutex<Client>);

impl Stack for Shared {
    async fn open(options: &ConnectOptions, name: &str, _: u32) -> Result<Self, SqlError> {
        let (client, connection) = config(options, name).connect(NoTls).await.map_err(refused)?;
        // Ends with the client; what it would say, the client says too.
        tokio::spawn(connection);
        Ok(Self(Mutex::new(client)))
    }

    async fn transact(&self, number: i64, begun: impl FnOnce()) -> Result<(), SqlError> {
        let mut client = self.0.lock().await;
        let transaction = client.transaction().await.map_err(refused)?;
        begun();
        transaction.execute(INSERT, &[&number]).await.map_err(refused)?;
        transaction.commit().await.map_err(refused)
    }

    async fn write(&self, number: i64) -> Result<i32, SqlError> {
        let row = self.0.lock().await.query_one(INSERT, &[&number]).await.map_err(refused)?;
        row.try_get(0).map_err(refused)
    }

    async fn close(self) {}
}

pub(super) fn refused(error: tokio_postgres::Error) -> SqlError {
    match error.as_db_error() {
        Some(refusal) => {
            SqlError { code: Some(refusal.code().code().to_owned()), message: refusal.message().to_owned(), position: None }
        }
        None => SqlError { code: None, message: error.to_string(), position: None },
    }
}
