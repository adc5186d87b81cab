//! Connections under measurement and for traffic in bulk; the only module that names tokio-postgres.
//!
//! One connection per virtual user, statements prepared once, and a transaction that knows how its COMMIT ended.

mod connect;
pub mod copy;
mod handshake;
mod tls;
mod tx;
mod wire;

pub use connect::{Connection, connect};
pub use tx::{Ending, Isolation, Phase, Tx};
/// What strategies and workloads speak in.
pub use wire::{Failure, Parameters, Reply, Row, ServerError, Statement, Transaction};
