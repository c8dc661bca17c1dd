//! The output layer whose step does not depend on the number of classes (Vincent, de Brébisson and Bouthillier, arXiv
//! 1412.7091; with the shift invariant losses of arXiv 1604.08859).
//!
//! The weight W of D classes is kept as V U + 1 omega^T. A loss of the target's logit A, the sum s and the sum of the
//! squares q of all logits needs W only through Q = W^T W and wbar = W^T 1, and its gradient changes U, omega, and the
//! rows of V that belong to targets. Here vectors are rows: a batch is a matrix (m, d).

mod rounding;
mod solve;
mod step;

pub use step::step;

use crate::cross_entropy::check_classes;
use crate::error::{Error, Result};
use crate::gemm::{Factor, Start, product};
use crate::rows::check_len;
use crate::threads::Cancel;
use crate::view::Matrix;
use logitscope_simd::{Element, Stored};

const NAME: &str = "SphericalOutput";

/// The layer; square matrices are (d, d).
#[derive(Debug)]
pub struct State<'a, X> {
    /// V, (D, d). Its numbers may be of any type; all else is `f64`.
    pub v: &'a mut [X],
    /// U.
    pub u: &'a mut [f64],
    /// U^{-T}.
    pub inverse: &'a mut [f64],
    /// W^T W.
    pub gram: &'a mut [f64],
    /// omega, (d).
    pub omega: &'a mut [f64],
    /// W^T 1, (d).
    pub total: &'a mut [f64],
}

/// Rows before the layer and the classes that they should give.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// (m, d).
    pub hidden: &'a [f64],
    /// (m, K).
    pub targets: &'a [i64],
    /// m.
    pub rows: usize,
}

/// What a batch gives in an unchanged layer.
#[derive(Debug)]
pub struct Forward<'a> {
    /// h Q, (m, d).
    pub by_gram: &'a mut [f64],
    /// h U^T, (m, d).
    pub by_u: &'a mut [f64],
    /// The logits of the targets, (m, K).
    pub own: &'a mut [f64],
    /// The sums of the squares of all logits, (m).
    pub square: &'a mut [f64],
    /// Their sums, (m).
    pub sum: &'a mut [f64],
}

/// The gradient of a loss with respect to the three statistics of each row.
#[derive(Clone, Copy, Debug)]
pub struct Slopes<'a> {
    /// (m, K).
    pub own: &'a [f64],
    /// (m).
    pub square: &'a [f64],
    /// (m).
    pub sum: &'a [f64],
}

/// How far a step goes.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Learning rate.
    pub step: f64,
    /// Factor of W in its gradient.
    pub decay: f64,
}

impl<X: Stored> State<'_, X> {
    /// d.
    fn columns(&self) -> usize {
        self.omega.len()
    }

    fn check(&self, batch: &Batch<'_>) -> Result<()> {
        let d = self.columns();
        let classes = self.v.len().checked_div(d).unwrap_or(0);
        let squares = [("u", self.u.len()), ("inverse", self.inverse.len()), ("gram", self.gram.len())];
        for (name, len) in squares {
            check_len(NAME, name, len, d * d)?;
        }
        check_len(NAME, "total", self.total.len(), d)?;
        check_len(NAME, "v", self.v.len(), classes * d)?;
        check_len(NAME, "hidden", batch.hidden.len(), batch.rows * d)?;
        let each = batch.targets.len().checked_div(batch.rows).unwrap_or(0);
        check_len(NAME, "targets", batch.targets.len(), batch.rows * each)?;
        // A class that there is none of stands for what nobody ignores.
        check_classes::<f64>(NAME, batch.targets, i64::MAX, classes, None)?;
        finite("h", batch.hidden)?;
        finite("U", self.u)
    }

    fn row(&self, class: i64) -> &[X] {
        let d = self.columns();
        &self.v[class as usize * d..(class as usize + 1) * d]
    }
}

/// Computes the three statistics of each row.
///
/// # Errors
/// [`Error::Target`] for what is no class; [`Error::Numerical`] for NaN and infinities; [`Error::Shape`] if lengths do
/// not fit; [`Error::Interrupted`] when cancelled.
pub fn forward<X: Stored>(
    state: &State<'_, X>,
    batch: &Batch<'_>,
    out: &mut Forward<'_>,
    cancel: &Cancel,
) -> Result<()> {
    state.check(batch)?;
    let (m, d) = (batch.rows, state.columns());
    check_forward(batch, d, out)?;
    let hidden = Factor::plain(matrix(batch.hidden, m, d));
    product(hidden, Factor::plain(matrix(state.gram, d, d)), Start::Zero, out.by_gram, d, cancel)?;
    product(hidden, Factor::transposed(matrix(state.u, d, d)), Start::Zero, out.by_u, d, cancel)?;
    let each = batch.targets.len().checked_div(m).unwrap_or(0);
    for i in 0..m {
        let (h, by_u) = (row(batch.hidden, i, d), row(out.by_u, i, d));
        out.square[i] = dot(h, row(out.by_gram, i, d));
        out.sum[i] = dot(h, state.total);
        let shift = dot(h, state.omega);
        for k in i * each..(i + 1) * each {
            let v = state.row(batch.targets[k]);
            out.own[k] = shift + v.iter().zip(by_u).map(|(v, x)| v.widen().to_f64() * x).sum::<f64>();
        }
    }
    Ok(())
}

fn check_forward(batch: &Batch<'_>, d: usize, forward: &Forward<'_>) -> Result<()> {
    let m = batch.rows;
    check_len(NAME, "by_gram", forward.by_gram.len(), m * d)?;
    check_len(NAME, "by_u", forward.by_u.len(), m * d)?;
    check_len(NAME, "own", forward.own.len(), batch.targets.len())?;
    check_len(NAME, "square", forward.square.len(), m)?;
    check_len(NAME, "sum", forward.sum.len(), m)
}

fn finite(name: &str, list: &[f64]) -> Result<()> {
    if list.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::Numerical {
        operation: NAME,
        got: format!("{name} has NaN or infinities"),
        expected: "finite numbers, or a smaller learning rate".to_owned(),
    })
}

fn matrix(list: &[f64], rows: usize, columns: usize) -> Matrix<'_, f64> {
    Matrix::new(list, rows, columns, columns)
}

fn row(list: &[f64], index: usize, columns: usize) -> &[f64] {
    &list[index * columns..(index + 1) * columns]
}

/// Row i of a matrix times `factor * factors[i]`.
fn scaled_rows(list: &[f64], factors: &[f64], factor: f64, columns: usize) -> Vec<f64> {
    list.iter().enumerate().map(|(index, x)| x * factor * factors[index / columns]).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `list += factor * other`.
fn add(list: &mut [f64], factor: f64, other: &[f64]) {
    for (x, y) in list.iter_mut().zip(other) {
        *x += factor * y;
    }
}

fn scale(list: &mut [f64], factor: f64) {
    for x in list {
        *x *= factor;
    }
}
