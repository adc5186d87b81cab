//! What stands for the types of `pace`, `threshold` and `program` until they are here?

use std::time::Duration;

/// See `pace`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "replaced")]
pub struct Stage {
    pub duration: Duration,
    pub target: f64,
}

/// See `pace`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "replaced")]
pub struct Think {
    pub from: Duration,
    pub to: Duration,
}

/// See `pace`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "replaced")]
pub enum Arrival {
    Even,
    Poisson,
}

/// See `threshold`.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold(pub String);

/// See `program`.
#[derive(Debug, Clone)]
pub struct Program;
