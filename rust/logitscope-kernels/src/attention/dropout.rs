//! Dropout: a weight counts 1 / (1 - rate) times, or not at all.
//!
//! Which ones count is a function of seed, batch element, query head, query and key alone, so neither tiles nor threads
//! nor instruction sets change it, and the backward pass draws the same again. The generator is Philox4x32-10 (Salmon
//! et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): its key is the seed, its counter (key / 8, query,
//! head, batch element). It gives eight numbers of 16 bits, the lower half of each word first, and the weight of a key is
//! dropped when number `key % 8` is below `rate * 2^16`; what is kept counts 1 over the share that this keeps.

use super::tile::room;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Counters that are enciphered together, one a lane.
const LANES: usize = 16;

/// Words of 32 bits in 64, where their products have room.
type Words = [u64; LANES];

/// Keys that share a counter.
const KEYS: usize = 8;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u64; 2] = [0x9E37_79B9, 0xBB67_AE85];

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
        let counter = [key / KEYS, query, head, batch].map(|x| [u64::from(x as u32); LANES]);
        let word = philox(self.cipher_key(), counter)[key % KEYS / 2][0];
        if (word >> (key % 2 * 16)) & 0xffff < self.threshold() { 0.0 } else { self.kept() }
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
        let factors = room::<T>(factors, keys.len() * width);
        let (cipher_key, threshold) = (self.cipher_key(), self.threshold());
        let kept = T::from_f64(self.kept());
        let blocks = LANES / T::LANES;
        for group in keys.start / KEYS..keys.end.div_ceil(KEYS) {
            for block in (0..width).step_by(blocks) {
                let mut queries = [0; LANES];
                for (lane, query) in queries.iter_mut().enumerate() {
                    *query = u64::from((first_query + block * T::LANES + lane) as u32);
                }
                let counter = [[group as u64; LANES], queries, [head as u64; LANES], [batch as u64; LANES]];
                let words = philox(cipher_key, counter);
                for (number, key) in (group * KEYS..(group + 1) * KEYS).enumerate() {
                    if key < keys.start || key >= keys.end {
                        continue;
                    }
                    let row = (key - keys.start) * width;
                    let cells = &mut factors[row + block..row + width.min(block + blocks)];
                    for (index, cell) in cells.iter_mut().enumerate() {
                        for (lane, factor) in cell.as_mut().iter_mut().enumerate() {
                            let word = words[number / 2][index * T::LANES + lane];
                            let is_kept = (word >> (number % 2 * 16)) & 0xffff >= threshold;
                            *factor = if is_kept { kept } else { T::ZERO };
                        }
                    }
                }
            }
        }
        factors
    }

    fn cipher_key(&self) -> [u64; 2] {
        [self.seed & 0xffff_ffff, self.seed >> 32]
    }

    /// Numbers of 16 bits below it are dropped.
    fn threshold(&self) -> u64 {
        // A rate that rounds to 1 would drop all.
        ((self.rate * 65536.0).round_ties_even() as u64).min(65535)
    }

    /// What a weight counts that is kept: 1 over the share of the numbers that are not below the threshold.
    fn kept(&self) -> f64 {
        65536.0 / (65536 - self.threshold()) as f64
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
fn philox(mut key: [u64; 2], counter: [Words; 4]) -> [Words; 4] {
    const WORD: u64 = 0xffff_ffff;
    let [mut a, mut b, mut c, mut d] = counter;
    for _ in 0..ROUNDS {
        for lane in 0..LANES {
            // The masks tell the compiler that a product of 32 bits is enough.
            let (low, high) = (MULTIPLIERS[0] * (a[lane] & WORD), MULTIPLIERS[1] * (c[lane] & WORD));
            (a[lane], b[lane]) = ((high >> 32) ^ b[lane] ^ key[0], high & WORD);
            (c[lane], d[lane]) = ((low >> 32) ^ d[lane] ^ key[1], low & WORD);
        }
        key = [(key[0] + WEYL[0]) & WORD, (key[1] + WEYL[1]) & WORD];
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
            ([0, 0], [0; 4], [0x6627_e8d5_u32, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([0xffff_ffff; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (key, counter, wanted) in known {
            assert_eq!(
                philox(key, counter.map(|word| [u64::from(word); LANES])),
                wanted.map(|word| [u64::from(word); LANES])
            );
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
