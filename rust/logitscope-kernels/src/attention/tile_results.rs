//! From the sums of a tile of queries to the figures of its rows and their outputs.

use super::forward_tile::Tile;
use super::map;
use super::row_state::RowState;
use super::sight::Sight;
use super::tile::{QUERY_BLOCKS, untranspose};
use super::top_keys::Best;
use super::wide::WideRow;
use logitscope_simd::{Element, Simd, math};

/// What a tile has computed, queries in the lanes.
pub(super) struct TileSums<'a, T: Element, V> {
    /// The largest scores of keys; the states know those of sinks as well.
    pub(super) largest: [V; QUERY_BLOCKS],
    pub(super) states: [RowState<V>; QUERY_BLOCKS],
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
    let Tile { problem, batch, head, queries, max_logit, inv_sum, lse, mut entropy, mut top, .. } = tile;
    let TileSums { largest, states, out, map, width } = sums;
    let (zero, one) = (simd.splat(T::ZERO), simd.splat(T::ONE));
    // What the sums of each row are multiplied by.
    let mut shares = [T::block(T::ONE); QUERY_BLOCKS];
    for block in 0..width {
        let (RowState { max, sum, moment }, largest) = (states[block], largest[block]);
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
                T::flatten_mut(&mut shares)[row] = T::ONE;
                if let Some(top) = &mut top {
                    top.write(row, &wide);
                }
                wide.write_sums(row, width, out, tile.map.as_ref().map(|(bins, _)| *bins), map);
            }
        }
    }
    let shares = T::flatten(&shares);
    untranspose(simd, out, width, &shares[..queries.len()], results);
    if let Some((bins, part)) = tile.map {
        map::add_rows::<T>(map, width, &queries, problem.queries.shape()[2], bins, shares, part);
    }
}
