//! From the sums of a tile of queries to the figures of its rows and their outputs.

use super::forward_tile::Tile;
use super::map::{self, Pooling};
use super::moments::Moments;
use super::row_state::RowState;
use super::sight::Sight;
use super::statistics::{Logits, Statistics};
use super::tile::{QUERY_BLOCKS, untranspose};
use super::top_keys::Best;
use super::wide::WideRow;
use logitscope_simd::{Element, Simd, math};

/// What a tile has computed, queries in the lanes.
pub(super) struct TileSums<'a, T: Element, V> {
    /// The largest scores of keys; the states know those of sinks as well.
    pub(super) largest: [V; QUERY_BLOCKS],
    pub(super) states: [RowState<V>; QUERY_BLOCKS],
    /// Moments of the scores, where they are wanted.
    pub(super) logits: [Moments<V>; QUERY_BLOCKS],
    /// With sigmoid weighting those under the weights, where the variance is wanted.
    pub(super) weighted: [Moments<V>; QUERY_BLOCKS],
    pub(super) out: &'a mut [T::Block],
    pub(super) map: &'a mut [T::Block],
    pub(super) width: usize,
}

/// Divides by the sums and writes the figures of the rows where they belong, their outputs into `results`.
#[inline(always)]
pub(super) fn finish<T: Element, S: Simd<T>>(
    simd: S,
    tile: Tile<'_, T>,
    sight: &Sight<'_, T>,
    sums: TileSums<'_, T, S::Vector>,
    biases: Option<&[T::Block; QUERY_BLOCKS]>,
    best: &Best<T>,
    results: &mut [T::Block],
) {
    let Tile { problem, batch, head, queries, figures, mut top, .. } = tile;
    let Statistics { max_logit, inv_sum, lse, mut entropy, mut logits, mut variance } = figures;
    let TileSums { largest, states, logits: moments, weighted, out, map, width } = sums;
    let bins = tile.map.as_ref().map(|(bins, _)| *bins);
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    // What the sums of each row are multiplied by.
    let mut shares = [T::block(T::ONE); QUERY_BLOCKS];
    for block in 0..width {
        let (RowState { max, sum, moment, square }, largest) = (states[block], largest[block]);
        let rows = block * T::LANES..queries.len().min((block + 1) * T::LANES);
        let has_sum = simd.less(zero, sum);
        // 0 stays 0 and NaN NaN.
        let share = simd.select(has_sum, simd.div(one, sum), sum);
        let log_sum = math::ln(simd, sum);
        let base = if problem.is_normalised() { max } else { zero };
        // A NaN in the row need not have reached the maximum; it always reaches the sum.
        simd.store_partial(simd.mul_add(sum, zero, largest), &mut max_logit[rows.clone()]);
        simd.store_partial(share, &mut inv_sum[rows.clone()]);
        simd.store_partial(simd.add(base, log_sum), &mut lse[rows.clone()]);
        if problem.is_normalised() {
            simd.store(share, &mut shares[block]);
        }
        if let Some(entropy) = &mut entropy {
            let nats = simd.sub(log_sum, simd.mul(moment, share));
            // Rounding may leave a one-hot row a little below 0, and one that sees nothing has -inf; NaN stays.
            simd.store_partial(simd.zero_where_less(nats, zero, nats), &mut entropy[rows.clone()]);
        }
        if let Some(Logits { count, mean, m2 }) = &mut logits {
            let moments = moments[block];
            simd.store_partial(moments.count, &mut count[rows.clone()]);
            // As with the largest score.
            let centre = simd.add(moments.shift, moments.mean);
            simd.store_partial(simd.mul_add(sum, zero, centre), &mut mean[rows.clone()]);
            simd.store_partial(simd.mul_add(sum, zero, moments.m2), &mut m2[rows.clone()]);
        }
        if let Some(variance) = &mut variance {
            let spread = if problem.is_normalised() {
                let mean = simd.mul(moment, share);
                simd.sub(simd.mul(square, share), simd.mul(mean, mean))
            } else {
                weighted[block].variance(simd)
            };
            let spread = simd.mul_add(sum, zero, simd.zero_where_less(spread, zero, spread));
            simd.store_partial(spread, &mut variance[rows.clone()]);
        }
        if bins.is_some_and(|bins| bins.pooling == Pooling::Max) {
            let bias = biases.map(|biases| simd.load(&biases[block]));
            map::weigh_largest(simd, map, width, block, (max, sum), bias);
        }
        if let Some(top) = &mut top {
            match biases {
                Some(biases) => best.write_sigmoid(simd, block, simd.load(&biases[block]), rows.clone(), top),
                None => best.write_softmax(simd, block, max, share, rows.clone(), top),
            }
        }
        let (sum, largest) = (simd.to_block(sum), simd.to_block(largest));
        for row in rows.clone() {
            let (sum, largest) = (sum.as_ref()[row - rows.start], largest.as_ref()[row - rows.start]);
            let overflows = if problem.is_normalised() { sum == T::ZERO } else { largest == T::INFINITY };
            if (sum.is_nan() || overflows)
                && let Some(wide) = WideRow::of(problem, sight, batch, head, &queries, row)
            {
                max_logit[row] = T::from_f64(wide.max);
                inv_sum[row] = T::from_f64(-wide.inv_sum);
                lse[row] = T::from_f64(wide.lse);
                if let Some(entropy) = &mut entropy {
                    entropy[row] = T::from_f64(wide.entropy);
                }
                if let Some(Logits { count, mean, m2 }) = &mut logits {
                    (count[row], mean[row], m2[row]) = wide.moments.map(T::from_f64).into();
                }
                if let Some(variance) = &mut variance {
                    variance[row] = T::from_f64(wide.variance);
                }
                T::flatten_mut(&mut shares)[row] = T::ONE;
                if let Some(top) = &mut top {
                    top.write(row, &wide);
                }
                wide.write_sums(row, width, out, bins, map);
            }
        }
    }
    let shares = T::flatten(&shares);
    untranspose(simd, out, width, &shares[..queries.len()], results);
    if let Some((bins, part)) = tile.map {
        map::add_rows::<T>(map, width, &queries, problem.queries.shape()[2], bins, shares, part);
    }
}
