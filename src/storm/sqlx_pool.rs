//! How does an application use sqlx? A `PgPool` with a limit and otherwise the defaults, and `begin()` of the pool.

use sqlx::postgres::{PgPool, PgPoolOptions, PgSslMode};

use super::{INSERT, Stack};
use crate::pg::ConnectOptions;
use crate::pg::admin::{SqlError, driver_options};

/// The pool.
pub(super) struct Sqlx(PgPool);

impl Stack for Sqlx {
    async fn open(options: &ConnectOptions, name: &str, size: u32) -> Result<Self, SqlError> {
        let driver = driver_options(options, name).ssl_mode(PgSslMode::Disable);
        Ok(Self(PgPoolOptions::new().max_connections(size).connect_with(driver).await?))
    }

    async fn transact(&self, number: i64, begun: impl FnOnce()) -> Result<(), SqlError> {
        let mut transaction = self.0.begin().await?;
        begun();
        sqlx::query(INSERT).bind(number).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn write(&self, number: i64) -> Result<i32, SqlError> {
        Ok(sqlx::query_scalar(INSERT).bind(number).fetch_one(&self.0).await?)
    }

    async fn close(self) {
        self.0.close().await;
    }
}
