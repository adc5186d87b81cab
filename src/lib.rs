//! dbstress finds the double booking before the customers do.
//!
//! It seeds synthetic data in PostgreSQL, hammers it with contended operations, and proves with invariant SQL and a reconciled ledger
//! that nothing was overbooked, lost or applied twice. `docs/MAP.md` has a line for each module, `docs/METHOD.md` says what a verdict means.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
pub mod accuracy;
pub mod acgme;
pub mod annotated;
pub mod api;
pub mod audit;
pub mod bug;
pub mod cmd;
pub mod contract;
pub mod demand;
pub mod drill;
pub mod error;
pub mod fault;
pub mod files;
pub mod history;
pub mod http;
pub mod invariant;
pub mod metrics;
pub mod milliseconds;
pub mod outcome;
pub mod pace;
pub mod pg;
pub mod plan;
pub mod probe;
pub mod program;
pub mod proxy;
pub mod random;
pub mod record;
pub mod report;
pub mod request;
pub mod roster;
pub mod run;
pub mod scenario;
pub mod seed;
pub mod state;
pub mod storm;
pub mod strategy;
pub mod target;
pub mod text_file;
pub mod threshold;
pub mod token;
pub mod verdict;
pub mod workload;

pub use error::{Error, Result};
