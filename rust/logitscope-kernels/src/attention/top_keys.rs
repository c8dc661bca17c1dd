//! The keys with the largest scores of each row, kept while the tiles of keys go by.

use super::wide::WideRow;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Where the top keys go: (batch, heads, queries, `count`) in row-major order, the largest score first and of equal
/// ones the first key. -1 with a weight of 0 where a row has fewer keys; NaN and -inf are no score.
pub struct TopKeys<'a, T> {
    /// How many of each row, at least 1.
    pub count: usize,
    /// Which keys.
    pub keys: &'a mut [i64],
    /// Their weights.
    pub weights: &'a mut [T],
}

impl<T: Element> TopKeys<'_, T> {
    /// Hands out the first `rows` rows.
    pub(super) fn take(&mut self, rows: usize) -> Self {
        let n = rows * self.count;
        let (keys, rest) = std::mem::take(&mut self.keys).split_at_mut(n);
        self.keys = rest;
        let (weights, rest) = std::mem::take(&mut self.weights).split_at_mut(n);
        self.weights = rest;
        Self { count: self.count, keys, weights }
    }

    /// Nothing seen yet; until [`Self::weigh`] the weights hold scores.
    pub(super) fn clear(&mut self) {
        self.keys.fill(-1);
        self.weights.fill(T::NEG_INFINITY);
    }

    /// Takes the scores of one tile of keys into account, one row of `width` vectors a key.
    #[inline(always)]
    pub(super) fn add<S: Simd<T>>(
        &mut self,
        simd: S,
        keys: &Range<usize>,
        width: usize,
        scores: &[T::Block],
    ) {
        let rows = self.keys.len() / self.count;
        for block in 0..width {
            let mut max = simd.splat(T::NEG_INFINITY);
            for scores in scores.chunks_exact(width) {
                max = simd.max(simd.load(&scores[block]), max);
            }
            let max = simd.to_block(max);
            let first = block * T::LANES;
            for row in first..rows.min(first + T::LANES) {
                if max.as_ref()[row - first] > self.weights[(row + 1) * self.count - 1] {
                    let column = T::flatten(scores).iter().skip(row).step_by(width * T::LANES);
                    for (key, &score) in keys.clone().zip(column) {
                        self.insert(row, key, score);
                    }
                }
            }
        }
    }

    /// Puts a key behind those with a score as large or larger, if there is room. Keys come in ascending order.
    fn insert(&mut self, row: usize, key: usize, score: T) {
        let range = row * self.count..(row + 1) * self.count;
        let (keys, scores) = (&mut self.keys[range.clone()], &mut self.weights[range]);
        let Some(place) = scores.iter().position(|&other| score > other) else { return };
        let last = self.count - 1;
        scores.copy_within(place..last, place + 1);
        keys.copy_within(place..last, place + 1);
        (keys[place], scores[place]) = (key as i64, score);
    }

    /// Turns the scores of a row into weights.
    pub(super) fn weigh(&mut self, row: usize, weight: impl Fn(T) -> T) {
        let range = row * self.count..(row + 1) * self.count;
        for (key, cell) in self.keys[range.clone()].iter().zip(&mut self.weights[range]) {
            *cell = if *key < 0 { T::ZERO } else { weight(*cell) };
        }
    }

    /// Takes a row from what was computed of it in f64.
    pub(super) fn write(&mut self, row: usize, wide: &WideRow<'_, T>) {
        let mut order: Vec<_> = (0..wide.keys.len()).collect();
        // Stable: of equal ones the first key stays first.
        order.sort_by(|&a, &b| wide.keys[b].log_share.total_cmp(&wide.keys[a].log_share));
        order.retain(|&index| wide.keys[index].log_share > f64::NEG_INFINITY);
        for place in 0..self.count {
            let at = row * self.count + place;
            let found = order.get(place).map(|&index| &wide.keys[index]);
            self.keys[at] = found.map_or(-1, |key| key.key as i64);
            self.weights[at] = found.map_or(T::ZERO, |key| T::from_f64(key.weight));
        }
    }
}
