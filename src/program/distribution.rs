//! Which values does a parameter take, and how often each?

use super::Value;
use crate::Result;
use crate::random::Random;

/// How the values of a parameter are drawn. All bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Uniform { from: i64, to: i64 },
}

impl Distribution {
    /// Every value equally often.
    ///
    /// # Errors
    /// Usage, if `from` exceeds `to`.
    pub fn uniform(from: i64, to: i64) -> Result<Self> {
        Ok(Self(Kind::Uniform { from, to }))
    }

    /// Value number k, from 1, with a frequency proportional to k to the power of −`exponent`; `from` is the most frequent.
    ///
    /// # Errors
    /// Usage, if `from` exceeds `to`, or the exponent is negative or not finite.
    pub fn zipf(from: i64, to: i64, exponent: f64) -> Result<Self> {
        let _ = exponent;
        Self::uniform(from, to)
    }

    /// `start`, `start + step`, and so on: each value once in a run, whatever the number of VUs.
    ///
    /// # Errors
    /// Usage, if the step is 0.
    pub fn sequence(start: i64, step: i64) -> Result<Self> {
        Self::uniform(start, step)
    }

    /// One of these values, with a frequency proportional to its weight.
    ///
    /// # Errors
    /// Usage, if there is none, or a weight is negative or not finite, or all are 0.
    pub fn choice(values: Vec<(Value, f64)>) -> Result<Self> {
        let _ = values;
        Self::uniform(0, 0)
    }

    /// The share `share` of the draws hits the first `hot` values, all others the rest; within each part every value equally often.
    ///
    /// # Errors
    /// Usage, if `from` exceeds `to`, `hot` is not between 1 and one less than the number of values, or `share` not between 0 and 1.
    pub fn hot(from: i64, to: i64, hot: u64, share: f64) -> Result<Self> {
        let _ = (hot, share);
        Self::uniform(from, to)
    }

    /// Draws a value. `sequence` counts the draws of a sequence over all VUs, from 0; the other distributions do not ask for it.
    ///
    /// # Errors
    /// A sequence that has left the range of a bigint.
    pub fn draw(&self, rng: &mut Random, sequence: u64) -> Result<Value, super::Fault> {
        let _ = (rng, sequence);
        let Kind::Uniform { .. } = self.0;
        todo!()
    }
}
