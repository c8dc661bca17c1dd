//! Small dense linear systems, by elimination with row pivots.

use crate::rows::update_row;
use logitscope_simd::{Element, Kernel, Simd};

/// Replaces `b` (n, columns) by the solution x of `a x = b`; `a` (n, n) is destroyed. Returns the smallest pivot as a
/// share of the largest number of `a` or of 1; where it is tiny the solution means nothing.
pub(super) fn solve(a: &mut [f64], b: &mut [f64], n: usize, columns: usize) -> f64 {
    f64::dispatch(Eliminate { a, b, n, columns })
}

/// The inverse of a matrix (n, n); None if it has none.
pub(super) fn inverse(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        inverse[i * n + i] = 1.0;
    }
    let pivot = solve(&mut a.to_vec(), &mut inverse, n, n);
    (pivot > 1e-14).then_some(inverse)
}

struct Eliminate<'a> {
    a: &'a mut [f64],
    b: &'a mut [f64],
    n: usize,
    columns: usize,
}

impl Kernel<f64> for Eliminate<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<f64>>(self, simd: S) -> f64 {
        let Eliminate { a, b, n, columns } = self;
        let largest = a.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
        let mut least = f64::INFINITY;
        for k in 0..n {
            let mut best = k;
            for i in k + 1..n {
                if a[i * n + k].abs() > a[best * n + k].abs() {
                    best = i;
                }
            }
            let pivot = a[best * n + k];
            // NaN is no pivot either.
            least = if pivot.abs() >= least { least } else { pivot.abs() };
            if pivot == 0.0 || pivot.is_nan() {
                return 0.0;
            }
            swap_rows(a, n, k, best);
            swap_rows(b, columns, k, best);
            let (above, below) = a.split_at_mut((k + 1) * n);
            let (b_above, b_below) = b.split_at_mut((k + 1) * columns);
            let (row, right) = (&above[k * n + k..], &b_above[k * columns..]);
            for (i, other) in below.chunks_exact_mut(n).enumerate() {
                let factor = other[k] / pivot;
                subtract(simd, &mut other[k..], factor, row);
                subtract(simd, &mut b_below[i * columns..(i + 1) * columns], factor, right);
            }
        }
        for k in (0..n).rev() {
            let (above, from) = b.split_at_mut(k * columns);
            let right = &mut from[..columns];
            for x in right.iter_mut() {
                *x /= a[k * n + k];
            }
            for (i, other) in above.chunks_exact_mut(columns.max(1)).enumerate() {
                subtract(simd, other, a[i * n + k], right);
            }
        }
        least / largest
    }
}

/// `row -= factor * other`.
#[inline(always)]
fn subtract<S: Simd<f64>>(simd: S, row: &mut [f64], factor: f64, other: &[f64]) {
    type T = f64;
    let factor = simd.splat(-factor);
    update_row!(simd, row, old, x in other => simd.mul_add(factor, x, old));
}

fn swap_rows(matrix: &mut [f64], columns: usize, a: usize, b: usize) {
    if a != b {
        let (low, high) = (a.min(b), a.max(b));
        let (first, second) = matrix.split_at_mut(high * columns);
        first[low * columns..(low + 1) * columns].swap_with_slice(&mut second[..columns]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logitscope_testing::Random;

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        let mut random = Random::new(7);
        for n in [1, 2, 7, 16, 33] {
            let a: Vec<f64> = (0..n * n).map(|_| random.normal(0.0, 1.0)).collect();
            let inverse = inverse(&a, n).unwrap();
            for i in 0..n {
                for j in 0..n {
                    let got: f64 = (0..n).map(|k| a[i * n + k] * inverse[k * n + j]).sum();
                    let want = f64::from(u8::from(i == j));
                    assert!((got - want).abs() < 1e-10, "{n}: {i} {j}: {got}");
                }
            }
        }
    }

    #[test]
    fn a_singular_matrix_has_none() {
        assert_eq!(inverse(&[1.0, 2.0, 2.0, 4.0], 2), None);
        assert_eq!(inverse(&[0.0], 1), None);
        assert_eq!(inverse(&[f64::NAN, 1.0, 1.0, 0.0], 2), None);
    }
}
