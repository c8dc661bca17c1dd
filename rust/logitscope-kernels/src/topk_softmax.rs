//! Softmax over the k largest elements of each row.

use crate::error::{Error, Result};
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd, Stored};
use std::cmp::Ordering;

/// Up to this k the largest so far are kept in order; beyond, a row is partitioned.
const INSERTION: usize = 32;

/// Where the weights of the selected go.
#[derive(Debug)]
pub enum Selected<'a, T> {
    /// `k` a row, largest first, and where they stand.
    Sparse {
        /// Rows of `k`.
        weights: &'a mut [T],
        /// Rows of `k`.
        indices: &'a mut [i64],
    },
    /// Into rows like those of x, whose other elements become 0.
    Dense(&'a mut [T]),
}

impl<'a, T> Selected<'a, T> {
    /// The parts of so many rows each.
    fn pieces(self, rows: usize, columns: usize, k: usize) -> Vec<Selected<'a, T>> {
        match self {
            Selected::Sparse { weights, indices } => weights
                .chunks_mut(rows * k)
                .zip(indices.chunks_mut(rows * k))
                .map(|(weights, indices)| Selected::Sparse { weights, indices })
                .collect(),
            Selected::Dense(y) => y.chunks_mut(rows * columns).map(Selected::Dense).collect(),
        }
    }
}

/// Softmax over the `k` largest elements of each row of `columns`.
///
/// Of equal elements the first is taken. Positive infinities share the probability equally; a row whose `k` largest
/// are all negative infinity has weights 0; a row with a NaN has weights NaN and the indices 0 to k - 1, and is NaN
/// as a whole where rows are dense.
///
/// # Errors
/// [`crate::Error`] if lengths or `k` do not fit, or when cancelled.
pub fn topk_softmax<X: Stored>(
    x: &[X],
    columns: usize,
    k: usize,
    selected: Selected<'_, X>,
    cancel: &Cancel,
) -> Result<()> {
    let count = rows::count_rows("topk_softmax", x.len(), columns)?;
    if k == 0 || k > columns {
        return Err(Error::Argument {
            operation: "topk_softmax",
            argument: "k",
            got: k.to_string(),
            expected: format!("1..{columns}"),
        });
    }
    match &selected {
        Selected::Sparse { weights, indices } => {
            rows::check_len("topk_softmax", "weights", weights.len(), count * k)?;
            rows::check_len("topk_softmax", "indices", indices.len(), count * k)?;
        }
        Selected::Dense(y) => rows::check_len("topk_softmax", "y", y.len(), x.len())?,
    }
    let piece = rows::rows_per_piece(columns);
    let pieces: Vec<_> = x.chunks(piece * columns).zip(selected.pieces(piece, columns, k)).collect();
    let buffers = || (Vec::new(), Vec::new(), Vec::new());
    threads::for_each(pieces, x.len(), cancel, buffers, |(scratch, wide, target), (x, selected)| {
        let x = X::wide(x, wide);
        match selected {
            Selected::Sparse { weights, indices } => {
                let selected = Selected::Sparse { weights: X::target(weights, target), indices };
                X::Wide::dispatch(TopRows { x, selected, columns, k, scratch });
                X::settle(target, weights);
            }
            Selected::Dense(y) => {
                let selected = Selected::Dense(X::target(y, target));
                X::Wide::dispatch(TopRows { x, selected, columns, k, scratch });
                X::settle(target, y);
            }
        }
    })
}

struct TopRows<'a, 'b, T> {
    x: &'a [T],
    selected: Selected<'a, T>,
    columns: usize,
    k: usize,
    /// Elements and where they stand.
    scratch: &'b mut Vec<(T, usize)>,
}

impl<T: Element> Kernel<T> for TopRows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let TopRows { x, mut selected, columns, k, scratch } = self;
        let mut own_weights = vec![T::ZERO; k];
        for (row, x) in x.chunks_exact(columns).enumerate() {
            select(simd, x, k, scratch);
            match &mut selected {
                Selected::Sparse { weights, indices } => {
                    softmax_of_sorted(scratch, &mut weights[row * k..(row + 1) * k]);
                    for (slot, &(_, index)) in indices[row * k..(row + 1) * k].iter_mut().zip(&*scratch) {
                        *slot = index as i64;
                    }
                }
                Selected::Dense(y) => {
                    let y = &mut y[row * columns..(row + 1) * columns];
                    softmax_of_sorted(scratch, &mut own_weights);
                    y.fill(if own_weights[0].is_nan() { T::NAN } else { T::ZERO });
                    for (&weight, &(_, index)) in own_weights.iter().zip(&*scratch) {
                        y[index] = weight;
                    }
                }
            }
        }
    }
}

/// The k largest in order; NaN, and the first places, of a row with a NaN.
#[inline(always)]
fn select<T: Element, S: Simd<T>>(simd: S, x: &[T], k: usize, top: &mut Vec<(T, usize)>) {
    // Infinities of both signs also have NaN for a sum.
    if rows::sum(simd, x).is_nan() && x.iter().any(|x| x.is_nan()) {
        top.clear();
        top.extend((0..k).map(|index| (T::NAN, index)));
    } else if k <= INSERTION {
        insert(simd, x, k, top);
    } else {
        partition(x, k, top);
    }
}

/// The k largest in order, kept while the row goes by.
#[inline(always)]
fn insert<T: Element, S: Simd<T>>(simd: S, x: &[T], k: usize, top: &mut Vec<(T, usize)>) {
    const PART: usize = 64;
    top.clear();
    for (part_index, part) in x.chunks(PART).enumerate() {
        if top.len() == k && rows::maximum(simd, part) <= top[k - 1].0 {
            continue;
        }
        for (offset, &x) in part.iter().enumerate() {
            if top.len() == k {
                if x <= top[k - 1].0 {
                    continue;
                }
                top.pop();
            }
            let place = top.partition_point(|&(kept, _)| kept >= x);
            top.insert(place, (x, part_index * PART + offset));
        }
    }
}

/// The k largest in order, from a partition of the whole row.
fn partition<T: Element>(x: &[T], k: usize, top: &mut Vec<(T, usize)>) {
    let descending = |a: &(T, usize), b: &(T, usize)| {
        // There is no NaN in the row.
        b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
    };
    top.clear();
    top.extend(x.iter().enumerate().map(|(index, &x)| (x, index)));
    if k < top.len() {
        top.select_nth_unstable_by(k - 1, descending);
        top.truncate(k);
    }
    top.sort_unstable_by(descending);
}

fn softmax_of_sorted<T: Element>(top: &[(T, usize)], weights: &mut [T]) {
    let max = top[0].0;
    let power = |x: T| if x == max { 1.0 } else { (x.to_f64() - max.to_f64()).exp() };
    if max == T::NEG_INFINITY {
        weights.fill(T::ZERO);
        return;
    }
    // From the smallest up: little is lost.
    let total: f64 = top.iter().rev().map(|&(x, _)| power(x)).sum();
    for (weight, &(x, _)) in weights.iter_mut().zip(top) {
        *weight = rows::normal_or_zero(power(x) / total);
    }
}
