//! Rendering: what the user sees. Pure functions from a record to text, and the one screen that prints.

pub mod access;
pub mod accuracy;
pub mod bugs;
pub mod capacity;
pub mod config;
pub mod connections;
pub mod contention;
pub mod faults;
pub mod pool;
pub mod progress;
pub mod run;
mod schedules;
pub mod screen;
pub mod serve;
pub mod storm;
pub mod suite;
pub mod text;
pub mod timeline;
pub mod verify;
