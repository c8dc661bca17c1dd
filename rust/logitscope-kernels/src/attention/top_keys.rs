//! The keys with the largest scores of each row, kept while the tiles of keys go by.

use super::found_keys::{BlockScores, Found};
use super::tile::{blocks_for, zeroed};
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

/// Places that are kept in registers while a tile of keys is gone through; where more are wanted they lie in memory.
const PLACES: usize = 8;

/// The largest scores so far of the rows of a tile and their keys, queries in the lanes: `places` vectors in descending order
/// for each block, of which the first `count` are wanted.
pub(super) struct Best<T: Element> {
    count: usize,
    places: usize,
    rows: usize,
    scores: Vec<T::Block>,
    /// As bits of numbers that are only moved.
    keys: Vec<T::Block>,
    found: Found<T>,
}

impl<T: Element> Default for Best<T> {
    fn default() -> Self {
        let found = Found::default();
        Self { count: 0, places: 0, rows: 0, scores: Vec::new(), keys: Vec::new(), found }
    }
}

impl<T: Element> Best<T> {
    /// Nothing seen yet of so many rows.
    pub(super) fn clear(&mut self, count: usize, rows: usize) {
        (self.count, self.places, self.rows) = (count, count.max(PLACES), rows);
        let blocks = self.places * blocks_for::<T>(rows);
        zeroed::<T>(&mut self.scores, blocks).fill(T::block(T::NEG_INFINITY));
        zeroed::<T>(&mut self.keys, blocks);
    }

    /// Takes the scores of one tile of keys into account, one row of `width` vectors a key, of which `spans` says for each
    /// block what counts. Keys come in ascending order, and go behind those with a score as large.
    ///
    /// Of many keys few are among the best: those are looked for, and they alone are put in order.
    #[inline(always)]
    pub(super) fn add<S: Simd<T>>(
        &mut self,
        simd: S,
        keys: &Range<usize>,
        spans: &[Range<usize>],
        width: usize,
        scores: &[T::Block],
    ) {
        let nothing = simd.splat(T::NEG_INFINITY);
        for (block, span) in spans.iter().enumerate() {
            let lanes = T::LANES.min(self.rows - block * T::LANES);
            let rows =
                BlockScores { scores: &scores[span.start * width..span.end * width], width, block, lanes };
            let first = keys.start + span.start;
            if self.places == PLACES {
                let [mut best, mut best_keys, mut ranks] = [[nothing; PLACES]; 3];
                self.add_block(simd, rows, first, [&mut best, &mut best_keys, &mut ranks]);
            } else {
                let mut room = vec![nothing; 3 * self.places];
                let (best, rest) = room.split_at_mut(self.places);
                let (best_keys, ranks) = rest.split_at_mut(self.places);
                self.add_block(simd, rows, first, [best, best_keys, ranks]);
            }
        }
    }

    /// The same of one block, with room for its places, their keys and those of groups of keys.
    #[inline(always)]
    fn add_block<S: Simd<T>>(
        &mut self,
        simd: S,
        rows: BlockScores<'_, T>,
        first: usize,
        [best, best_keys, ranks]: [&mut [S::Vector]; 3],
    ) {
        let places = rows.block * self.places..(rows.block + 1) * self.places;
        let least = simd.load(&self.scores[places.start + self.count - 1]);
        if !self.found.look(simd, rows, first, self.count, least, ranks) {
            return;
        }
        let (kept, kept_keys) = (&mut self.scores[places.clone()], &mut self.keys[places]);
        for ((best, kept), (key, kept_key)) in
            best.iter_mut().zip(kept.iter()).zip(best_keys.iter_mut().zip(kept_keys.iter()))
        {
            (*best, *key) = (simd.load(kept), simd.load(kept_key));
        }
        self.found.insert_into(simd, best, best_keys);
        for ((best, kept), (key, kept_key)) in
            best.iter().zip(kept.iter_mut()).zip(best_keys.iter().zip(kept_keys.iter_mut()))
        {
            simd.store(*best, kept);
            simd.store(*key, kept_key);
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
            let score = simd.load(&self.scores[block * self.places + place]);
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
            let x = simd.add(simd.load(&self.scores[block * self.places + place]), bias);
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
        let at = block * self.places + place;
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
