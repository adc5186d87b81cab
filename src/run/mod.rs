//! One run, from plan to record: controls, turns, audits, verdict.

pub mod drive;
pub mod stock;
mod vu;
