//! How does an application use deadpool-postgres? A pool with the defaults of the crate, and `transaction()` of what it lends.

use deadpool_postgres::{Manager, Object, Pool, PoolError};
use tokio_postgres::NoTls;

use super::shared::refused;
use super::{INSERT, Stack};
use crate::pg::ConnectOptions;
use crate::pg::admin::SqlError;
use crate::pg::load::config;

/// The pool.
pub(super) struct Pooled(Pool);

impl Pooled {
    /// Waits for a connection.
    pub async fn lend(&self) -> Result<Object, SqlError> {
        self.0.get().await.map_err(|error| match error {
            PoolError::Backend(error) => refused(error),
            other => SqlError { code: None, message: other.to_string(), position: None },
        })
    }
}

impl Stack for Pooled {
    async fn open(options: &ConnectOptions, name: &str, size: u32) -> Result<Self, SqlError> {
        let manager = Manager::new(config(options, name), NoTls);
        let pool = Pool::builder(manager).max_size(size as usize).build();
        pool.map(Self).map_err(|error| SqlError { code: None, message: error.to_string(), position: None })
    }

    async fn transact(&self, number: i64, begun: impl FnOnce()) -> Result<(), SqlError> {
        let mut object = self.lend().await?;
        let transaction = object.transaction().await.map_err(refused)?;
        begun();
        transaction.execute(INSERT, &[&number]).await.map_err(refused)?;
        transaction.commit().await.map_err(refused)
    }

    async fn write(&self, number: i64) -> Result<i32, SqlError> {
        let row = self.lend().await?.query_one(INSERT, &[&number]).await.map_err(refused)?;
        row.try_get(0).map_err(refused)
    }

    async fn close(self) {
        self.0.close();
    }
}
