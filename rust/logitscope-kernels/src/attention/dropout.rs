//! Dropout: a weight counts 1 / (1 - rate) times, or not at all.
//!
//! Which ones count is a function of seed, batch element, query head, query and key alone, so neither tiles nor threads
//! nor instruction sets change it, and the backward pass draws the same again. The generator is Philox4x32-10 (Salmon
//! et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): its key is the seed, its counter (key / 4, query,
//! head, batch element), and the weight of a key is dropped when word `key % 4` is below `rate * 2^32`.

use super::tile::zeroed;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Counters that are enciphered together, one a lane.
const LANES: usize = 16;
type Words = [u32; LANES];

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// How many weights are dropped, and which.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of the weights that is dropped; at least 0, below 1.
    pub rate: f64,
    /// Another seed drops others.
    pub seed: u64,
}

impl Dropout {
    /// What the weight of a key is multiplied by.
    pub(super) fn factor(&self, batch: usize, head: usize, query: usize, key: usize) -> f64 {
        let counter = [key / 4, query, head, batch].map(|x| [x as u32; LANES]);
        self.factor_of(philox(self.cipher_key(), counter)[key % 4][0])
    }

    /// Fills `factors` with what the weights of the queries from `first_query` on are multiplied by, laid out as scores
    /// are: one row of `width` vectors a key.
    #[inline(always)]
    pub(super) fn fill<'a, T: Element>(
        &self,
        batch: usize,
        head: usize,
        first_query: usize,
        keys: &Range<usize>,
        width: usize,
        factors: &'a mut Vec<T::Block>,
    ) -> &'a [T::Block] {
        let factors = zeroed::<T>(factors, keys.len() * width);
        let (cipher_key, threshold) = (self.cipher_key(), self.threshold());
        let kept = T::from_f64(1.0 / (1.0 - self.rate));
        let blocks = LANES / T::LANES;
        for group in keys.start / 4..keys.end.div_ceil(4) {
            for block in (0..width).step_by(blocks) {
                let mut queries = [0; LANES];
                for (lane, query) in queries.iter_mut().enumerate() {
                    *query = (first_query + block * T::LANES + lane) as u32;
                }
                let counter = [[group as u32; LANES], queries, [head as u32; LANES], [batch as u32; LANES]];
                let words = philox(cipher_key, counter);
                for (word, key) in (group * 4..group * 4 + 4).enumerate() {
                    if !keys.contains(&key) {
                        continue;
                    }
                    let row = (key - keys.start) * width;
                    for (index, cell) in
                        factors[row + block..row + width.min(block + blocks)].iter_mut().enumerate()
                    {
                        for (lane, factor) in cell.as_mut().iter_mut().enumerate() {
                            let is_kept = words[word][index * T::LANES + lane] >= threshold;
                            *factor = if is_kept { kept } else { T::ZERO };
                        }
                    }
                }
            }
        }
        factors
    }

    fn cipher_key(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// Words below it are dropped.
    fn threshold(&self) -> u32 {
        // Saturates for a rate that rounds to 1.
        (self.rate * 2.0_f64.powi(32)).round() as u32
    }

    fn factor_of(&self, word: u32) -> f64 {
        if word < self.threshold() { 0.0 } else { 1.0 / (1.0 - self.rate) }
    }
}

/// Multiplies number by number.
#[inline(always)]
pub(super) fn multiply<T: Element, S: Simd<T>>(simd: S, factors: &[T::Block], panel: &mut [T::Block]) {
    for (cell, factor) in panel.iter_mut().zip(factors) {
        simd.store(simd.mul(simd.load(cell), simd.load(factor)), cell);
    }
}

/// Four random words for each counter.
#[inline(always)]
fn philox(mut key: [u32; 2], counter: [Words; 4]) -> [Words; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    for _ in 0..ROUNDS {
        let (mut next_a, mut next_b, mut next_c, mut next_d) = (a, b, c, d);
        for lane in 0..LANES {
            let low = u64::from(MULTIPLIERS[0]) * u64::from(a[lane]);
            let high = u64::from(MULTIPLIERS[1]) * u64::from(c[lane]);
            next_a[lane] = (high >> 32) as u32 ^ b[lane] ^ key[0];
            next_b[lane] = high as u32;
            next_c[lane] = (low >> 32) as u32 ^ d[lane] ^ key[1];
            next_d[lane] = low as u32;
        }
        (a, b, c, d) = (next_a, next_b, next_c, next_d);
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `kat_vectors` of the Random123 library.
    #[test]
    fn known_answers_of_philox4x32_with_ten_rounds() {
        let known = [
            ([0, 0], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (key, counter, wanted) in known {
            assert_eq!(philox(key, counter.map(|word| [word; LANES])), wanted.map(|word| [word; LANES]));
        }
    }

    #[test]
    fn the_factors_of_a_tile_are_those_of_its_scores_and_their_mean_is_one() {
        let dropout = Dropout { rate: 0.3, seed: 0x1234_5678_9abc_def0 };
        let mut factors = Vec::new();
        let (keys, width) = (5..131, 3);
        let filled = f64::flatten(dropout.fill::<f64>(2, 7, 64, &keys, width, &mut factors));
        let lanes = width * f64::LANES;
        for (index, key) in keys.clone().enumerate() {
            for lane in 0..lanes {
                assert_eq!(filled[index * lanes + lane], dropout.factor(2, 7, 64 + lane, key));
            }
        }
        let mean = filled.iter().sum::<f64>() / filled.len() as f64;
        assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
    }
}
