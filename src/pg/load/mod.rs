//! Connections under measurement and for traffic in bulk; the only module that names tokio-postgres.
//!
//! One connection per virtual user, statements prepared once, and a transaction that knows how its COMMIT ended.

mod connect;
pub mod copy;
mod tls;
mod tx;

pub use connect::{Connection, Failure, connect};
/// A prepared statement; a parameter; a row: what strategies and workloads speak in.
pub use tokio_postgres::{Row, Statement, types::ToSql};
pub use tx::{Ending, Isolation, Phase, Tx};
