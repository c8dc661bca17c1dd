//! What the queries of one tile see: which key tiles, and of those that are partly hidden which lanes.

use super::bias::{HeadBias, is_visible};
use super::masks::Band;
use super::problem::Problem;
use super::tile::{KEYS, QUERY_BLOCKS};
use crate::matmul::ROWS;
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

/// For each block of queries a range of the keys of a tile.
pub(super) type Spans = [Range<usize>; QUERY_BLOCKS];

/// None of them.
const NO_SPANS: Spans = [const { 0..0 }; QUERY_BLOCKS];

/// What the queries `queries` of one head see.
pub(super) struct Sight<'a, T: Element> {
    band: Band,
    mask: Option<HeadScores<'a, u8>>,
    /// Hides as a mask does where it is -inf.
    bias: Option<HeadBias<'a, T>>,
    queries: Range<usize>,
    /// The middle of each lane, which is exact in any element type.
    lanes: T::Block,
}

impl<'a, T: Element> Sight<'a, T> {
    #[inline(always)]
    pub(super) fn new(problem: &Problem<'a, T>, batch: usize, head: usize, queries: Range<usize>) -> Self {
        let [_, _, all_queries, _] = problem.queries.shape();
        let [_, _, all_keys, _] = problem.keys.shape();
        let mut lanes = T::block(T::ZERO);
        for (lane, number) in lanes.as_mut().iter_mut().enumerate() {
            *number = T::from_f64(lane as f64 + 0.5);
        }
        Self {
            band: problem.masks.band(batch, all_queries, all_keys),
            mask: problem.masks.scores.map(|mask| mask.head(batch, head)),
            bias: problem.bias.map(|bias| bias.head(batch, head)),
            queries,
            lanes,
        }
    }

    /// How many queries there are.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.queries.len()
    }

    /// Whether the band alone hides keys.
    #[inline(always)]
    pub(super) fn is_band(&self) -> bool {
        self.mask.is_none() && self.bias.is_none()
    }

    /// The keys in the band of a query, and its position among the keys.
    #[inline(always)]
    pub(super) fn band_of(&self, query: usize) -> (Range<usize>, i64) {
        (self.band.keys_of(query), self.band.position(query))
    }

    /// The key tiles that lie in the band, in ascending order.
    pub(super) fn key_tiles(&self) -> impl Iterator<Item = Range<usize>> + use<T> {
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
        let (mut any, mut all) = (true, in_band == [true; 2]);
        if let Some(mask) = self.mask {
            let (some, every) = mask.any_and_all(self.queries.clone(), keys.clone(), |cell| cell != 0);
            (any, all) = (some, all && every);
        }
        if let Some(bias) = self.bias {
            let (some, every) = bias.any_and_all_visible(self.queries.clone(), keys);
            (any, all) = (any && some, all && every);
        }
        match (any, all) {
            (false, _) => Sees::Nothing,
            (true, true) => Sees::All,
            (true, false) => Sees::Part,
        }
    }

    /// The keys of a tile that the queries of each block have in their bands, counted from the first of the tile, whole
    /// [`ROWS`] of them where there are as many: what has to be computed. The others are hidden.
    pub(super) fn spans(&self, keys: &Range<usize>) -> Spans {
        let real = self.queries.end.min(self.band.queries());
        let mut spans = NO_SPANS;
        for (block, span) in spans.iter_mut().enumerate() {
            let first = self.queries.start + block * T::LANES;
            if first >= real {
                break;
            }
            let last = real.min(first + T::LANES) - 1;
            let (start, end) = (self.band.keys_of(first).start, self.band.keys_of(last).end);
            let (start, end) = (start.clamp(keys.start, keys.end), end.clamp(keys.start, keys.end));
            if start < end {
                let (start, end) = ((start - keys.start) / ROWS * ROWS, end - keys.start);
                *span = start..end.next_multiple_of(ROWS).min(keys.len());
            }
        }
        spans
    }

    /// The queries of the tile that have some of [`ROWS`] keys in their bands, for all of the keys of a tile.
    pub(super) fn lane_spans(&self, keys: &Range<usize>) -> [Range<usize>; KEYS / ROWS] {
        let mut spans = [const { 0..0 }; KEYS / ROWS];
        for (span, first) in spans.iter_mut().zip(keys.clone().step_by(ROWS)) {
            let last = keys.end.min(first + ROWS) - 1;
            *span = self.lanes_of(first).start..self.lanes_of(last).end;
            if span.start >= span.end {
                *span = 0..0;
            }
        }
        spans
    }

    /// Those of the keys that all queries of the tile have in their bands, at the end of them if there are none.
    #[inline(always)]
    pub(super) fn seen_by_all(&self, keys: &Range<usize>) -> Range<usize> {
        let (first, last) = (self.band.keys_of(self.queries.start), self.band.keys_of(self.queries.end - 1));
        let (start, end) = (last.start.max(keys.start), first.end.min(last.end).min(keys.end));
        if start < end { start..end } else { keys.end..keys.end }
    }

    /// The queries of the tile in whose band the key is, counted from the first of the tile.
    #[inline(always)]
    pub(super) fn lanes_of(&self, key: usize) -> Range<usize> {
        let seen = self.band.queries_of(key);
        let lane = |query: usize| query.clamp(self.queries.start, self.queries.end) - self.queries.start;
        lane(seen.start)..lane(seen.end)
    }

    /// Whether mask and bias let a lane (in the band of the key) see the key.
    #[inline(always)]
    pub(super) fn allows(&self, key: usize, lane: usize) -> bool {
        let query = self.queries.start + lane;
        self.mask.is_none_or(|mask| mask.get(query, key) != 0)
            && self.bias.is_none_or(|bias| is_visible(bias.get(query, key)))
    }

    /// A block of queries with `score` where they are real, -inf elsewhere.
    #[inline(always)]
    pub(super) fn on_real_queries(&self, block: usize, score: T) -> T::Block {
        let first = self.queries.start + block * T::LANES;
        let mut scores = T::block(T::NEG_INFINITY);
        for cell in scores.as_mut().iter_mut().take(self.band.queries().saturating_sub(first)) {
            *cell = score;
        }
        scores
    }

    /// Whether all lanes of a block see the key, as far as one look at mask and bias tells.
    #[inline(always)]
    pub(super) fn sees_block(&self, key: usize, block: usize) -> bool {
        let lanes = self.lanes_of(key);
        // Lanes beyond the queries of the tile do not matter.
        let end = self.queries.len().min((block + 1) * T::LANES);
        let is_shared = self.is_shared();
        is_shared && self.allows(key, 0) && lanes.start <= block * T::LANES && end <= lanes.end
    }

    /// The lanes of a block of queries that see the key.
    #[inline(always)]
    pub(super) fn visible<S: Simd<T>>(&self, simd: S, key: usize, block: usize) -> S::Mask {
        let lanes = self.lanes_of(key);
        let first = block * T::LANES;
        if self.mask.is_some() || self.bias.is_some() {
            let mut seen = T::block(T::ZERO);
            let in_block = lanes.start.max(first)..lanes.end.min(first + T::LANES);
            if !self.is_shared() || self.allows(key, 0) {
                for lane in in_block {
                    if self.allows(key, lane) {
                        seen.as_mut()[lane - first] = T::ONE;
                    }
                }
            }
            return simd.less(simd.splat(T::ZERO), simd.load(&seen));
        }
        let (start, end) = (lanes.start as f64 - first as f64, lanes.end as f64 - first as f64);
        let (start, end) = (simd.splat(T::from_f64(start)), simd.splat(T::from_f64(end)));
        let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
        let numbers = simd.load(&self.lanes);
        let (from_start, below_end) = (simd.less(start, numbers), simd.less(numbers, end));
        simd.less(zero, simd.select(from_start, simd.select(below_end, one, zero), zero))
    }

    /// Whether mask and bias are the same for all queries.
    #[inline(always)]
    fn is_shared(&self) -> bool {
        self.mask.is_none_or(|mask| mask.is_shared()) && self.bias.is_none_or(|bias| bias.is_shared())
    }
}
