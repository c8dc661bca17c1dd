//! One step of gradient descent of the layer.

use super::rounding::Moved;
use super::solve::{inverse, solve};
use super::{Batch, Forward, NAME, Rate, Slopes, State};
use super::{add, check_forward, dot, finite, matrix, row, scale, scaled_rows};
use crate::error::{Error, Result};
use crate::gemm::{Factor, Start, product};
use crate::rows::check_len;
use crate::threads::Cancel;
use logitscope_simd::{Element, Stored};

/// Pivots below this, where what they stand for is about 1, mean that a matrix has no inverse worth having.
const LEAST_PIVOT: f64 = 1e-10;

/// Moves W by -rate times its gradient, and fills the gradient of the hidden rows; after an error nothing has moved.
///
/// # Errors
/// As [`forward`], and [`Error::Numerical`] where U would lose its inverse; [`Error::Argument`] for a rate so large that
/// the decay turns the sign of W.
pub fn step<X: Stored>(
    state: &mut State<'_, X>,
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
    let mut inverse = new_inverse(state, batch, slopes, &u, eta, cancel)?;

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
    scale(&mut u, kept);
    scale(&mut inverse, 1.0 / kept);
    scale(&mut omega, kept);
    scale(&mut total, kept);
    let rows = Moved::new(state, batch, slopes.own, &moves, eta);
    finite("V", &rows.stored)?;
    if size_of::<X>() < size_of::<X::Wide>() {
        rows.settle(&u, &omega, &mut gram, &mut total, cancel)?;
    }
    rows.store(state.v);
    for (old, new) in [
        (&mut *state.gram, gram),
        (&mut *state.u, u),
        (&mut *state.inverse, inverse),
        (&mut *state.omega, omega),
        (&mut *state.total, total),
    ] {
        old.copy_from_slice(&new);
    }
    Ok(())
}

/// For each row the sum of the slopes of its targets.
fn own_sums(batch: &Batch<'_>, slopes: &Slopes<'_>) -> Vec<f64> {
    let each = batch.targets.len().checked_div(batch.rows).unwrap_or(0);
    (0..batch.rows).map(|i| slopes.own[i * each..(i + 1) * each].iter().sum()).collect()
}

/// Fills the gradient of the hidden rows; returns its part that is not by the sum of squares.
fn gradient_of_hidden<X: Stored>(
    state: &State<'_, X>,
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
                *sum += slopes.own[k] * v.widen().to_f64();
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
fn inner_products<X: Stored>(
    state: &State<'_, X>,
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
fn new_inverse<X: Stored>(
    state: &State<'_, X>,
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
