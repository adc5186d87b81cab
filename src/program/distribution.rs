//! Which values does a parameter take, and how often each?

use rand_distr::{Distribution as _, StandardNormal, Zipf};

use super::{Miscalculation, Value};
use crate::random::Random;
use crate::{Error, Result};

/// How the values of a parameter are drawn. All bounds are inclusive.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Uniform {
        from: i64,
        to: i64,
    },
    Zipf {
        from: i64,
        to: i64,
        ranks: Zipf<f64>,
    },
    Sequence {
        start: i64,
        step: i64,
    },
    /// Each value with the sum of the weights up to and with its own.
    Choice(Box<[(Value, f64)]>),
    Hot {
        from: i64,
        last_hot: i64,
        to: i64,
        share: f64,
    },
}

impl Distribution {
    /// Every value equally often.
    ///
    /// # Errors
    /// Usage, if `from` exceeds `to`.
    pub fn uniform(from: i64, to: i64) -> Result<Self> {
        in_order(from, to)?;
        Ok(Self(Kind::Uniform { from, to }))
    }

    /// Value number k, from 1, with a frequency proportional to k to the power of −`exponent`; `from` is the most frequent.
    ///
    /// # Errors
    /// Usage, if `from` exceeds `to`, or the exponent is negative or not finite.
    pub fn zipf(from: i64, to: i64, exponent: f64) -> Result<Self> {
        in_order(from, to)?;
        let ranks = Some(exponent).filter(|e| e.is_finite()).and_then(|e| Zipf::new(values(from, to), e).ok());
        let ranks = ranks.ok_or_else(|| {
            Error::usage(format!("a Zipf distribution cannot have the exponent {exponent}"))
                .cure("a number from 0, such as 1.0; 0 is uniform")
        })?;
        Ok(Self(Kind::Zipf { from, to, ranks }))
    }

    /// `start`, `start + step`, and so on: each value once in a run, whatever the number of VUs.
    ///
    /// # Errors
    /// Usage, if the step is 0.
    pub fn sequence(start: i64, step: i64) -> Result<Self> {
        match step {
            0 => Err(Error::usage("a sequence with a step of 0 would always be the same").cure("a step other than 0, such as 1")),
            _ => Ok(Self(Kind::Sequence { start, step })),
        }
    }

    /// One of these values, with a frequency proportional to its weight.
    ///
    /// # Errors
    /// Usage, if there is none, or a weight is not a finite number above 0.
    pub fn choice(values: Vec<(Value, f64)>) -> Result<Self> {
        if values.is_empty() {
            return Err(Error::usage("there is nothing to choose from").cure("at least one value"));
        }
        if let Some((_, weight)) = values.iter().find(|(_, weight)| !(weight.is_finite() && *weight > 0.0)) {
            return Err(Error::usage(format!("a choice cannot have the weight {weight}")).cure("a number above 0"));
        }
        let mut sum = 0.0;
        let summed = values.into_iter().map(|(value, weight)| {
            sum += weight;
            (value, sum)
        });
        Ok(Self(Kind::Choice(summed.collect())))
    }

    /// The share `share` of the draws hits the first `hot` values, all others the rest; within each part every value equally often.
    ///
    /// # Errors
    /// Usage, if `from` exceeds `to`, `hot` is not between 1 and one less than the number of values, or `share` not between 0 and 1.
    pub fn hot(from: i64, to: i64, hot: u64, share: f64) -> Result<Self> {
        in_order(from, to)?;
        let others = to.abs_diff(from);
        if !(1..=others).contains(&hot) {
            return Err(Error::usage(format!("{hot} of the values from {from} to {to} cannot be the hot ones"))
                .cure("at least 1, and fewer than there are"));
        }
        if !(0.0..=1.0).contains(&share) {
            return Err(
                Error::usage(format!("{share} of the draws cannot hit the hot values")).cure("a share from 0 to 1, such as 0.9")
            );
        }
        Ok(Self(Kind::Hot { from, last_hot: from.wrapping_add_unsigned(hot - 1), to, share }))
    }

    /// Draws a value. `sequence` counts the draws of a sequence over all VUs, from 0; the other distributions do not ask for it.
    ///
    /// # Errors
    /// A sequence that has left the range of a bigint.
    pub fn draw(&self, rng: &mut Random, sequence: u64) -> Result<Value, Miscalculation> {
        Ok(Value::Integer(match &self.0 {
            Kind::Uniform { from, to } => uniform(rng, *from, *to),
            Kind::Zipf { from, to, ranks } => ranked(rng, *from, *to, ranks),
            Kind::Sequence { start, step } => i64::try_from(i128::from(*start) + i128::from(*step) * i128::from(sequence))
                .map_err(|_| Miscalculation::new("the sequence has left the range of a bigint"))?,
            Kind::Choice(values) => {
                let sum = values.last().map_or(0.0, |(_, sum)| *sum);
                let at = rng.unit() * sum;
                // Rounding can make the product as large as the sum itself.
                let index = values.partition_point(|(_, sum)| *sum <= at).min(values.len() - 1);
                return Ok(values[index].0.clone());
            }
            Kind::Hot { from, last_hot, to, share } => match rng.unit() < *share {
                true => uniform(rng, *from, *last_hot),
                false => uniform(rng, last_hot.wrapping_add(1), *to),
            },
        }))
    }

    /// Whether it asks for the number of the draw.
    pub fn is_sequence(&self) -> bool {
        matches!(self.0, Kind::Sequence { .. })
    }
}

fn in_order(from: i64, to: i64) -> Result<()> {
    match from <= to {
        true => Ok(()),
        false => Err(Error::usage(format!("there are no values from {from} to {to}")).cure("the smaller bound first")),
    }
}

/// How many values there are from `from` to `to`, as near as a double can say.
fn values(from: i64, to: i64) -> f64 {
    to.abs_diff(from) as f64 + 1.0
}

/// Every value from `from` to `to` equally often.
pub(super) fn uniform(rng: &mut Random, from: i64, to: i64) -> i64 {
    let offset = match to.abs_diff(from).checked_add(1) {
        Some(values) => rng.below(values),
        None => rng.bits(),
    };
    from.wrapping_add_unsigned(offset)
}

/// The value at a fraction of the way from `from` to `to`; the fraction is at least 0 and less than 1.
fn at_fraction(from: i64, to: i64, fraction: f64) -> i64 {
    // Where doubles are coarser than integers the product can reach the number of values.
    from.wrapping_add_unsigned(((values(from, to) * fraction) as u64).min(to.abs_diff(from)))
}

fn ranked(rng: &mut Random, from: i64, to: i64, ranks: &Zipf<f64>) -> i64 {
    from.wrapping_add_unsigned((ranks.sample(rng) as u64).saturating_sub(1).min(to.abs_diff(from)))
}

/// As `random_zipfian`: [`Distribution::zipf`] with an exponent from 1.001 to 1000.
pub(super) fn zipfian(rng: &mut Random, from: i64, to: i64, exponent: f64) -> Result<i64, Miscalculation> {
    let ranks = Some(exponent).filter(|e| (1.001..=1000.0).contains(e)).and_then(|e| Zipf::new(values(from, to), e).ok());
    let ranks =
        ranks.ok_or_else(|| Miscalculation::new(format!("the zipfian parameter must be from 1.001 to 1000, not {exponent}")))?;
    Ok(ranked(rng, from, to, &ranks))
}

/// As `random_gaussian`: a normal distribution around the middle, cut off `parameter` standard deviations to either side.
pub(super) fn gaussian(rng: &mut Random, from: i64, to: i64, parameter: f64) -> Result<i64, Miscalculation> {
    if parameter.is_nan() || parameter < 2.0 {
        return Err(Miscalculation::new(format!("the gaussian parameter must be at least 2, not {parameter}")));
    }
    loop {
        let deviation: f64 = StandardNormal.sample(rng);
        if (-parameter..parameter).contains(&deviation) {
            return Ok(at_fraction(from, to, (deviation + parameter) / (2.0 * parameter)));
        }
    }
}

/// As `random_exponential`: a density that falls from `from` to `to` by the factor exp(−`parameter`).
pub(super) fn exponential(rng: &mut Random, from: i64, to: i64, parameter: f64) -> Result<i64, Miscalculation> {
    if parameter.is_nan() || parameter <= 0.0 {
        return Err(Miscalculation::new(format!("the exponential parameter must be greater than 0, not {parameter}")));
    }
    // The inverse of the distribution function 1 − exp(−parameter × x), cut off at 1; written so that a small parameter loses no digits.
    let fraction = -(rng.unit() * (-parameter).exp_m1()).ln_1p() / parameter;
    Ok(at_fraction(from, to, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 20_000;

    fn mean(mut draw: impl FnMut(&mut Random) -> i64) -> f64 {
        let mut rng = Random::of(42, 0, 0);
        (0..DRAWS).map(|_| draw(&mut rng) as f64).sum::<f64>() / f64::from(DRAWS)
    }

    fn draw(distribution: &Distribution, rng: &mut Random) -> i64 {
        distribution.draw(rng, 0).unwrap().as_integer().unwrap()
    }

    fn share(distribution: &Distribution, of: impl Fn(i64) -> bool) -> f64 {
        mean(|rng| i64::from(of(draw(distribution, rng))))
    }

    #[test]
    fn means_and_shares_are_those_of_the_formulas() {
        let near = |value: f64, expected: f64, by: f64| assert!((value - expected).abs() < by, "{value}, not {expected}");
        near(mean(|rng| uniform(rng, 1, 100)), 50.5, 1.0);
        near(mean(|rng| gaussian(rng, 1, 100, 2.5).unwrap()), 50.5, 1.0);
        // E = 1/p − 1/(eᵖ − 1) of the way.
        near(mean(|rng| exponential(rng, 0, 999, 5.0).unwrap()), 1000.0 * (1.0 / 5.0 - 1.0 / (5f64.exp() - 1.0)) - 0.5, 4.0);
        near(mean(|rng| exponential(rng, 0, 999, 1e-12).unwrap()), 499.5, 8.0);
        // 1/H(10, 1) of the draws hit the first of ten.
        let harmonic = |s: f64| (1..=10).map(|k| f64::from(k).powf(-s)).sum::<f64>();
        near(mean(|rng| i64::from(zipfian(rng, 1, 10, 1.5).unwrap() == 1)), 1.0 / harmonic(1.5), 0.02);
        near(share(&Distribution::zipf(1, 10, 1.0).unwrap(), |v| v == 1), 1.0 / harmonic(1.0), 0.02);
        near(share(&Distribution::zipf(1, 10, 0.0).unwrap(), |v| v == 10), 0.1, 0.02);
        near(share(&Distribution::hot(1, 1000, 10, 0.9).unwrap(), |v| v <= 10), 0.9, 0.02);
        let choice = Distribution::choice(vec![(Value::Integer(1), 3.0), (Value::Integer(2), 1.0)]).unwrap();
        near(share(&choice, |v| v == 1), 0.75, 0.02);
    }

    #[test]
    fn draws_keep_to_their_bounds_and_can_be_made_again() {
        let (least, most) = (i64::MIN, i64::MAX);
        for (from, to) in [(5, 5), (-3, 3), (0, most), (least, most), (most - 1, most)] {
            let mut rng = Random::of(1, 2, 3);
            for _ in 0..200 {
                let drawn = [
                    uniform(&mut rng, from, to),
                    gaussian(&mut rng, from, to, 2.0).unwrap(),
                    exponential(&mut rng, from, to, 0.1).unwrap(),
                    exponential(&mut rng, from, to, 700.0).unwrap(),
                    zipfian(&mut rng, from, to, 1.001).unwrap(),
                    zipfian(&mut rng, from, to, 1000.0).unwrap(),
                    draw(&Distribution::zipf(from, to, 0.5).unwrap(), &mut rng),
                ];
                assert!(drawn.iter().all(|v| (from..=to).contains(v)), "{from} to {to}: {drawn:?}");
            }
        }
        let zipf = Distribution::zipf(1, 1_000_000, 1.1).unwrap();
        let series = || Vec::from_iter((0..100).map(|n| draw(&zipf, &mut Random::of(42, 7, n))));
        assert_eq!(series(), series());
        let hot = Distribution::hot(least, most, 1, 0.0).unwrap();
        assert_ne!(draw(&hot, &mut Random::of(1, 1, 1)), least);
    }

    #[test]
    fn a_sequence_counts_and_ends() {
        let sequence = Distribution::sequence(100, -2).unwrap();
        let mut rng = Random::of(1, 1, 1);
        assert_eq!([0, 1, 5].map(|n| sequence.draw(&mut rng, n).unwrap()), [100, 98, 90].map(Value::Integer));
        assert!(sequence.draw(&mut rng, u64::MAX).unwrap_err().to_string().contains("bigint"));
    }

    #[test]
    fn what_cannot_be_drawn_from_is_refused() {
        for refused in [
            Distribution::uniform(2, 1),
            Distribution::zipf(2, 1, 1.0),
            Distribution::zipf(1, 2, -1.0),
            Distribution::zipf(1, 2, f64::INFINITY),
            Distribution::zipf(1, 2, f64::NAN),
            Distribution::sequence(1, 0),
            Distribution::choice(vec![]),
            Distribution::choice(vec![(Value::Null, 0.0)]),
            Distribution::choice(vec![(Value::Null, f64::NAN)]),
            Distribution::hot(2, 1, 1, 0.5),
            Distribution::hot(1, 10, 0, 0.5),
            Distribution::hot(1, 10, 10, 0.5),
            Distribution::hot(1, 10, 1, 1.5),
        ] {
            assert!(refused.expect_err("refused").to_string().contains("cure:"));
        }
        let mut rng = Random::of(1, 1, 1);
        assert!(
            zipfian(&mut rng, 1, 2, 1.0).is_err()
                && gaussian(&mut rng, 1, 2, 1.9).is_err()
                && exponential(&mut rng, 1, 2, 0.0).is_err()
        );
        assert!(gaussian(&mut rng, 1, 2, f64::NAN).is_err() && exponential(&mut rng, 1, 2, f64::NAN).is_err());
    }
}
