//! From dot products to scores: softcap, bias and distances of a tile of queries, in this order.
//!
//! - `c = cap tanh(z / cap)`
//! - `s = c + bias - slope |position of the query - key|`

use super::bias::HeadBias;
use super::problem::Problem;
use super::sight::Sight;
use super::tile::{KEYS, QUERY_BLOCKS, zeroed};
use logitscope_simd::{Element, Simd, math};
use std::ops::Range;

/// What is done to the products of a tile of queries of one head.
pub(super) struct ScoreSteps<'a, T: Element> {
    softcap: T,
    bias: Option<HeadBias<'a, T>>,
    slope: Option<T>,
    queries: Range<usize>,
    /// Positions of the queries among the keys, in the lanes; whole numbers.
    positions: [T::Block; QUERY_BLOCKS],
}

impl<'a, T: Element> ScoreSteps<'a, T> {
    pub(super) fn new(
        problem: &Problem<'a, T>,
        sight: &Sight<'_, T>,
        batch: usize,
        head: usize,
        queries: Range<usize>,
    ) -> Self {
        let mut positions = [T::block(T::ZERO); QUERY_BLOCKS];
        if problem.slopes.is_some() {
            for (lane, query) in queries.clone().enumerate() {
                let (_, position) = sight.band_of(query);
                positions[lane / T::LANES].as_mut()[lane % T::LANES] = T::from_f64(position as f64);
            }
        }
        Self {
            softcap: problem.softcap,
            bias: problem.bias.map(|bias| bias.head(batch, head)),
            slope: problem.slopes.map(|slopes| slopes[head]),
            queries,
            positions,
        }
    }

    /// Whether scores are bent, so that their gradient is not that of the products.
    #[inline(always)]
    pub(super) fn bends(&self) -> bool {
        self.softcap != T::ZERO
    }

    /// Turns the products with the keys `keys`, one row of `width` vectors a key, into scores. `bends` is what the
    /// gradient of a score has to be multiplied by for that of its product, where scores are bent.
    #[inline(always)]
    pub(super) fn apply<S: Simd<T>>(
        &self,
        simd: S,
        keys: &Range<usize>,
        width: usize,
        scores: &mut [T::Block],
        bends: Option<&mut [T::Block]>,
        lanes: &mut Vec<T::Block>,
    ) {
        if self.bends() {
            let cap = simd.splat(self.softcap);
            if let Some(bends) = bends {
                for (bend, score) in bends.iter_mut().zip(scores.iter()) {
                    simd.store(math::tanh_slope(simd, simd.div(simd.load(score), cap)), bend);
                }
            }
            for score in scores.iter_mut() {
                simd.store(bend(simd, simd.load(score), cap), score);
            }
        }
        if let Some(bias) = self.bias {
            self.add_bias(simd, bias, keys, width, scores, lanes);
        }
        if let Some(slope) = self.slope {
            let minus_slope = simd.splat(-slope);
            for (key, row) in keys.clone().zip(scores.chunks_exact_mut(width)) {
                for (block, score) in row.iter_mut().enumerate() {
                    let distance = self.distance(simd, key, block);
                    simd.store(simd.mul_add(minus_slope, distance, simd.load(score)), score);
                }
            }
        }
    }

    #[inline(always)]
    fn add_bias<S: Simd<T>>(
        &self,
        simd: S,
        bias: HeadBias<'_, T>,
        keys: &Range<usize>,
        width: usize,
        scores: &mut [T::Block],
        lanes: &mut Vec<T::Block>,
    ) {
        let mut row = [T::ZERO; KEYS];
        let row = &mut row[..keys.len()];
        if bias.is_shared() {
            bias.row(self.queries.start, keys.start, row);
            for (&bias, scores) in row.iter().zip(scores.chunks_exact_mut(width)) {
                let bias = simd.splat(bias);
                for score in scores {
                    simd.store(simd.add(simd.load(score), bias), score);
                }
            }
            return;
        }
        // Row by row, as a bias lies in memory, into the lanes of its queries; those beyond have to stay finite.
        let lanes = zeroed::<T>(lanes, keys.len() * width);
        for (lane, query) in self.queries.clone().enumerate() {
            bias.row(query, keys.start, row);
            let column = T::flatten_mut(lanes).iter_mut().skip(lane).step_by(width * T::LANES);
            for (cell, &number) in column.zip(row.iter()) {
                *cell = number;
            }
        }
        for (score, bias) in scores.iter_mut().zip(lanes.iter()) {
            simd.store(simd.add(simd.load(score), simd.load(bias)), score);
        }
    }

    /// How far the queries of a block are from a key.
    #[inline(always)]
    fn distance<S: Simd<T>>(&self, simd: S, key: usize, block: usize) -> S::Vector {
        let difference = simd.sub(simd.load(&self.positions[block]), simd.splat(T::from_f64(key as f64)));
        simd.max(difference, simd.sub(simd.splat(T::ZERO), difference))
    }

    /// The sum over a tile of each score's gradient times what the slope is multiplied by in it.
    #[inline(always)]
    pub(super) fn slope_gradient<S: Simd<T>>(
        &self,
        simd: S,
        keys: &Range<usize>,
        width: usize,
        dscores: &[T::Block],
    ) -> f64 {
        let mut sum = simd.splat(T::ZERO);
        for (key, row) in keys.clone().zip(dscores.chunks_exact(width)) {
            for (block, dscore) in row.iter().enumerate() {
                sum = simd.mul_add(simd.load(dscore), self.distance(simd, key, block), sum);
            }
        }
        -simd.sum(sum).to_f64()
    }
}

/// `cap tanh(z / cap)`; NaN where `z` is infinite, since a product that has overflowed may have lost its sign on the way:
/// such a row is computed anew in f64.
#[inline(always)]
pub(super) fn bend<T: Element, S: Simd<T>>(simd: S, z: S::Vector, cap: S::Vector) -> S::Vector {
    let nan_if_infinite = simd.sub(z, z);
    simd.mul_add(cap, math::tanh(simd, simd.div(z, cap)), nan_if_infinite)
}
