//! What must be caught? A transaction of words alone: whoever is dropped after BEGIN gives the connection back as it is.

use super::deadpool::Pooled;
use super::shared::refused;
use super::{INSERT, Stack};
use crate::pg::ConnectOptions;
use crate::pg::admin::SqlError;

/// The pool of deadpool-postgres, and nobody who ends what was begun.
pub(super) struct Unguarded(Pooled);

impl Stack for Unguarded {
    async fn open(options: &ConnectOptions, name: &str, size: u32) -> Result<Self, SqlError> {
        Pooled::open(options, name, size).await.map(Self)
    }

    async fn transact(&self, number: i64, begun: impl FnOnce()) -> Result<(), SqlError> {
        let object = self.0.lend().await?;
        object.batch_execute("BEGIN").await.map_err(refused)?;
        begun();
        object.execute(INSERT, &[&number]).await.map_err(refused)?;
        object.batch_execute("COMMIT").await.map_err(refused)
    }

    async fn write(&self, number: i64) -> Result<i32, SqlError> {
        self.0.write(number).await
    }

    async fn close(self) {
        self.0.close().await;
    }
}
