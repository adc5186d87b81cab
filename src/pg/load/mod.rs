//! Connections under measurement and for traffic in bulk; the only module that names tokio-postgres.
//!
//! One connection per virtual user, statements prepared once, and a transaction that knows how its COMMIT ended.

mod between;
mod connect;
pub mod copy;
mod handshake;
mod protocol;
mod spelled;
mod tls;
mod tx;
mod wire;

pub use between::{Between, Manner, is_pooler, keeps_statements, recognise, require_direct, scout};
pub use connect::{Connection, NO_TIMEOUT, UNHURRIED, connect};
pub(crate) use connect::{TOO_MANY, config, none_left};
pub use protocol::Protocol;
pub use tx::{Ending, Isolation, Phase, Tx};
/// What strategies and workloads speak in.
pub use wire::{Failure, Parameters, Reply, Row, ServerError, Statement, Transaction};
