//! Softmax over the k largest elements of each row.

use crate::error::{Error, Result};
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd};
use std::cmp::Ordering;

/// Up to this k the largest so far are kept in order; beyond, a row is partitioned.
const INSERTION: usize = 32;

/// Softmax over the `k` largest elements of each row of `columns`, largest first, and where they stand.
///
/// Of equal elements the first is taken. Positive infinities share the probability equally; a row whose `k` largest
/// are all negative infinity has weights 0; a row with a NaN has weights NaN and the indices 0 to k - 1.
///
/// # Errors
/// [`crate::Error`] if lengths or `k` do not fit, or when cancelled.
pub fn topk_softmax<T: Element>(
    x: &[T],
    columns: usize,
    k: usize,
    weights: &mut [T],
    indices: &mut [i64],
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
    rows::check_len("topk_softmax", "weights", weights.len(), count * k)?;
    rows::check_len("topk_softmax", "indices", indices.len(), count * k)?;
    let piece = rows::rows_per_piece(columns);
    let outputs = weights.chunks_mut(piece * k).zip(indices.chunks_mut(piece * k));
    let pieces: Vec<_> = x.chunks(piece * columns).zip(outputs).collect();
    threads::for_each(pieces, x.len(), cancel, Vec::new, |scratch, (x, (weights, indices))| {
        T::dispatch(TopRows { x, weights, indices, columns, k, scratch });
    })
}

struct TopRows<'a, T> {
    x: &'a [T],
    weights: &'a mut [T],
    indices: &'a mut [i64],
    columns: usize,
    k: usize,
    /// Elements and where they stand.
    scratch: &'a mut Vec<(T, usize)>,
}

impl<T: Element> Kernel<T> for TopRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let outputs = self.weights.chunks_exact_mut(self.k).zip(self.indices.chunks_exact_mut(self.k));
        for (x, (weights, indices)) in self.x.chunks_exact(self.columns).zip(outputs) {
            // Infinities of both signs also have NaN for a sum.
            if rows::sum(simd, x).is_nan() && x.iter().any(|x| x.is_nan()) {
                weights.fill(T::NAN);
                for (index, slot) in indices.iter_mut().enumerate() {
                    *slot = index as i64;
                }
                continue;
            }
            if self.k <= INSERTION {
                insert(simd, x, self.k, self.scratch);
            } else {
                partition(x, self.k, self.scratch);
            }
            for (slot, &(_, index)) in indices.iter_mut().zip(&*self.scratch) {
                *slot = index as i64;
            }
            softmax_of_sorted(self.scratch, weights);
        }
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
