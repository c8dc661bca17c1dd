//! The keys with the largest scores of each row, kept while the tiles of keys go by.

use super::tile::zeroed;
use super::wide::WideRow;
use logitscope_simd::{Element, Simd, math};
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

/// The largest scores so far of the rows of a tile and their keys, queries in the lanes: `count` vectors in descending order
/// for each block.
pub(super) struct Best<T: Element> {
    count: usize,
    scores: Vec<T::Block>,
    /// As bits of numbers that are only moved.
    keys: Vec<T::Block>,
}

impl<T: Element> Default for Best<T> {
    fn default() -> Self {
        Self { count: 0, scores: Vec::new(), keys: Vec::new() }
    }
}

impl<T: Element> Best<T> {
    /// Nothing seen yet.
    pub(super) fn clear(&mut self, count: usize, width: usize) {
        self.count = count;
        zeroed::<T>(&mut self.scores, count * width).fill(T::block(T::NEG_INFINITY));
        zeroed::<T>(&mut self.keys, count * width);
    }

    /// Takes the scores of one tile of keys into account, one row of `width` vectors a key. Keys come in ascending order,
    /// and go behind those with a score as large.
    #[inline(always)]
    pub(super) fn add<S: Simd<T>>(
        &mut self,
        simd: S,
        keys: &Range<usize>,
        width: usize,
        scores: &[T::Block],
    ) {
        for block in 0..width {
            let places = block * self.count..(block + 1) * self.count;
            let (best, best_keys) = (&mut self.scores[places.clone()], &mut self.keys[places]);
            for (key, scores) in keys.clone().zip(scores.chunks_exact(width)) {
                let mut score = simd.load(&scores[block]);
                let least = simd.load(&best[best.len() - 1]);
                if !simd.any(simd.less(least, score)) {
                    continue;
                }
                // What it drives out goes on to the next place, and drives out what is there even where that is as large.
                let mut key = simd.splat(T::of_bits(key as u64));
                let lowest = simd.splat(T::NEG_INFINITY);
                let mut most = simd.splat(T::INFINITY);
                for (best, best_key) in best.iter_mut().zip(best_keys.iter_mut()) {
                    let (other, other_key) = (simd.load(best), simd.load(best_key));
                    let is_larger = simd.less(simd.select(simd.less(most, other), most, other), score);
                    most = simd.select(is_larger, lowest, most);
                    simd.store(simd.select(is_larger, score, other), best);
                    simd.store(simd.select(is_larger, key, other_key), best_key);
                    score = simd.select(is_larger, other, score);
                    key = simd.select(is_larger, other_key, key);
                }
            }
        }
    }

    /// Writes keys and weights e^(s - max) / sum of the rows of a block.
    #[inline(always)]
    pub(super) fn write_softmax<S: Simd<T>>(
        &self,
        simd: S,
        block: usize,
        max: S::Vector,
        share: S::Vector,
        rows: Range<usize>,
        top: &mut TopKeys<'_, T>,
    ) {
        for place in 0..self.count {
            let score = simd.load(&self.scores[block * self.count + place]);
            let weight = simd.mul(math::exp(simd, simd.sub(score, max)), share);
            self.write(simd, block, place, weight, rows.clone(), top);
        }
    }

    /// Writes keys and weights 1 / (1 + e^-(s + bias)) of the rows of a block.
    #[inline(always)]
    pub(super) fn write_sigmoid<S: Simd<T>>(
        &self,
        simd: S,
        block: usize,
        bias: S::Vector,
        rows: Range<usize>,
        top: &mut TopKeys<'_, T>,
    ) {
        let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
        for place in 0..self.count {
            let x = simd.add(simd.load(&self.scores[block * self.count + place]), bias);
            let weight = simd.div(one, simd.add(one, math::exp(simd, simd.sub(zero, x))));
            self.write(simd, block, place, weight, rows.clone(), top);
        }
    }

    #[inline(always)]
    fn write<S: Simd<T>>(
        &self,
        simd: S,
        block: usize,
        place: usize,
        weight: S::Vector,
        rows: Range<usize>,
        top: &mut TopKeys<'_, T>,
    ) {
        let at = block * self.count + place;
        let (scores, keys, weights) = (self.scores[at], self.keys[at], simd.to_block(weight));
        for row in rows.clone() {
            let lane = row - rows.start;
            let has_key = scores.as_ref()[lane] > T::NEG_INFINITY;
            let to = row * self.count + place;
            top.keys[to] = if has_key { keys.as_ref()[lane].bits() as i64 } else { -1 };
            top.weights[to] = if has_key { weights.as_ref()[lane] } else { T::ZERO };
        }
    }
}
