//! When does each arrival of an open loop come? A pure function of the curve, the kind of arrivals and the rng_seed.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::Ramp;
use super::ramp::Segment;

/// How arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// At equal distances, as long as the rate stays the same
    Even,
    /// Independently of each other, as customers do; bursts and gaps included
    Poisson,
}

/// The arrivals of an open loop: their number (from 0) and their time, never decreasing, all before the end of the ramp.
///
/// *Even*: arrival n comes when the area below the ramp begins to exceed n. A constant rate of 100/s over 10 s is exactly 1,000 arrivals,
/// the first at 0 s and the last at 9.99 s.
///
/// *Poisson*: the gaps of a process of rate 1, exponential, are mapped through the inverse of the area below the ramp; that gives a Poisson
/// process whose rate is the ramp (E. Çınlar, *Introduction to Stochastic Processes*, 1975; as the time-rescaling theorem in E. N. Brown et
/// al., *Neural Computation* 14(2), 2002).
///
/// An arrival costs O(1), a segment of the ramp too.
#[derive(Debug)]
pub struct Arrivals {
    /// The segments that are not over, the next one last.
    segments: Vec<Segment>,
    /// The area of those that are over.
    passed: f64,
    /// The number of the next arrival.
    n: u64,
    /// The area at which the last arrival came.
    area: f64,
    /// When that was.
    last: Duration,
    /// Where gaps come from, if they are random.
    gaps: Option<ChaCha8Rng>,
}

impl Arrivals {
    /// The arrivals from the beginning; `rng_seed` matters to those at random only.
    pub fn new(ramp: &Ramp, arrival: Arrival, rng_seed: u64) -> Self {
        let mut segments: Vec<Segment> = ramp.segments().filter(|segment| segment.whole() > 0.0).collect();
        segments.reverse();
        let gaps = (arrival == Arrival::Poisson).then(|| ChaCha8Rng::seed_from_u64(rng_seed));
        Self { segments, passed: 0.0, n: 0, area: 0.0, last: Duration::ZERO, gaps }
    }
}

impl Iterator for Arrivals {
    type Item = (u64, Duration);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.gaps {
            None => self.area = self.n as f64,
            // The draw is below 1, so that its logarithm is finite.
            Some(rng) => self.area -= (-rng.random::<f64>()).ln_1p(),
        }
        loop {
            let segment = self.segments.last()?;
            let passed = self.passed + segment.whole();
            // The end of a segment belongs to the next one: there the area begins to exceed.
            if self.area < passed {
                let t = segment.reaches(self.area - self.passed);
                if t < segment.end {
                    // Nearer than a double can tell apart, two arrivals might come out in the wrong order.
                    self.last = self.last.max(t);
                    self.n += 1;
                    return Some((self.n - 1, self.last));
                }
            }
            self.passed = passed;
            self.segments.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pace::ramp::examples;

    fn times(ramp: &Ramp, arrival: Arrival, rng_seed: u64) -> Vec<Duration> {
        let arrivals: Vec<_> = Arrivals::new(ramp, arrival, rng_seed).collect();
        assert!(arrivals.iter().enumerate().all(|(i, (n, _))| i as u64 == *n));
        arrivals.into_iter().map(|(_, t)| t).collect()
    }

    #[test]
    fn a_constant_rate_gives_exactly_that_many() {
        for rate in [1.0, 3.0, 33.3, 100.0, 1234.5] {
            let times = times(&Ramp::constant(rate, Duration::from_secs(10)), Arrival::Even, 0);
            assert_eq!(times.len(), (rate * 10.0_f64).ceil() as usize, "{rate}");
            assert_eq!(times[0], Duration::ZERO);
        }
        let even = times(&Ramp::constant(100.0, Duration::from_secs(10)), Arrival::Even, 0);
        assert!(even.iter().zip(0_u64..).all(|(t, n)| *t == Duration::from_millis(10 * n)));
    }

    #[test]
    fn nothing_comes_while_the_rate_is_zero() {
        let stages = ["5s:0", "0s:2", "1s:2", "5s:0"].map(|stage| stage.parse().unwrap()).to_vec();
        let even = times(&Ramp { start: 0.0, stages }, Arrival::Even, 0);
        assert_eq!(even[..3], [5_000, 5_500, 6_000].map(Duration::from_millis));
        assert_eq!(even.len(), 7);
        assert_eq!(times(&Ramp::constant(0.0, Duration::from_secs(5)), Arrival::Poisson, 1), Vec::<Duration>::new());
        assert_eq!(times(&Ramp { start: 50.0, stages: Vec::new() }, Arrival::Even, 1), Vec::<Duration>::new());
    }

    #[test]
    fn random_arrivals_repeat_with_their_seed_alone() {
        let ramp = Ramp::constant(100.0, Duration::from_secs(10));
        assert_eq!(times(&ramp, Arrival::Poisson, 7), times(&ramp, Arrival::Poisson, 7));
        assert_ne!(times(&ramp, Arrival::Poisson, 7), times(&ramp, Arrival::Poisson, 8));
    }

    #[test]
    fn random_gaps_are_exponential() {
        // Mean and standard deviation of exponential gaps are equal; those of even ones are not.
        let times = times(&Ramp::constant(1000.0, Duration::from_secs(100)), Arrival::Poisson, 3);
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1000.0).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    proptest! {
        #[test]
        fn arrivals_are_monotone_and_end_with_the_ramp(ramp in examples(), rng_seed in any::<u64>()) {
            for arrival in [Arrival::Even, Arrival::Poisson] {
                let times = times(&ramp, arrival, rng_seed);
                prop_assert!(times.is_sorted());
                prop_assert!(times.last().is_none_or(|t| *t < ramp.duration()));
            }
        }

        #[test]
        fn even_arrivals_follow_the_integral(ramp in examples(), a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
            let [a, b] = [a.min(b), a.max(b)].map(|share| ramp.duration().mul_f64(share));
            let count = times(&ramp, Arrival::Even, 0).iter().filter(|t| a <= **t && **t <= b).count() as f64;
            let expected = ramp.integral(b) - ramp.integral(a);
            prop_assert!((count - expected).abs() <= 1.0 + 1e-6, "{} for {}", count, expected);
        }

        #[test]
        fn random_arrivals_are_as_many_as_expected(ramp in examples(), rng_seed in any::<u64>()) {
            let expected = ramp.integral(ramp.duration());
            let count = times(&ramp, Arrival::Poisson, rng_seed).len() as f64;
            // Six standard deviations; the tail of a small expectation is heavier than a normal one.
            prop_assert!((count - expected).abs() <= 6.0 * expected.sqrt() + 12.0, "{} for {}", count, expected);
        }
    }
}
