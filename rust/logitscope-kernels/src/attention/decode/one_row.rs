//! One query over neighbouring chunks: the values of a chunk are read beside the keys of the next.
//!
//! Memory is read fastest where two places are read in turn, a row of each. A row's numbers come from the same operations
//! as where keys and values are read one after the other.

use super::CHUNK;
use super::chunk::{LANES, Place, State, dot, score, store_scores, weigh};
use super::problem::{Decoding, Run};
use super::values::{add_values, put_in_order};
use crate::view::Matrix;
use logitscope_simd::{Element, Simd, Stored};

/// A query and what it meets in each chunk.
pub(super) struct OneRow<'a, X: Stored> {
    pub(super) problem: &'a Decoding<'a, X>,
    pub(super) runs: &'a [Run<'a, X>],
    pub(super) at: Place,
    pub(super) with_moments: bool,
    /// Padded and multiplied by its factor.
    pub(super) query: &'a [<X::Wide as Element>::Block],
}

/// Fills a state and the sums of the weighted values for each chunk; keys and values have `W` whole vectors.
#[inline(always)]
pub(super) fn attend_one_row<X: Stored, S: Simd<X::Wide>, const W: usize>(
    simd: S,
    row: &OneRow<'_, X>,
    scores: &mut [X::Wide],
    states: &mut [State<X::Wide>],
    sums: &mut [<X::Wide as Element>::Block],
) {
    let OneRow { problem, runs, at, with_moments, query } = row;
    sums.fill(X::Wide::block(X::Wide::ZERO));
    for part in 0..=runs.len() {
        let (weights, scores) = scores.split_at_mut(part * CHUNK);
        let next = runs.get(part);
        let mut done = 0;
        if let Some(last) = part.checked_sub(1) {
            let (before, weights) = (&runs[last], &weights[last * CHUNK..]);
            let sums = &mut sums[last * W..part * W];
            if let Some(next) = next {
                done = keys_beside_values::<X, S, W>(simd, row, next, scores, before, weights, sums);
            }
            add_rest::<X, S, W>(simd, before.after(done).values, &weights[done..], sums);
            put_in_order::<X>(W * X::Wide::LANES, W, sums);
        }
        if let Some(next) = next {
            let at = Place { first: done, ..*at };
            score(simd, problem, &next.after(done), &at, query, W, scores);
            let keys = next.keys.rows();
            states[part] = if keys == 0 {
                State::empty()
            } else {
                weigh(simd, &mut scores[..CHUNK], keys, *with_moments)
            };
        }
    }
}

/// Adds weighted values to the sums and fills in scores, a vector of scores at a time for as long as there are keys and
/// values; gives how many of each are done, none where rows lie apart.
#[inline(always)]
fn keys_beside_values<X: Stored, S: Simd<X::Wide>, const W: usize>(
    simd: S,
    row: &OneRow<'_, X>,
    next: &Run<'_, X>,
    scores: &mut [X::Wide],
    before: &Run<'_, X>,
    weights: &[X::Wide],
    sums: &mut [<X::Wide as Element>::Block],
) -> usize {
    let rows = (next.keys.rows_of_packs::<W>(), before.values.rows_of_packs::<W>());
    let (Some(keys), Some(values)) = rows else { return 0 };
    let lanes_used = X::Wide::LANES;
    let both = keys.len().min(values.len()) / lanes_used * lanes_used;
    let mut query = [simd.splat(X::Wide::ZERO); W];
    let mut totals = [simd.splat(X::Wide::ZERO); W];
    for c in 0..W {
        query[c] = simd.load(&row.query[c]);
        totals[c] = simd.load(&sums[c]);
    }
    let mut lanes = [simd.splat(X::Wide::ZERO); LANES];
    for first in (0..both).step_by(lanes_used) {
        let of_vector = first..first + lanes_used;
        let rows = keys[of_vector.clone()].iter().zip(&values[of_vector.clone()]);
        for ((lane, (key, value)), &weight) in lanes.iter_mut().zip(rows).zip(&weights[of_vector.clone()]) {
            *lane = dot::<X, S, W>(simd, &query, key);
            add_value::<X, S, W>(simd, weight, value, &mut totals);
        }
        store_scores(simd, row.problem, next, &row.at, of_vector, &lanes, &mut scores[first..]);
    }
    for c in 0..W {
        simd.store(totals[c], &mut sums[c]);
    }
    both
}

/// Adds weighted values to the sums.
#[inline(always)]
fn add_rest<X: Stored, S: Simd<X::Wide>, const W: usize>(
    simd: S,
    values: Matrix<'_, X>,
    weights: &[X::Wide],
    sums: &mut [<X::Wide as Element>::Block],
) {
    let Some(rows) = values.rows_of_packs::<W>() else {
        return add_values(simd, values, weights, 1, W, sums);
    };
    let mut totals = [simd.splat(X::Wide::ZERO); W];
    for (total, sum) in totals.iter_mut().zip(&*sums) {
        *total = simd.load(sum);
    }
    for (value, &weight) in rows.iter().zip(weights) {
        add_value::<X, S, W>(simd, weight, value, &mut totals);
    }
    for (total, sum) in totals.iter().zip(sums) {
        simd.store(*total, sum);
    }
}

#[inline(always)]
fn add_value<X: Stored, S: Simd<X::Wide>, const W: usize>(
    simd: S,
    weight: X::Wide,
    value: &[X::Pack; W],
    totals: &mut [S::Vector; W],
) {
    let weight = simd.splat(weight);
    for (two, totals) in value.as_chunks::<2>().0.iter().zip(totals.as_chunks_mut::<2>().0) {
        let [a, b] = X::load_two(simd, two);
        totals[0] = simd.mul_add(weight, a, totals[0]);
        totals[1] = simd.mul_add(weight, b, totals[1]);
    }
}
