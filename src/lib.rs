//! dbstress finds the double booking before the customers do.
//!
//! It seeds synthetic data in PostgreSQL, hammers it with contended operations, and proves with invariant SQL and a reconciled ledger
//! that nothing was overbooked, lost or applied twice. `docs/MAP.md` has a line for each module, `docs/METHOD.md` says what a verdict means.

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cmd;
pub mod error;
pub mod invariant;
pub mod pg;
pub mod report;
pub mod verdict;

pub use error::{Error, Result};
