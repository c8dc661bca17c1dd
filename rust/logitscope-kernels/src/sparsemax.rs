//! Sparsemax and 1.5-entmax of rows: probabilities of which most are exactly 0.
//!
//! Both are max(u - t, 0)^p for the threshold t at which they sum to 1: sparsemax (Martins and Astudillo, arXiv
//! 1602.02068) with u = x and p = 1, 1.5-entmax (Peters, Niculae and Martins, arXiv 1905.05702) with u = x / 2 and
//! p = 2. Nothing is sorted: only what lies less than 1 below the largest u can be above t, and Newton's method from
//! below drops more of it at each step.

use crate::error::Result;
use crate::rows;
use crate::threads::Cancel;
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sparse {
    /// max(x - t, 0).
    Sparsemax,
    /// max(x / 2 - t, 0)².
    Entmax15,
}

impl Sparse {
    /// The name of the operation.
    pub fn name(self) -> &'static str {
        match self {
            Sparse::Sparsemax => "sparsemax",
            Sparse::Entmax15 => "entmax15",
        }
    }

    /// u for a distance of x from the maximum.
    fn argument(self, distance: f64) -> f64 {
        if self == Sparse::Sparsemax { distance } else { 0.5 * distance }
    }

    /// The probability at a distance of u above the threshold.
    fn probability(self, distance: f64) -> f64 {
        if self == Sparse::Sparsemax { distance } else { distance * distance }
    }
}

/// Sparse probabilities of each row of `columns` elements.
///
/// A row with a NaN or positive infinity, or with nothing above negative infinity, becomes NaN.
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn sparse<X: Stored>(x: &[X], columns: usize, kind: Sparse, y: &mut [X], cancel: &Cancel) -> Result<()> {
    rows::fill(kind.name(), [("x", x)], ("y", y), columns, cancel, |[x], y| {
        X::Wide::dispatch(SparseRows { x, y, columns, kind });
    })
}

/// An element that may have a probability.
struct Candidate {
    index: usize,
    /// u minus the largest u of the row.
    u: f64,
}

struct SparseRows<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
    columns: usize,
    kind: Sparse,
}

impl<T: Element> Kernel<T> for SparseRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let mut candidates = Vec::new();
        for (x, y) in self.x.chunks_exact(self.columns).zip(self.y.chunks_exact_mut(self.columns)) {
            let max = rows::maximum(simd, x);
            // Infinities of both signs also have NaN for a sum.
            let maybe_nan = rows::sum(simd, x).is_nan();
            if !max.is_finite() || maybe_nan && x.iter().any(|x| x.is_nan()) {
                y.fill(T::NAN);
                continue;
            }
            candidates.clear();
            gather(simd, x, max, self.kind, &mut candidates);
            let threshold = threshold(self.kind, &mut candidates);
            y.fill(T::ZERO);
            for candidate in candidates.iter().filter(|candidate| candidate.u > threshold) {
                let probability = self.kind.probability(candidate.u - threshold);
                y[candidate.index] = rows::normal_or_zero(probability);
            }
        }
    }
}

/// Appends the elements whose u is less than 1 below the largest.
#[inline(always)]
fn gather<T: Element, S: Simd<T>>(simd: S, x: &[T], max: T, kind: Sparse, candidates: &mut Vec<Candidate>) {
    const PART: usize = 64;
    for (index, part) in x.chunks(PART).enumerate() {
        let near = |x: T| kind.argument(x.to_f64() - max.to_f64());
        if near(rows::maximum(simd, part)) <= -1.0 {
            continue;
        }
        for (offset, &x) in part.iter().enumerate() {
            let u = near(x);
            if u > -1.0 {
                candidates.push(Candidate { index: index * PART + offset, u });
            }
        }
    }
}

/// The threshold at which the probabilities sum to 1; leaves the candidates that were above it at the last but one.
///
/// The sum is convex and falls with the threshold, and at -1 it is at least 1: Newton's steps go up and never beyond
/// the solution. For sparsemax they end exactly, when no element drops out any more.
fn threshold(kind: Sparse, candidates: &mut Vec<Candidate>) -> f64 {
    let mut threshold = -1.0;
    loop {
        let (mut total, mut slope) = (0.0, 0.0);
        for candidate in candidates.iter() {
            let above = candidate.u - threshold;
            total += kind.probability(above);
            slope += if kind == Sparse::Sparsemax { 1.0 } else { 2.0 * above };
        }
        let next = threshold + (total - 1.0) / slope;
        if next <= threshold || next - threshold < 1e-17 {
            return threshold;
        }
        threshold = next;
        candidates.retain(|candidate| candidate.u > threshold);
    }
}

/// Gradient of [`sparse`]: with s = 1 on the support (the root of y for 1.5-entmax) dx = s (dy - sum s dy / sum s).
///
/// # Errors
/// [`crate::Error`] if lengths do not fit, or when cancelled.
pub fn sparse_backward<X: Stored>(
    y: &[X],
    dy: &[X],
    columns: usize,
    kind: Sparse,
    dx: &mut [X],
    cancel: &Cancel,
) -> Result<()> {
    rows::fill(kind.name(), [("y", y), ("dy", dy)], ("dx", dx), columns, cancel, |[y, dy], dx| {
        let rows = y.chunks_exact(columns).zip(dy.chunks_exact(columns));
        for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(columns)) {
            backward_row(kind, y, dy, dx);
        }
    })
}

fn backward_row<T: Element>(kind: Sparse, y: &[T], dy: &[T], dx: &mut [T]) {
    // A NaN stays one.
    let weight = |y: T| match kind {
        Sparse::Sparsemax if y > T::ZERO => 1.0,
        Sparse::Sparsemax => y.to_f64(),
        Sparse::Entmax15 => y.to_f64().sqrt(),
    };
    let (mut total, mut weighted) = (0.0, 0.0);
    for (&y, &dy) in y.iter().zip(dy) {
        let weight = weight(y);
        if weight != 0.0 {
            total += weight;
            weighted += weight * dy.to_f64();
        }
    }
    let mean = weighted / total;
    for ((&y, &dy), dx) in y.iter().zip(dy).zip(dx) {
        let weight = weight(y);
        *dx = if weight == 0.0 { T::ZERO } else { rows::normal_or_zero(weight * (dy.to_f64() - mean)) };
    }
}
