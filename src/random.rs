//! Where do choices come from, so that they can be made again?
//!
//! SplitMix64, <https://prng.di.unimi.it/splitmix64.c>: our own few lines, because libraries change their streams between versions. A generator
//! is a number: made for each row or iteration in a few nanoseconds, and cloned where the same choices are needed twice.

use std::convert::Infallible;

use rand::TryRng;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of random numbers that is a function of three: two of the same `(rng_seed, stream, n)` draw the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// The source for item `n` of `stream`: a row of a table, an iteration of a VU. Neighbours have nothing to do with each other.
    /// Streams of one `rng_seed` must not be shared by different things; the first ones are the tables of a dataset.
    pub fn of(rng_seed: u64, stream: u64, n: u64) -> Self {
        let stream = mix(rng_seed ^ mix(stream.wrapping_add(1)));
        Self(mix(stream.wrapping_add(n.wrapping_mul(GOLDEN))))
    }

    /// The published generator, from its state.
    pub fn seeded(state: u64) -> Self {
        Self(state)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `n`, by multiply-shift; 0 if `n` is. The bias of n / 2⁶⁴ is nothing here. <https://arxiv.org/abs/1805.10941>
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number from 0 to 1, without 1, in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (-53f64).exp2()
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // The upper half: of a product the upper bits are the better ones.
        Ok((self.bits() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.bits())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;

    #[test]
    fn splitmix64_is_the_published_one() {
        let mut random = Random::seeded(1_234_567);
        assert_eq!([random.bits(), random.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn the_same_is_drawn_again_and_neighbours_are_unrelated() {
        let mut first = Random::of(42, 7, 3);
        let mut again = first.clone();
        let drawn: Vec<u64> = (0..10).map(|_| first.random_range(0..1000)).collect();
        assert_eq!((0..10).map(|_| again.random_range(0..1000)).collect::<Vec<u64>>(), drawn);
        let firsts: HashSet<u64> = (0..100).flat_map(|s| (0..100).map(move |n| Random::of(42, s, n).bits())).collect();
        assert_eq!(firsts.len(), 10_000);
        // Half of the bits differ between neighbours, in either direction.
        for (a, b) in [(Random::of(42, 0, 0), Random::of(42, 1, 0)), (Random::of(42, 0, 0), Random::of(42, 0, 1))] {
            let (mut a, mut b) = (a, b);
            let differing: u32 = (0..64).map(|_| (a.bits() ^ b.bits()).count_ones()).sum();
            assert!((1850..2250).contains(&differing), "{differing} of 4096");
        }
    }

    proptest! {
        #[test]
        fn below_stays_below(state: u64, n in 1u64..) {
            prop_assert!(Random::seeded(state).below(n) < n);
            prop_assert!((0.0..1.0).contains(&Random::seeded(state).unit()));
        }
    }
}
