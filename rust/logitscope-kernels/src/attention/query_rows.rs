//! Rows of the queries of a tile, or of the gradients of their outputs: what is added, weighted, to the gradients of keys.

use super::non_finite::{FiniteHeads, has_non_finite};
use super::operand::Operand;
use super::products::{PairScratch, Part, add_lanes, paired_rows};
use super::sight::Sight;
use super::tile::{Factors, blocks_for, pad, room};
use crate::matmul::Panel;
use crate::view::Matrix;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Buffers that a thread uses again.
pub(super) struct QueryRowsScratch<T: Element> {
    padded: Vec<T::Block>,
    /// The same rows of 16-bit numbers that are multiplied in pairs.
    pairs: Vec<T::Block>,
}

impl<T: Element> Default for QueryRowsScratch<T> {
    fn default() -> Self {
        Self { padded: Vec::new(), pairs: Vec::new() }
    }
}

/// The right factor of products with weights, and apart from it what is not finite.
pub(super) struct QueryRows<'b, T: Element> {
    count: usize,
    panel: Panel<'b, T>,
    /// What the weights are multiplied by where rows are paired as they are stored.
    factors: Factors<T>,
    non_finite: NonFiniteRows<T>,
}

impl<'b, T: Element> QueryRows<'b, T> {
    /// The rows of a part of an operand, widened in `matrix`, times their factors.
    #[inline(always)]
    pub(super) fn new<S: Simd<T>>(
        simd: S,
        operand: &Operand<'_, T>,
        part: Part<'_>,
        matrix: Matrix<'_, T>,
        factors: &Factors<T>,
        buffer: &mut Vec<T>,
        scratch: &'b mut QueryRowsScratch<T>,
    ) -> Self {
        let (count, width) = (matrix.rows(), blocks_for::<T>(matrix.columns()));
        if !S::HAS_PAIRS {
            let padded = room::<T>(&mut scratch.padded, count * width);
            pad(simd, matrix, factors, padded);
            // As they go into the products: a factor may be what is not finite.
            let non_finite = NonFiniteRows::take(simd, padded, width);
            return Self { count, panel: Panel { blocks: padded, width }, factors: *factors, non_finite };
        }
        let is_finite = factors.iter().flatten().all(|x| x.is_finite()) && !has_non_finite(simd, matrix);
        if is_finite {
            let panel = paired_rows(operand, part, buffer, &mut scratch.pairs);
            return Self { count, panel, factors: *factors, non_finite: NonFiniteRows::none() };
        }
        let [factors, others] = split(factors);
        let padded = room::<T>(&mut scratch.padded, count * width);
        pad(simd, matrix, &others, padded);
        let non_finite = NonFiniteRows::take(simd, padded, width);
        let finite = FiniteHeads(*operand);
        let panel = paired_rows(&Operand::Narrow(&finite), part, buffer, &mut scratch.pairs);
        Self { count, panel, factors, non_finite }
    }

    /// Adds them, weighted, to the sums of the keys that they see, a padded row each; `lanes` is what
    /// [`Sight::lane_spans`] says of the keys.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the factors of a product and where they go")]
    pub(super) fn add<S: Simd<T>>(
        &self,
        simd: S,
        sight: &Sight<'_, T>,
        keys: &Range<usize>,
        weights: &Panel<'_, T>,
        lanes: &[Range<usize>],
        pairs: &mut PairScratch<T>,
        sums: &mut [T::Block],
    ) {
        add_lanes(simd, weights, &self.factors, self.count, &self.panel, lanes, pairs, sums);
        self.non_finite.add(simd, sight, keys, weights, sums);
    }
}

/// The factors of products of rows as they are stored, the finite ones, and of what is not finite, the others.
fn split<T: Element>(factors: &Factors<T>) -> [Factors<T>; 2] {
    let (mut finite, mut others) = (*factors, *factors);
    for (finite, other) in finite.iter_mut().zip(&mut others) {
        match finite {
            Some(factor) if !factor.is_finite() => *finite = Some(T::ZERO),
            Some(_) => *other = Some(T::ONE),
            None => {}
        }
    }
    [finite, others]
}

/// Rows with numbers that are not finite, padded.
struct NonFiniteRows<T: Element> {
    rows: Vec<T::Block>,
    width: usize,
    /// Which rows.
    lanes: Vec<usize>,
}

impl<T: Element> NonFiniteRows<T> {
    fn none() -> Self {
        Self { rows: Vec::new(), width: 0, lanes: Vec::new() }
    }

    /// Takes them from padded rows; what is not finite in those becomes 0.
    #[inline(always)]
    fn take<S: Simd<T>>(simd: S, rows: &mut [T::Block], width: usize) -> Self {
        let mut taken = Self { width, ..Self::none() };
        if !has_non_finite(simd, Matrix::new(T::flatten(rows), 1, rows.len() * T::LANES, 0)) {
            return taken;
        }
        taken.rows.extend_from_slice(rows);
        for (lane, row) in rows.chunks_exact_mut(width).enumerate() {
            if !T::flatten(row).iter().all(|x| x.is_finite()) {
                taken.lanes.push(lane);
            }
        }
        for x in T::flatten_mut(rows) {
            *x = if x.is_finite() { *x } else { T::ZERO };
        }
        taken
    }

    /// Adds to the sums of keys, a padded row each, what the queries give that see them.
    #[inline(always)]
    fn add<S: Simd<T>>(
        &self,
        simd: S,
        sight: &Sight<'_, T>,
        keys: &Range<usize>,
        weights: &Panel<'_, T>,
        sums: &mut [T::Block],
    ) {
        if self.lanes.is_empty() {
            return;
        }
        let (zero, minus_one) = (simd.splat(T::ZERO), simd.splat(-T::ONE));
        let of_keys = weights.blocks.chunks_exact(weights.width).zip(sums.chunks_exact_mut(self.width));
        for (key, (weights, sums)) in keys.clone().zip(of_keys) {
            let seen = sight.lanes_of(key);
            for &lane in &self.lanes {
                if !seen.contains(&lane) || !sight.allows(key, lane) {
                    continue;
                }
                let weight = simd.splat(T::flatten(weights)[lane]);
                let row = &self.rows[lane * self.width..(lane + 1) * self.width];
                for (sum, x) in sums.iter_mut().zip(row) {
                    let (x, before) = (simd.load(x), simd.load(sum));
                    let is_finite = simd.less(minus_one, simd.mul(x, zero));
                    let after = simd.mul_add(weight, x, before);
                    simd.store(simd.select(is_finite, before, after), sum);
                }
            }
        }
    }
}
