//! A tile of some rows and some classes at a time, made once for the loss and once more for the gradients.

use super::gradients::{Sums, Tile};
use super::online::State;
use super::problem::{Checked, Gradients, Output, Problem, Terms};
use super::visit::{Buffers, TakeIn, own_logits, position, scale_of};
use super::{Losses, cap_of, gather};
use crate::cross_entropy::{Spread, Target, Targets, cap_row, uncap_gradient, weighted, write_gradient};
use crate::error::{Error, Result};
use crate::gemm::{Factor, Start, TILE_ROWS, product};
use crate::rows;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Kernel, Simd, Stored};
use std::ops::Range;

/// Rows and classes of a tile: some megabytes, and the weight is read once for so many rows.
const TILE: (usize, usize) = (4 * TILE_ROWS, 1024);

/// Rows of a tile that make a piece.
const PIECE: usize = 16;

/// Fills `output` and `states`, of which there is one a row, and returns the reduced loss.
///
/// # Errors
/// As [`crate::cross_entropy::cross_entropy`], and [`Error::Argument`] for what needs all logits of a row at once.
pub fn recompute<X: Stored>(
    problem: &Problem<'_, X>,
    states: &mut [[f64; 4]],
    output: Output<'_, X>,
    cancel: &Cancel,
) -> Result<f64> {
    let checked = problem.check()?;
    check_options(problem)?;
    output.check(problem)?;
    let (all, classes) = problem.size();
    rows::check_len(problem.options.operation, "states", states.len(), all)?;
    let Output { losses, gradients, statistics } = output;
    let wanted = statistics.wanted();
    let rows = checked.rows(statistics.looks_at_ignored_rows());
    let mut losses = Losses::new(&checked, losses, statistics);
    let (mut logits, mut room, mut masses) = (Vec::new(), Vec::new(), Vec::new());
    for rows in rows.chunks(TILE.0) {
        let input = rows_of(problem.input, rows, &mut room);
        let targets = checked.targets(rows, &mut masses);
        let mut visits = own_logits(&checked, input, &targets, cancel)?;
        for first in (0..classes).step_by(TILE.1) {
            let part = first..classes.min(first + TILE.1);
            make_logits(problem, input, part.clone(), &mut logits, cancel)?;
            let width = part.len();
            let pieces: Vec<_> = visits
                .chunks_mut(PIECE)
                .zip(targets.chunks(PIECE))
                .zip(logits.chunks_mut(PIECE * width))
                .map(|((visits, targets), logits)| (visits, targets, logits))
                .collect();
            threads::for_each(
                pieces,
                rows.len() * width,
                cancel,
                Buffers::default,
                |buffers, (visits, targets, logits)| {
                    let (terms, part) = (checked.terms, part.clone());
                    X::Wide::dispatch(TakeIn { terms, wanted, part, visits, targets, logits, buffers });
                },
            )?;
        }
        let answers: Vec<_> = targets
            .iter()
            .zip(&visits)
            .map(|(target, visit)| visit.answer(&checked.terms, wanted, target))
            .collect();
        for (&row, visit) in rows.iter().zip(&visits) {
            states[row] = visit.state.into();
        }
        losses.note(&checked, rows, &answers);
    }
    if let Some(gradients) = gradients {
        add_gradients(&checked, states, gradients, cancel)?;
    }
    Ok(losses.reduce(&checked))
}

/// Fills the gradients of a problem whose `states` [`recompute`] has filled.
///
/// # Errors
/// As [`recompute`].
pub fn recompute_backward<X: Stored>(
    problem: &Problem<'_, X>,
    states: &[[f64; 4]],
    gradients: Gradients<'_, X>,
    cancel: &Cancel,
) -> Result<()> {
    let checked = problem.check()?;
    check_options(problem)?;
    gradients.check(problem)?;
    rows::check_len(problem.options.operation, "states", states.len(), problem.input.rows())?;
    add_gradients(&checked, states, gradients, cancel)
}

/// Refuses what one sweep over parts of rows cannot compute.
fn check_options<X: Stored>(problem: &Problem<'_, X>) -> Result<()> {
    let options = &problem.options;
    let (argument, got) = if matches!(problem.targets, Targets::Masses(_)) {
        ("targets", "soft")
    } else if options.label_smoothing > 0.0 {
        ("label_smoothing", "above 0")
    } else if !options.complement {
        ("complement", "false")
    } else {
        return Ok(());
    };
    Err(Error::Argument {
        operation: options.operation,
        argument,
        got: format!("{got} in mode 'recompute'"),
        expected: "mode 'chunked' for that".to_owned(),
    })
}

/// Classes lie outside: the gradient of their weight is whole before that of the next ones is begun.
fn add_gradients<X: Stored>(
    checked: &Checked<'_, X>,
    states: &[[f64; 4]],
    mut gradients: Gradients<'_, X>,
    cancel: &Cancel,
) -> Result<()> {
    let problem = &checked.problem;
    let (_, classes) = problem.size();
    let rows = checked.rows(false);
    let mut sums = Sums::new(checked, &mut gradients, &rows);
    let mut masses = Vec::new();
    let looks: Vec<_> = rows
        .iter()
        .zip(checked.targets(&rows, &mut masses))
        .map(|(&row, target)| Look { row, target, state: states[row].into(), upstream: sums.upstream(row) })
        .collect();
    let (mut logits, mut room) = (Vec::new(), Vec::new());
    for first in (0..classes).step_by(TILE.1) {
        let part = first..classes.min(first + TILE.1);
        for (index, looks) in looks.chunks(TILE.0).enumerate() {
            let place = index * TILE.0..index * TILE.0 + looks.len();
            let input = rows_of(problem.input, &rows[place.clone()], &mut room);
            make_logits(problem, input, part.clone(), &mut logits, cancel)?;
            let width = part.len();
            let pieces: Vec<_> = looks.chunks(PIECE).zip(logits.chunks_mut(PIECE * width)).collect();
            threads::for_each(
                pieces,
                looks.len() * width,
                cancel,
                Buffers::default,
                |buffers, (looks, logits)| {
                    let (terms, part) = (checked.terms, part.clone());
                    X::Wide::dispatch(Differentiate { terms, part, looks, logits, buffers });
                },
            )?;
            let tile = Tile { input, rows: place, classes: part.clone(), span: 0..rows.len() };
            sums.add(checked, &mut logits, &tile, cancel)?;
        }
        sums.settle_classes(&part);
    }
    sums.settle_rows(&(0..rows.len()));
    sums.finish();
    Ok(())
}

/// Some rows of the input as what is computed with: where they lie if they can be read there, else in `room`.
fn rows_of<'a, X: Stored>(
    input: Matrix<'a, X>,
    rows: &[usize],
    room: &'a mut Vec<X::Wide>,
) -> Matrix<'a, X::Wide> {
    let columns = input.columns();
    let (first, last) = (rows[0], rows[rows.len() - 1]);
    match input.as_wide() {
        Some(input) if last - first + 1 == rows.len() => input.part(first..last + 1),
        _ => {
            gather(input, rows, room);
            Matrix::new(room, rows.len(), columns, columns)
        }
    }
}

/// The logits of some rows and classes.
fn make_logits<X: Stored>(
    problem: &Problem<'_, X>,
    input: Matrix<'_, X::Wide>,
    classes: Range<usize>,
    logits: &mut Vec<X::Wide>,
    cancel: &Cancel,
) -> Result<()> {
    let width = classes.len();
    logits.resize(input.rows() * width, X::Wide::ZERO);
    let start = problem.bias.map_or(Start::Zero, |bias| Start::Row(&bias[classes.clone()]));
    let weight = Factor::transposed(problem.weight.part(classes));
    product(Factor::plain(input), weight, start, logits, width, cancel)
}

/// A row whose logits have been seen.
struct Look<'a, T> {
    row: usize,
    target: Target<'a, T>,
    state: State,
    upstream: f64,
}

/// Makes a part of the logits of rows their gradient.
struct Differentiate<'a, 's, T> {
    terms: Terms<'a, T>,
    part: Range<usize>,
    looks: &'a [Look<'a, T>],
    logits: &'a mut [T],
    buffers: &'s mut Buffers<T>,
}

impl<T: Element> Kernel<T> for Differentiate<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Differentiate { terms, part, looks, logits, buffers } = self;
        let Buffers { logits: copy, capped, .. } = buffers;
        let options = &terms.options;
        let cap = cap_of(options, terms.scale);
        for (look, gradient) in looks.iter().zip(logits.chunks_exact_mut(part.len())) {
            let Target::Class(class) = look.target else { continue };
            copy.clear();
            copy.extend_from_slice(gradient);
            let mut z = copy.as_slice();
            if let Some((slope, cap)) = cap {
                capped.resize(part.len(), T::ZERO);
                cap_row(simd, z, slope, cap, capped);
                z = capped;
            }
            let seen = look.state.seen(scale_of(&terms));
            let exp = ExpBelow::new(simd, seen.max, seen.scale);
            rows::exp_into(simd, &exp, z, gradient);
            let (of_loss, of_penalty) = terms.divisors.factors(look.row, look.upstream);
            let chain = terms.scale.to_f64();
            let v = seen.distance + seen.sum.ln;
            let mass = weighted(terms.class_weight(class), options.link.slope(v));
            let spread = Spread { loss: 0.0, mass, rest: 0.0 };
            let factors = (of_loss * chain, of_penalty * chain);
            write_gradient(
                simd,
                options,
                factors,
                &seen,
                z,
                position(&look.target, &part),
                &spread,
                &[],
                gradient,
            );
            if let Some((slope, _)) = cap {
                uncap_gradient(simd, copy, slope, gradient);
            }
        }
    }
}
