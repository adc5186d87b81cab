//! How do `hash` and `permute` scatter numbers? The published functions, so that scripts meet the same rows as under pgbench.

use crate::random::Random;

/// MurmurHash2, 64 bits, of the eight bytes of a number. <https://github.com/aappleby/smhasher/blob/master/src/MurmurHash2.cpp>
pub(super) fn murmur2(value: i64, seed: i64) -> i64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let scramble = |x: u64| (x ^ (x >> 47)).wrapping_mul(M);
    let block = scramble((value as u64).wrapping_mul(M));
    let hash = (seed as u64 ^ M.wrapping_mul(8) ^ block).wrapping_mul(M);
    let hash = scramble(hash);
    (hash ^ (hash >> 47)) as i64
}

/// FNV-1a, 64 bits, of the eight bytes of a number, the lowest first. <http://www.isthe.com/chongo/tech/comp/fnv/>
pub(super) fn fnv1a(value: i64, seed: i64) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    value.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325 ^ seed as u64, step) as i64
}

/// Where `value` modulo `size` goes in a pseudorandom permutation of the numbers below `size`, which is at least 1: that of pgbench since
/// PostgreSQL 15. Six rounds, each a multiplication by an odd number, XOR and rotation of the lower and then of the upper part that is a power of
/// two in size, and an offset. <https://www.postgresql.org/docs/17/pgbench.html#PGBENCH-FUNCTIONS>
pub(super) fn permute(value: i64, size: i64, seed: i64) -> i64 {
    if size < 2 {
        return 0;
    }
    let size = size as u64;
    let bits = size.ilog2();
    let mask = (1u64 << bits) - 1;
    let mut random = Xoroshiro::of(seed as u64);
    let mut v = (value as u64) % size;
    for _ in 0..6 {
        for upper in [false, true] {
            let factor = (random.bits() & mask) | 1;
            let pattern = random.bits() & mask;
            let at = if upper { size - 1 - v } else { v };
            if at <= mask {
                let mixed = (at.wrapping_mul(factor) ^ pattern) & mask;
                let turned = ((mixed << 1) & mask) | (mixed >> (bits - 1));
                v = if upper { size - 1 - turned } else { turned };
            }
        }
        v = (v + random.at_most(size - 1)) % size;
    }
    v as i64
}

/// xoroshiro128**, seeded by SplitMix64. <https://prng.di.unimi.it/xoroshiro128starstar.c>
struct Xoroshiro(u64, u64);

impl Xoroshiro {
    fn of(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        Self(random.bits(), random.bits())
    }

    fn bits(&mut self) -> u64 {
        let Self(a, b) = *self;
        let b = a ^ b;
        *self = Self(a.rotate_left(24) ^ b ^ (b << 16), b.rotate_left(37));
        a.wrapping_mul(5).rotate_left(7).wrapping_mul(9)
    }

    /// A number from 0 to `most`, which is at least 1: the upper bits, until they fit.
    fn at_most(&mut self, most: u64) -> u64 {
        loop {
            let drawn = self.bits() >> most.leading_zeros();
            if drawn <= most {
                return drawn;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_permutations_are_those_of_pgbench() {
        assert_eq!(murmur2(10, 5432), -5_817_877_081_768_721_676);
        assert_eq!(fnv1a(10, 5432), -7_793_829_335_365_542_153);
        let size = i64::MAX - 10;
        let known = [
            520_382_784_483_822_430,
            1_143_715_004_660_802_862,
            447_293_596_416_496_998,
            916_527_772_266_572_956,
            2_763_809_008_686_028_849,
            8_648_551_549_198_294_572,
            4_542_876_852_200_565_125,
        ];
        for (below, expected) in (1..).zip(known) {
            assert_eq!(permute(size - below, size, 5432), expected);
        }
        assert_eq!([permute(0, 2, 5431), permute(1, 2, 5431), permute(0, 2, 5433), permute(1, 2, 5433)], [0, 1, 1, 0]);
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        for size in [1, 2, 3, 7, 16, 100] {
            let mut all: Vec<i64> = (0..size).map(|v| permute(v, size, 42)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..size).collect::<Vec<_>>());
        }
        assert_eq!(permute(-1, 10, 1), permute((u64::MAX % 10) as i64, 10, 1));
    }
}
