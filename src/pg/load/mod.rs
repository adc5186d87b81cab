//! The measured connections: one per virtual user, statements prepared once, and a transaction that knows how its COMMIT ended.

mod connect;
mod tx;

pub use connect::{Connection, Failure};
/// A prepared statement; a parameter; a row: what strategies and workloads speak in.
pub use tokio_postgres::{Row, Statement, types::ToSql};
pub use tx::{Ending, Isolation, Phase, Tx};
