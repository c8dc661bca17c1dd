//! What the queries of one tile see: which key tiles, and of those that are partly hidden which lanes.

use super::masks::Band;
use super::problem::Problem;
use super::tile::KEYS;
use crate::view::HeadScores;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// How much of a key tile the queries of a tile see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    Nothing,
    Part,
    All,
}

/// What the queries `queries` of one head see.
pub(super) struct Sight<'a> {
    band: Band,
    mask: Option<HeadScores<'a, u8>>,
    queries: Range<usize>,
}

impl<'a> Sight<'a> {
    #[inline(always)]
    pub(super) fn new<T: Element>(
        problem: &Problem<'a, T>,
        batch: usize,
        head: usize,
        queries: Range<usize>,
    ) -> Self {
        let [_, _, all_queries, _] = problem.queries.shape();
        let [_, _, all_keys, _] = problem.keys.shape();
        Self {
            band: problem.masks.band(batch, all_queries, all_keys),
            mask: problem.masks.scores.map(|mask| mask.head(batch, head)),
            queries,
        }
    }

    /// The key tiles that lie in the band, in ascending order.
    pub(super) fn key_tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let real = self.queries.start..self.queries.end.min(self.band.queries());
        let (start, end) = if real.is_empty() {
            (0, 0)
        } else {
            (self.band.keys_of(real.start).start, self.band.keys_of(real.end - 1).end)
        };
        (start..end).step_by(KEYS).map(move |start| start..end.min(start + KEYS))
    }

    /// How much of a key tile of the band is seen.
    pub(super) fn of(&self, keys: &Range<usize>) -> Sees {
        let in_band = [keys.start, keys.end - 1].map(|key| self.lanes_of(key).len() == self.queries.len());
        let in_band = in_band == [true; 2];
        match self.mask.map(|mask| mask.any_and_all(self.queries.clone(), keys.clone(), |cell| cell != 0)) {
            Some((false, _)) => Sees::Nothing,
            Some((_, true)) | None if in_band => Sees::All,
            _ => Sees::Part,
        }
    }

    /// The queries of the tile in whose band the key is, counted from the first of the tile.
    #[inline(always)]
    pub(super) fn lanes_of(&self, key: usize) -> Range<usize> {
        let seen = self.band.queries_of(key);
        let lane = |query: usize| query.clamp(self.queries.start, self.queries.end) - self.queries.start;
        lane(seen.start)..lane(seen.end)
    }

    /// Whether the mask of single scores lets a lane (in the band of the key) see the key.
    #[inline(always)]
    pub(super) fn allows(&self, key: usize, lane: usize) -> bool {
        self.mask.is_none_or(|mask| mask.get(self.queries.start + lane, key) != 0)
    }

    /// A block of queries with `score` where they are real, -inf elsewhere.
    #[inline(always)]
    pub(super) fn on_real_queries<T: Element>(&self, block: usize, score: T) -> T::Block {
        let first = self.queries.start + block * T::LANES;
        let mut scores = T::block(T::NEG_INFINITY);
        for cell in scores.as_mut().iter_mut().take(self.band.queries().saturating_sub(first)) {
            *cell = score;
        }
        scores
    }

    /// Whether all lanes of a block see the key, as far as one look at the mask of single scores tells.
    #[inline(always)]
    pub(super) fn sees_block<T: Element>(&self, key: usize, block: usize) -> bool {
        let lanes = self.lanes_of(key);
        // Lanes beyond the queries of the tile do not matter.
        let end = self.queries.len().min((block + 1) * T::LANES);
        let allowed = self.mask.is_none_or(|mask| mask.is_shared() && mask.get(self.queries.start, key) != 0);
        allowed && lanes.start <= block * T::LANES && end <= lanes.end
    }

    /// The lanes of a block of queries that see the key.
    #[inline(always)]
    pub(super) fn visible<T: Element, S: Simd<T>>(&self, simd: S, key: usize, block: usize) -> S::Mask {
        let lanes = self.lanes_of(key);
        let first = block * T::LANES;
        if let Some(mask) = self.mask {
            let mut seen = T::block(T::ZERO);
            let in_block = lanes.start.max(first)..lanes.end.min(first + T::LANES);
            if !mask.is_shared() || mask.get(self.queries.start, key) != 0 {
                for lane in in_block {
                    if mask.get(self.queries.start + lane, key) != 0 {
                        seen.as_mut()[lane - first] = T::ONE;
                    }
                }
            }
            return simd.less(simd.splat(T::ZERO), simd.load(&seen));
        }
        // Lane numbers inside a tile are small, so they are exact in any element type.
        let mut numbers = T::block(T::ZERO);
        for (lane, number) in numbers.as_mut().iter_mut().enumerate() {
            *number = T::from_f64((first + lane) as f64 + 0.5);
        }
        let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
        let numbers = simd.load(&numbers);
        let below_end = simd.less(numbers, simd.splat(T::from_f64(lanes.end as f64)));
        let from_start = simd.less(simd.splat(T::from_f64(lanes.start as f64)), numbers);
        simd.less(zero, simd.select(from_start, simd.select(below_end, one, zero), zero))
    }
}
