//! When is an attempt worth another, and how long to wait first?

use std::time::Duration;

use rand::{Rng, RngExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an iteration goes on after an attempt that may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// From the start of the iteration to the last moment at which an attempt may begin.
    #[serde(rename = "deadline_ms", with = "crate::milliseconds")]
    pub deadline: Duration,
    /// Largest number of attempts; `None` = as many as the deadline allows.
    pub attempts: Option<u16>,
    /// The pause before the next attempt.
    #[serde(default)]
    pub backoff: Backoff,
}

/// The pause before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// Growing, and random, so that those that met once do not meet again
    #[default]
    Jitter,
    /// At once, as pgbench does
    None,
}

impl Backoff {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Jitter => "jitter",
            Self::None => "none",
        }
    }
}

impl Default for Retry {
    /// Until a definite answer, ten seconds at most.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), attempts: None, backoff: Backoff::Jitter }
    }
}

/// First and largest pause with full jitter: short, since a contest on one row is decided within milliseconds.
const JITTER_BASE_MS: u64 = 2;
const JITTER_CAP_MS: u64 = 16;
/// The schedule of a bounded policy: 10, 20, 40, 80 ms … at most one second, ±5 %.
const DOUBLING_BASE_MS: u64 = 10;
const DOUBLING_CAP_MS: u64 = 1_000;
/// A server that lets nobody in is recovering, or gone: first and largest cap of the pause before it is asked again.
const KNOCK_BASE_MS: u64 = 5;
const KNOCK_CAP_MS: u64 = 160;

impl Retry {
    /// The pause before a connection is tried for again that could not be opened `times` times: jittered, doubling.
    pub fn knock(times: u16, rng: &mut impl Rng) -> Duration {
        let cap = (KNOCK_BASE_MS << u32::from(times.saturating_sub(1)).min(8)).min(KNOCK_CAP_MS);
        Duration::from_micros(rng.random_range(cap * 500..=cap * 1_000))
    }

    /// The pause before the attempt after `made` attempts; `None` if none is left.
    ///
    /// Without a bound on attempts: full jitter, uniform between nothing and a doubling cap, which spreads synchronised clients best.
    /// With a bound: the doubling schedule with ±5 % that applications with a fixed number of attempts use.
    pub fn pause(&self, made: u16, elapsed: Duration, rng: &mut impl Rng) -> Option<Duration> {
        if elapsed >= self.deadline || self.attempts.is_some_and(|most| made >= most) {
            return None;
        }
        if self.backoff == Backoff::None {
            return Some(Duration::ZERO);
        }
        let doublings = u32::from(made.saturating_sub(1)).min(16);
        let pause = match self.attempts {
            None => {
                let cap = (JITTER_BASE_MS << doublings).min(JITTER_CAP_MS);
                Duration::from_micros(rng.random_range(0..=cap * 1_000))
            }
            Some(_) => {
                let base = (DOUBLING_BASE_MS << doublings).min(DOUBLING_CAP_MS);
                Duration::from_micros(rng.random_range(base * 950..=base * 1_050))
            }
        };
        Some(pause.min(self.deadline.saturating_sub(elapsed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::ChaCha8Rng};

    #[test]
    fn a_bounded_policy_doubles_from_ten_milliseconds_and_ends() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let retry = Retry { attempts: Some(5), ..Retry::default() };
        for (made, base) in [(1, 10.0), (2, 20.0), (3, 40.0), (4, 80.0)] {
            let pause = retry.pause(made, Duration::ZERO, &mut rng).unwrap().as_secs_f64() * 1e3;
            assert!((pause / base - 1.0).abs() <= 0.0501, "{made}: {pause}");
        }
        assert_eq!(retry.pause(5, Duration::ZERO, &mut rng), None, "the fifth attempt is the last");
    }

    #[test]
    fn who_is_not_let_in_knocks_ever_more_seldom() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (times, cap) in [(1, 5), (2, 10), (6, 160), (60_000, 160)] {
            let pause = Retry::knock(times, &mut rng);
            assert!(pause >= Duration::from_millis(cap) / 2 && pause <= Duration::from_millis(cap), "{times}: {pause:?}");
        }
    }

    #[test]
    fn a_policy_without_pauses_ends_as_the_others_do() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let retry = Retry { attempts: Some(2), backoff: Backoff::None, ..Retry::default() };
        assert_eq!(retry.pause(1, Duration::ZERO, &mut rng), Some(Duration::ZERO));
        assert_eq!(retry.pause(2, Duration::ZERO, &mut rng), None);
    }

    #[test]
    fn an_unbounded_policy_goes_on_until_its_deadline_and_never_past_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let retry = Retry::default();
        for made in 1..2_000 {
            assert!(retry.pause(made, Duration::from_secs(9), &mut rng).unwrap() <= Duration::from_millis(JITTER_CAP_MS));
        }
        assert!(retry.pause(1, Duration::from_millis(9_999), &mut rng).unwrap() <= Duration::from_millis(1));
        assert_eq!(retry.pause(1, Duration::from_secs(10), &mut rng), None);
    }
}
