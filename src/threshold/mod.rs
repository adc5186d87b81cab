//! Does a figure keep its promise? A threshold's grammar, and its judgement from what was measured. Pure.
//!
//! A threshold is `METRIC:FIGURE OPERATOR LIMIT`; a dot does for the colon, spaces do not matter, and an operation may stand before the
//! metric.
//!
//! | metric | means | figures | limit |
//! |---|---|---|---|
//! | `response`, `service` | response and service time of iterations that **committed**; never of refusals or errors, which may be fast | `p(N)`, `avg`, `med`, `min`, `max` | `200ms`, `1.5s`; a plain number is milliseconds |
//! | `refused.response`, … | the same of another class of outcome: `committed`, `replayed`, `refused`, `aborted`, `unknown`, `rolled_back` | as above | as above |
//! | `wait`, `lag` | waiting for a connection of the pool; being later than scheduled | as above | as above |
//! | `committed`, `replayed`, `refused`, `aborted`, `unknown`, `rolled_back` | iterations by outcome | `count`, `rate` | `rate<1%` or `rate<0.01` is a share of iterations, `rate>=100/s` is per second |
//! | `pool_use`, `server_use` | how many of the pool's connections are lent; how many of the server's are taken, by whomever | `avg`, `max` | `90%` or `0.9` |
//! | `failed` | aborted or unknown | as above | as above |
//! | `iterations` | all of them | as above | `rate` only with `/s` |
//! | `checks` | what must be so in the answers of an API | as above | `rate>98%` is the share of looks at which it was so |
//! | `dropped` | scheduled arrivals that found nobody free | as above | a share is one of all arrivals, those that were served and those that were dropped |
//!
//! k6's spellings are read too: `iteration_duration:p(95)<500`, `op_duration{op:reserve}:p(95)<500`, `iterations:rate>100` (per second),
//! `dropped_iterations:count==0`, `iteration_failed:rate<0.01`.

mod judge;
mod parse;

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::metrics::Time;
use crate::outcome::OutcomeClass;
use crate::pace::duration_text;

pub use judge::{Judgement, Source, State};

/// A limit that a figure has to keep. Read with [`str::parse`]; equal promises print equally, however they were typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Whether the run stops as soon as it is missed.
    pub abort_on_fail: bool,
    operation: Option<String>,
    figure: Figure,
    operator: Operator,
    /// Nanoseconds, a number, a share (0 to 1), or per second, as the figure is.
    limit: f64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// A statistic of times.
    Time(Timed, Statistic),
    /// How many.
    Count(Counter),
    /// How many per second.
    PerSecond(Counter),
    /// Which part of all iterations, 0 to 1; of dropped arrivals, which part of all arrivals.
    Share(Counter),
    /// Which part of what is limited is used, 0 to 1: on average, or at most.
    Use(Limited, Peak),
}

/// What there is only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Connections of the pool.
    Pool,
    /// Connections that the server takes.
    Server,
}

impl Limited {
    const ALL: [Self; 2] = [Self::Pool, Self::Server];

    fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool_use",
            Self::Server => "server_use",
        }
    }
}

/// When it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peak {
    /// All the time.
    Average,
    /// When most is used.
    Maximum,
}

/// How much of something limited is used, as shares of 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// On average.
    pub average: f64,
    /// At most.
    pub maximum: f64,
    /// Samples behind it.
    pub samples: u64,
}

/// What takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// Iterations with one class of outcome.
    Iteration(OutcomeClass, Time),
    /// Waiting for a connection of the pool.
    Wait,
    /// Being later than scheduled.
    Lag,
}

/// A statistic of times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// So many percent were at most this; above 0 and below 100.
    Percentile(f64),
    /// The mean.
    Average,
    /// The smallest.
    Minimum,
    /// The largest.
    Maximum,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Iterations with one class of outcome.
    Class(OutcomeClass),
    /// Iterations that aborted or are unknown.
    Failed,
    /// All iterations.
    Iterations,
    /// Arrivals that found nobody free.
    Dropped,
    /// Looks at answers at which what must be so was so.
    Checks,
}

/// How a figure is compared with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Operator {
    const ALL: [Self; 6] = [Self::Less, Self::AtMost, Self::Greater, Self::AtLeast, Self::Equal, Self::NotEqual];

    fn text(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        }
    }

    /// Whether a value keeps the limit.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::Greater => value > limit,
            Self::AtLeast => value >= limit,
            Self::Equal => value == limit,
            Self::NotEqual => value != limit,
        }
    }

    /// Whether more is better: `>` and `>=`.
    pub fn is_floor(self) -> bool {
        matches!(self, Self::Greater | Self::AtLeast)
    }
}

impl Threshold {
    /// The operation that it is about; `None` is all of them.
    pub fn operation(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    /// Whether it is about what a client waits for: response time, service time, or the wait for a connection.
    pub fn is_latency(&self) -> bool {
        matches!(self.figure, Figure::Time(Timed::Iteration(..) | Timed::Wait, _))
    }

    /// Whether it is about the load generator alone: lag, dropped arrivals.
    pub fn is_of_generator(&self) -> bool {
        matches!(
            self.figure,
            Figure::Time(Timed::Lag, _)
                | Figure::Count(Counter::Dropped)
                | Figure::PerSecond(Counter::Dropped)
                | Figure::Share(Counter::Dropped)
        )
    }

    /// What is counted, if it is about a number, a rate or a share.
    pub fn counter(&self) -> Option<Counter> {
        match self.figure {
            Figure::Count(counter) | Figure::PerSecond(counter) | Figure::Share(counter) => Some(counter),
            Figure::Time(..) | Figure::Use(..) => None,
        }
    }

    /// What is measured.
    pub fn figure(&self) -> Figure {
        self.figure
    }

    /// How it is compared.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// With what: nanoseconds, a number, a share (0 to 1), or per second, as the figure is.
    pub fn limit(&self) -> f64 {
        self.limit
    }
}

fn class_name(class: OutcomeClass) -> &'static str {
    match class {
        OutcomeClass::Committed => "committed",
        OutcomeClass::Replayed => "replayed",
        OutcomeClass::Refused => "refused",
        OutcomeClass::Aborted => "aborted",
        OutcomeClass::Unknown => "unknown",
        OutcomeClass::RolledBack => "rolled_back",
    }
}

impl Counter {
    fn name(self) -> &'static str {
        match self {
            Self::Class(class) => class_name(class),
            Self::Failed => "failed",
            Self::Iterations => "iterations",
            Self::Dropped => "dropped",
            Self::Checks => "checks",
        }
    }
}

/// The one spelling: `reserve.response:p(95)<200ms`.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operation) = &self.operation {
            write!(f, "{operation}.")?;
        }
        let operator = self.operator.text();
        match self.figure {
            Figure::Time(timed, statistic) => {
                match timed {
                    Timed::Iteration(class, time) => {
                        if class != OutcomeClass::Committed {
                            write!(f, "{}.", class_name(class))?;
                        }
                        f.write_str(if time == Time::Response { "response" } else { "service" })?;
                    }
                    Timed::Wait => f.write_str("wait")?,
                    Timed::Lag => f.write_str("lag")?,
                }
                match statistic {
                    Statistic::Percentile(percent) => write!(f, ":p({percent})")?,
                    Statistic::Average => f.write_str(":avg")?,
                    Statistic::Minimum => f.write_str(":min")?,
                    Statistic::Maximum => f.write_str(":max")?,
                }
                // At most an hour: whole nanoseconds are exact in a double.
                write!(f, "{operator}{}", duration_text(std::time::Duration::from_nanos(self.limit as u64)))
            }
            Figure::Count(counter) => write!(f, "{}:count{operator}{}", counter.name(), self.limit),
            Figure::PerSecond(counter) => write!(f, "{}:rate{operator}{}/s", counter.name(), self.limit),
            Figure::Share(counter) => write!(f, "{}:rate{operator}{}", counter.name(), self.limit),
            Figure::Use(limited, peak) => {
                let peak = if peak == Peak::Average { "avg" } else { "max" };
                write!(f, "{}:{peak}{operator}{}", limited.name(), self.limit)
            }
        }
    }
}

/// A string, or a table when the run is to stop: `{ threshold = "…", abort_on_fail = true }`.
impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.abort_on_fail {
            return serializer.collect_str(self);
        }
        let mut table = serializer.serialize_struct("Threshold", 2)?;
        table.serialize_field("threshold", &self.to_string())?;
        table.serialize_field("abort_on_fail", &true)?;
        table.end()
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would hide what is wrong with the text.
        deserializer.deserialize_any(Spelling)
    }
}

struct Spelling;

impl<'de> Visitor<'de> for Spelling {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a threshold, or a table { threshold = \"…\", abort_on_fail = true }")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Threshold, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Threshold, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            threshold: String,
            #[serde(default)]
            abort_on_fail: bool,
        }
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let threshold: Threshold = table.threshold.parse().map_err(serde::de::Error::custom)?;
        Ok(Threshold { abort_on_fail: table.abort_on_fail, ..threshold })
    }
}
