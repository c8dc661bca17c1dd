//! The output layer whose step does not depend on the number of classes (Vincent, de Brébisson and Bouthillier, arXiv
//! 1412.7091; with the shift invariant losses of arXiv 1604.08859).
//!
//! The weight W of D classes is kept as V U + 1 omega^T. A loss of the target's logit A, the sum s and the sum of the
//! squares q of all logits needs W only through Q = W^T W and wbar = W^T 1, and its gradient changes U, omega, and the
//! rows of V that belong to targets. Here vectors are rows: a batch is a matrix (m, d).

mod solve;

use crate::cross_entropy::check_classes;
use crate::error::{Error, Result};
use crate::gemm::{Factor, Start, product};
use crate::rows::check_len;
use crate::threads::Cancel;
use crate::view::Matrix;
use logitscope_simd::Element;
use solve::{inverse, solve};

const NAME: &str = "SphericalOutput";

/// Pivots below this, where what they stand for is about 1, mean that a matrix has no inverse worth having.
const LEAST_PIVOT: f64 = 1e-10;

/// The layer; square matrices are (d, d).
#[derive(Debug)]
pub struct State<'a, T> {
    /// V, (D, d).
    pub v: &'a mut [T],
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

impl<T: Element> State<'_, T> {
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

    fn row(&self, class: i64) -> &[T] {
        let d = self.columns();
        &self.v[class as usize * d..(class as usize + 1) * d]
    }
}

/// Computes the three statistics of each row.
///
/// # Errors
/// [`Error::Target`] for what is no class; [`Error::Numerical`] for NaN and infinities; [`Error::Shape`] if lengths do
/// not fit; [`Error::Interrupted`] when cancelled.
pub fn forward<T: Element>(
    state: &State<'_, T>,
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
            out.own[k] = shift + v.iter().zip(by_u).map(|(v, x)| v.to_f64() * x).sum::<f64>();
        }
    }
    Ok(())
}

/// Moves W by -rate times its gradient, and fills the gradient of the hidden rows; after an error nothing has moved.
///
/// # Errors
/// As [`forward`], and [`Error::Numerical`] where U would lose its inverse; [`Error::Argument`] for a rate so large that
/// the decay turns the sign of W.
pub fn step<T: Element>(
    state: &mut State<'_, T>,
    batch: &Batch<'_>,
    forward: &Forward<'_>,
    slopes: &Slopes<'_>,
    rate: Rate,
    gradient: &mut [f64],
    cancel: &Cancel,
) -> Result<()> {
    state.check(batch)?;
    let (m, d) = (batch.rows, state.columns());
    check_forward(batch, d, forward)?;
    check_len(NAME, "gradient", gradient.len(), m * d)?;
    check_len(NAME, "own", slopes.own.len(), batch.targets.len())?;
    check_len(NAME, "square", slopes.square.len(), m)?;
    check_len(NAME, "sum", slopes.sum.len(), m)?;
    let kept = 1.0 - rate.step * rate.decay;
    if !(kept > 0.0 && kept.is_finite()) {
        return Err(Error::Argument {
            operation: NAME,
            argument: "weight_decay",
            got: format!("{} with a learning rate of {}", rate.decay, rate.step),
            expected: "finite numbers with a product below 1".to_owned(),
        });
    }
    // W - rate (G + decay W) is (1 - rate decay) times W - eta G.
    let eta = rate.step / kept;
    let hidden = matrix(batch.hidden, m, d);
    let own_sums = own_sums(batch, slopes);
    let through_v = gradient_of_hidden(state, batch, forward, slopes, &own_sums, gradient, cancel)?;
    let inner = inner_products(state, batch, forward, slopes, &own_sums, &through_v, cancel)?;

    // Q - eta (g^T h + h^T g) + eta² h^T M h, with M symmetric: minus P + P^T of this P.
    let mut left = gradient.to_vec();
    let mut by_inner = vec![0.0; m * d];
    product(
        Factor::plain(matrix(&inner, m, m)),
        Factor::plain(hidden),
        Start::Zero,
        &mut by_inner,
        d,
        cancel,
    )?;
    add(&mut left, -0.5 * eta, &by_inner);
    let mut half = vec![0.0; d * d];
    product(
        Factor::transposed(matrix(&left, m, d)),
        Factor::plain(hidden),
        Start::Zero,
        &mut half,
        d,
        cancel,
    )?;
    let mut gram = state.gram.to_vec();
    for i in 0..d {
        for j in 0..=i {
            let value = kept * kept * (state.gram[i * d + j] - eta * (half[i * d + j] + half[j * d + i]));
            gram[i * d + j] = value;
            gram[j * d + i] = value;
        }
    }

    let mut u = state.u.to_vec();
    let pulled = scaled_rows(forward.by_u, slopes.square, -2.0 * eta, d);
    product(
        Factor::transposed(matrix(&pulled, m, d)),
        Factor::plain(hidden),
        Start::Kept,
        &mut u,
        d,
        cancel,
    )?;
    let inverse = new_inverse(state, batch, slopes, &u, eta, cancel)?;

    let (mut omega, mut total) = (state.omega.to_vec(), state.total.to_vec());
    let classes = (state.v.len() / d) as f64;
    for (i, own_sum) in own_sums.iter().enumerate() {
        let h = row(batch.hidden, i, d);
        let of_omega = 2.0 * slopes.square[i] * dot(h, state.omega) + slopes.sum[i];
        let of_total = 2.0 * slopes.square[i] * forward.sum[i] + classes * slopes.sum[i] + own_sum;
        add(&mut omega, -eta * of_omega, h);
        add(&mut total, -eta * of_total, h);
    }
    for (name, list) in [("Q", &gram), ("U", &u), ("its inverse", &inverse), ("omega", &omega)] {
        finite(name, list)?;
    }

    let mut moves = vec![0.0; m * d];
    let by_inverse = Factor::transposed(matrix(&inverse, d, d));
    product(Factor::plain(hidden), by_inverse, Start::Zero, &mut moves, d, cancel)?;
    let each = batch.targets.len().checked_div(m).unwrap_or(0);
    for (k, &class) in batch.targets.iter().enumerate() {
        let factor = eta * slopes.own[k];
        let v = &mut state.v[class as usize * d..(class as usize + 1) * d];
        for (v, x) in v.iter_mut().zip(row(&moves, k / each, d)) {
            *v = T::from_f64(v.to_f64() - factor * x);
        }
    }
    state.gram.copy_from_slice(&gram);
    for (old, new, factor) in [
        (&mut *state.u, u, kept),
        (&mut *state.inverse, inverse, 1.0 / kept),
        (&mut *state.omega, omega, kept),
        (&mut *state.total, total, kept),
    ] {
        for (old, new) in old.iter_mut().zip(new) {
            *old = factor * new;
        }
    }
    Ok(())
}

/// For each row the sum of the slopes of its targets.
fn own_sums(batch: &Batch<'_>, slopes: &Slopes<'_>) -> Vec<f64> {
    let each = batch.targets.len().checked_div(batch.rows).unwrap_or(0);
    (0..batch.rows).map(|i| slopes.own[i * each..(i + 1) * each].iter().sum()).collect()
}

/// Fills the gradient of the hidden rows; returns its part that is not by the sum of squares.
fn gradient_of_hidden<T: Element>(
    state: &State<'_, T>,
    batch: &Batch<'_>,
    forward: &Forward<'_>,
    slopes: &Slopes<'_>,
    own_sums: &[f64],
    gradient: &mut [f64],
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    let (m, d) = (batch.rows, state.columns());
    let each = batch.targets.len().checked_div(m).unwrap_or(0);
    let (mut by_targets, mut through_v) = (vec![0.0; m * d], vec![0.0; m * d]);
    for (i, sums) in by_targets.chunks_exact_mut(d).enumerate() {
        for k in i * each..(i + 1) * each {
            for (sum, v) in sums.iter_mut().zip(state.row(batch.targets[k])) {
                *sum += slopes.own[k] * v.to_f64();
            }
        }
    }
    let u = Factor::plain(matrix(state.u, d, d));
    product(Factor::plain(matrix(&by_targets, m, d)), u, Start::Zero, &mut through_v, d, cancel)?;
    for (i, own_sum) in own_sums.iter().enumerate() {
        let part = &mut through_v[i * d..(i + 1) * d];
        add(part, *own_sum, state.omega);
        add(part, slopes.sum[i], state.total);
        let gradient = &mut gradient[i * d..(i + 1) * d];
        gradient.copy_from_slice(part);
        add(gradient, 2.0 * slopes.square[i], row(forward.by_gram, i, d));
    }
    Ok(through_v)
}

/// G^T G for the gradient G of the logits, (m, m).
fn inner_products<T: Element>(
    state: &State<'_, T>,
    batch: &Batch<'_>,
    forward: &Forward<'_>,
    slopes: &Slopes<'_>,
    own_sums: &[f64],
    through_v: &[f64],
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    let (m, d) = (batch.rows, state.columns());
    let each = batch.targets.len().checked_div(m).unwrap_or(0);
    let hidden = Factor::plain(matrix(batch.hidden, m, d));
    let (mut squares, mut crossed) = (vec![0.0; m * m], vec![0.0; m * m]);
    let by_gram = Factor::transposed(matrix(forward.by_gram, m, d));
    product(hidden, by_gram, Start::Zero, &mut squares, m, cancel)?;
    product(hidden, Factor::transposed(matrix(through_v, m, d)), Start::Zero, &mut crossed, m, cancel)?;
    let classes = (state.v.len() / d) as f64;
    let Slopes { own, square, sum } = *slopes;
    let mut inner = vec![0.0; m * m];
    for i in 0..m {
        for j in 0..=i {
            let mut value = 4.0 * square[i] * square[j] * squares[i * m + j]
                + classes * sum[i] * sum[j]
                + sum[i] * own_sums[j]
                + own_sums[i] * sum[j]
                + 2.0 * (square[i] * crossed[i * m + j] + square[j] * crossed[j * m + i]);
            for k in i * each..(i + 1) * each {
                for l in j * each..(j + 1) * each {
                    if batch.targets[k] == batch.targets[l] {
                        value += own[k] * own[l];
                    }
                }
            }
            inner[i * m + j] = value;
            inner[j * m + i] = value;
        }
    }
    Ok(inner)
}

/// The inverse transpose of the new U, by the formula of Woodbury, or by itself where that cannot be trusted.
fn new_inverse<T: Element>(
    state: &State<'_, T>,
    batch: &Batch<'_>,
    slopes: &Slopes<'_>,
    u: &[f64],
    eta: f64,
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    let (m, d) = (batch.rows, state.columns());
    let hidden = matrix(batch.hidden, m, d);
    let mut system = vec![0.0; m * m];
    product(Factor::plain(hidden), Factor::transposed(hidden), Start::Zero, &mut system, m, cancel)?;
    for (i, row) in system.chunks_exact_mut(m.max(1)).enumerate() {
        for x in row.iter_mut() {
            *x *= -2.0 * eta * slopes.square[i];
        }
        row[i] += 1.0;
    }
    let mut moves = scaled_rows(batch.hidden, slopes.square, 2.0 * eta, d);
    if solve(&mut system, &mut moves, m, d) > LEAST_PIVOT {
        let mut by_moves = vec![0.0; d * m];
        let old = Factor::plain(matrix(state.inverse, d, d));
        product(old, Factor::transposed(matrix(&moves, m, d)), Start::Zero, &mut by_moves, m, cancel)?;
        let mut new = state.inverse.to_vec();
        product(
            Factor::plain(matrix(&by_moves, d, m)),
            Factor::plain(hidden),
            Start::Kept,
            &mut new,
            d,
            cancel,
        )?;
        return Ok(new);
    }
    match inverse(u, d) {
        Some(inverse) => Ok((0..d * d).map(|index| inverse[index % d * d + index / d]).collect()),
        None => Err(Error::Numerical {
            operation: NAME,
            got: "a step makes U singular".to_owned(),
            expected: "a smaller learning rate".to_owned(),
        }),
    }
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
