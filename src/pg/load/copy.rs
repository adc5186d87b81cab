//! How do encoded rows get into a table as fast as the server takes them?
//!
//! Rows arrive already in binary COPY format and leave in messages of 64 KB: the driver's own binary writer goes through a trait object per
//! value and sends 4 KB at a time.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{Client, CopyInSink};

use super::{NO_TIMEOUT, UNHURRIED, connect};
use crate::pg::ConnectOptions;
use crate::{Error, Result};

/// Bytes per message to the server.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Signature, flags, length of the header extension. <https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4.5>
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Ends the data: a field count of −1.
const TRAILER: &[u8; 2] = &[0xff, 0xff];

/// A connection that only loads.
pub struct Loader {
    client: Client,
}

impl Loader {
    /// Connects. `role` shows as `dbstress/ROLE` in `pg_stat_activity`.
    ///
    /// # Errors
    /// As [`connect()`].
    pub async fn connect(options: &ConnectOptions, role: &str) -> Result<Self> {
        let client = connect(options, &format!("dbstress/{role}")).await?;
        // A load counts as done only when a later, synchronous commit says so; until then no commit needs to wait for the disk.
        client
            .batch_execute(&format!("{NO_TIMEOUT}; {UNHURRIED}; SET synchronous_commit = off"))
            .await
            .map_err(|e| refused("a loading connection could not be prepared", e))?;
        Ok(Self { client })
    }

    /// Begins a COPY into `table`. It is a transaction of its own; dropping it without [`CopyIn::finish`] takes it back.
    ///
    /// # Errors
    /// Inconclusive, with the server's answer.
    pub async fn copy_in(&self, table: &str, columns: &[&str]) -> Result<CopyIn> {
        let sql = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
        let failed = |e| refused(&format!("COPY into {table} failed"), e);
        let mut sink = Box::pin(self.client.copy_in(&sql).await.map_err(failed)?);
        sink.feed(Bytes::from_static(HEADER)).await.map_err(failed)?;
        Ok(CopyIn { sink, table: table.to_owned() })
    }
}

/// A COPY under way.
pub struct CopyIn {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    table: String,
}

impl CopyIn {
    /// Sends whole rows in binary COPY format. Waits while the server is slower than the caller: at most two messages are queued.
    ///
    /// # Errors
    /// Inconclusive, when the connection is lost.
    pub async fn send(&mut self, rows: Vec<u8>) -> Result<()> {
        let mut rest = Bytes::from(rows);
        while !rest.is_empty() {
            let message = rest.split_to(rest.len().min(MESSAGE_BYTES));
            self.sink.feed(message).await.map_err(|e| refused(&format!("COPY into {} failed", self.table), e))?;
        }
        Ok(())
    }

    /// Ends and commits it; the number of rows that the server took.
    ///
    /// # Errors
    /// Inconclusive, with the server's answer: a value it does not accept, a full disk, a lost connection.
    pub async fn finish(mut self) -> Result<u64> {
        let failed = |e| refused(&format!("COPY into {} failed", self.table), e);
        self.sink.feed(Bytes::from_static(TRAILER)).await.map_err(failed)?;
        self.sink.as_mut().finish().await.map_err(failed)
    }
}

fn refused(what: &str, error: tokio_postgres::Error) -> Error {
    if error.is_closed() {
        return Error::inconclusive(format!("{what}: PostgreSQL went away")).because(error);
    }
    Error::inconclusive(what).because(error)
}
