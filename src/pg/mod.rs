//! PostgreSQL: how to reach it, run a private one, ask it questions and put it under load.
//!
//! Two drivers, two jobs: only [`load`] names tokio-postgres (measured traffic), only [`admin`] names sqlx (everything else).

pub mod admin;
pub mod cluster;
pub mod load;
pub mod options;
pub mod pool;
pub mod retry;
pub mod same;
pub mod tally;
mod unconnected;

pub use options::{ClientCertificate, ConnectOptions, Conninfo, Host, Place, SessionOptions, SslMode, TargetSessionAttrs};
