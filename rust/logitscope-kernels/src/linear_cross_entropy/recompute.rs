//! A tile of some rows and some classes at a time, made once for the loss and once more for the gradients.

use super::gradients::{Sums, Tile};
use super::online::State;
use super::problem::{Checked, Gradients, Output, Problem};
use super::{Losses, cap_of, gather};
use crate::cross_entropy::{
    RowLoss, Spread, Target, Targets, Wanted, cap_row, first_maximum, uncap_gradient, weighted,
    write_gradient,
};
use crate::error::{Error, Result};
use crate::gemm::{Factor, Start, TILE_ROWS, product};
use crate::rows;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::math::ExpBelow;
use logitscope_simd::{Element, Kernel, Simd};
use std::ops::Range;

/// Rows and classes of a tile: some megabytes, and the weight is read once for so many rows.
const TILE: (usize, usize) = (4 * TILE_ROWS, 1024);

/// Rows of a tile that make a piece.
const PIECE: usize = 16;

/// Fills `output` and `states`, of which there is one a row, and returns the reduced loss.
///
/// # Errors
/// As [`crate::cross_entropy::cross_entropy`], and [`Error::Argument`] for what needs all logits of a row at once.
pub fn recompute<T: Element>(
    problem: &Problem<'_, T>,
    states: &mut [[f64; 4]],
    output: Output<'_, T>,
    cancel: &Cancel,
) -> Result<f64> {
    let checked = problem.check()?;
    check_options(problem)?;
    output.check(problem)?;
    let ((all, classes), columns) = (problem.size(), problem.input.columns());
    rows::check_len(problem.options.operation, "states", states.len(), all)?;
    let Output { losses, gradients, statistics } = output;
    let wanted = statistics.wanted();
    let rows = checked.rows(statistics.looks_at_ignored_rows());
    let mut losses = Losses::new(&checked, losses, statistics);
    let (mut logits, mut input) = (Vec::new(), Vec::new());
    for rows in rows.chunks(TILE.0) {
        gather(problem.input, rows, &mut input);
        let mut visits = vec![Visit::default(); rows.len()];
        let pieces = visits.chunks_mut(PIECE).zip(rows.chunks(PIECE)).enumerate();
        let pieces: Vec<_> = pieces
            .map(|(i, (visits, rows))| (visits, rows, &input[i * PIECE * columns..][..rows.len() * columns]))
            .collect();
        threads::for_each(
            pieces,
            rows.len() * columns,
            cancel,
            || (),
            |(), (visits, rows, input)| {
                T::dispatch(OwnLogits { checked: &checked, visits, rows, input });
            },
        )?;
        for first in (0..classes).step_by(TILE.1) {
            let part = first..classes.min(first + TILE.1);
            make_logits(problem, &input, rows.len(), part.clone(), &mut logits, cancel)?;
            let width = part.len();
            let pieces: Vec<_> = visits
                .chunks_mut(PIECE)
                .zip(rows.chunks(PIECE))
                .zip(logits.chunks_mut(PIECE * width))
                .map(|((visits, rows), logits)| (visits, rows, logits))
                .collect();
            threads::for_each(
                pieces,
                rows.len() * width,
                cancel,
                Buffers::default,
                |buffers, (visits, rows, logits)| {
                    T::dispatch(TakeIn {
                        checked: &checked,
                        wanted,
                        part: part.clone(),
                        visits,
                        rows,
                        logits,
                        buffers,
                    });
                },
            )?;
        }
        let answers: Vec<_> =
            rows.iter().zip(&visits).map(|(&row, visit)| visit.answer(&checked, wanted, row)).collect();
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
pub fn recompute_backward<T: Element>(
    problem: &Problem<'_, T>,
    states: &[[f64; 4]],
    gradients: Gradients<'_, T>,
    cancel: &Cancel,
) -> Result<()> {
    let checked = problem.check()?;
    check_options(problem)?;
    gradients.check(problem)?;
    rows::check_len(problem.options.operation, "states", states.len(), problem.input.rows())?;
    add_gradients(&checked, states, gradients, cancel)
}

/// Refuses what one sweep over parts of rows cannot compute.
fn check_options<T: Element>(problem: &Problem<'_, T>) -> Result<()> {
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

fn add_gradients<T: Element>(
    checked: &Checked<'_, T>,
    states: &[[f64; 4]],
    mut gradients: Gradients<'_, T>,
    cancel: &Cancel,
) -> Result<()> {
    let problem = &checked.problem;
    let ((_, classes), columns) = (problem.size(), problem.input.columns());
    let rows = checked.rows(false);
    let mut sums = Sums::new(checked, &mut gradients, !rows.is_empty());
    let (mut logits, mut input) = (Vec::new(), Vec::new());
    for (index, rows) in rows.chunks(TILE.0).enumerate() {
        gather(problem.input, rows, &mut input);
        let looks: Vec<_> = rows
            .iter()
            .map(|&row| Look { row, state: states[row].into(), upstream: sums.upstream(row) })
            .collect();
        for first in (0..classes).step_by(TILE.1) {
            let part = first..classes.min(first + TILE.1);
            make_logits(problem, &input, rows.len(), part.clone(), &mut logits, cancel)?;
            let width = part.len();
            let pieces: Vec<_> = looks.chunks(PIECE).zip(logits.chunks_mut(PIECE * width)).collect();
            threads::for_each(
                pieces,
                rows.len() * width,
                cancel,
                Buffers::default,
                |buffers, (looks, logits)| {
                    T::dispatch(Differentiate { checked, part: part.clone(), looks, logits, buffers });
                },
            )?;
            let tile = Tile { input: &input, rows, classes: part, first_rows: index == 0 };
            sums.add(checked, &mut logits, &tile, cancel)?;
        }
        sums.finish_rows(rows, columns);
    }
    sums.finish();
    Ok(())
}

/// The logits of some rows and classes.
fn make_logits<T: Element>(
    problem: &Problem<'_, T>,
    input: &[T],
    rows: usize,
    classes: Range<usize>,
    logits: &mut Vec<T>,
    cancel: &Cancel,
) -> Result<()> {
    let (width, columns) = (classes.len(), problem.input.columns());
    logits.resize(rows * width, T::ZERO);
    let start = problem.bias.map_or(Start::Zero, |bias| Start::Row(&bias[classes.clone()]));
    let input = Factor::plain(Matrix::new(input, rows, columns, columns));
    product(input, Factor::transposed(problem.weight.part(classes)), start, logits, width, cancel)
}

/// What a thread reuses from row to row.
#[derive(Default)]
struct Buffers<T> {
    logits: Vec<T>,
    capped: Vec<T>,
    powers: Vec<T>,
}

/// A row while its logits come.
#[derive(Clone, Copy)]
struct Visit<T> {
    state: State,
    /// The largest other logit and its class.
    best: (T, usize),
}

impl<T: Element> Default for Visit<T> {
    fn default() -> Self {
        Self { state: State::new(f64::NEG_INFINITY), best: (T::NEG_INFINITY, 0) }
    }
}

impl<T: Element> Visit<T> {
    /// What the row gives, all of its logits seen.
    fn answer(&self, checked: &Checked<'_, T>, wanted: Wanted, row: usize) -> RowLoss {
        let (options, scale) = (&checked.problem.options, scale_of(checked));
        let seen = self.state.seen(scale);
        let v = seen.distance + seen.sum.ln;
        let entropy =
            if wanted.entropy || options.entropy_weight != 0.0 { seen.sum.ln + seen.depth } else { f64::NAN };
        let (mut loss, mut penalty, mut argmax) = (0.0, 0.0, self.best.1);
        if let Target::Class(class) = checked.target(row) {
            let weight = checked.class_weight(class);
            loss = weighted(weight, options.link.value(v));
            penalty = options.penalty(seen.lse, entropy);
            let (own, best) = (self.state.own, self.best.0.to_f64());
            if own > best || (own == best && class < argmax) {
                argmax = class;
            }
        }
        let margin = if v.is_nan() { v } else { (self.state.own - self.state.max) * scale.to_f64() };
        let collapsed = seen.distance == 0.0 && seen.sum.absorbs;
        RowLoss { loss, penalty, v, lse: seen.lse, entropy, margin, collapsed, argmax }
    }
}

/// What the logits are scaled by after the softcap, which has its own scale.
fn scale_of<T: Element>(checked: &Checked<'_, T>) -> T {
    if checked.problem.options.softcap.is_some() { T::ONE } else { checked.scale }
}

/// Where the target of a row lies among some classes.
fn position<T>(target: &Target<'_, T>, part: &Range<usize>) -> Option<usize> {
    match target {
        Target::Class(class) if part.contains(class) => Some(class - part.start),
        _ => None,
    }
}

/// Computes the logits of the targets of rows by themselves.
struct OwnLogits<'a, T> {
    checked: &'a Checked<'a, T>,
    visits: &'a mut [Visit<T>],
    rows: &'a [usize],
    input: &'a [T],
}

impl<T: Element> Kernel<T> for OwnLogits<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let OwnLogits { checked, visits, rows, input } = self;
        let problem = &checked.problem;
        let columns = problem.input.columns();
        for (i, visit) in visits.iter_mut().enumerate() {
            if let Target::Class(class) = checked.target(rows[i]) {
                let input = &input[i * columns..(i + 1) * columns];
                let dot = rows::dot(simd, input, problem.weight.row(class));
                let logit = dot + problem.bias.map_or(0.0, |bias| bias[class].to_f64());
                let own = match problem.options.softcap {
                    None => logit,
                    Some(cap) => cap * (logit * checked.scale.to_f64() / cap).tanh(),
                };
                visit.state = State::new(T::from_f64(own).to_f64());
            }
        }
    }
}

/// Takes a part of the logits of rows in.
struct TakeIn<'a, 's, T> {
    checked: &'a Checked<'a, T>,
    wanted: Wanted,
    part: Range<usize>,
    visits: &'a mut [Visit<T>],
    rows: &'a [usize],
    logits: &'a mut [T],
    buffers: &'s mut Buffers<T>,
}

impl<T: Element> Kernel<T> for TakeIn<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let TakeIn { checked, wanted, part, visits, rows, logits, buffers } = self;
        let Buffers { capped, powers, .. } = buffers;
        let options = &checked.problem.options;
        let needs_depth = wanted.entropy || options.entropy_weight != 0.0;
        for (i, logits) in logits.chunks_exact_mut(part.len()).enumerate() {
            let mut z = logits;
            if let Some((slope, cap)) = cap_of(options, checked.scale) {
                capped.resize(part.len(), T::ZERO);
                cap_row(simd, z, slope, cap, capped);
                z = capped;
            }
            if let Some(own) = position(&checked.target(rows[i]), &part) {
                z[own] = T::NEG_INFINITY;
            }
            let visit = &mut visits[i];
            if wanted.argmax {
                let (largest, index) = first_maximum(simd, z);
                if largest > visit.best.0 {
                    visit.best = (largest, part.start + index);
                }
            }
            let powers = if needs_depth { Some(&mut *powers) } else { None };
            visit.state.merge(simd, z, scale_of(checked), powers);
        }
    }
}

/// A row whose logits have been seen.
struct Look {
    row: usize,
    state: State,
    upstream: f64,
}

/// Makes a part of the logits of rows their gradient.
struct Differentiate<'a, 's, T> {
    checked: &'a Checked<'a, T>,
    part: Range<usize>,
    looks: &'a [Look],
    logits: &'a mut [T],
    buffers: &'s mut Buffers<T>,
}

impl<T: Element> Kernel<T> for Differentiate<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Differentiate { checked, part, looks, logits, buffers } = self;
        let Buffers { logits: copy, capped, .. } = buffers;
        let options = &checked.problem.options;
        let cap = cap_of(options, checked.scale);
        for (look, gradient) in looks.iter().zip(logits.chunks_exact_mut(part.len())) {
            let target = checked.target(look.row);
            let Target::Class(class) = target else { continue };
            copy.clear();
            copy.extend_from_slice(gradient);
            let mut z = copy.as_slice();
            if let Some((slope, cap)) = cap {
                capped.resize(part.len(), T::ZERO);
                cap_row(simd, z, slope, cap, capped);
                z = capped;
            }
            let seen = look.state.seen(scale_of(checked));
            let exp = ExpBelow::new(simd, seen.max, seen.scale);
            rows::exp_into(simd, &exp, z, gradient);
            let (of_loss, of_penalty) = checked.divisors.factors(look.row, look.upstream);
            let chain = checked.scale.to_f64();
            let v = seen.distance + seen.sum.ln;
            let mass = weighted(checked.class_weight(class), options.link.slope(v));
            let spread = Spread { loss: 0.0, mass, rest: 0.0 };
            let factors = (of_loss * chain, of_penalty * chain);
            write_gradient(
                simd,
                options,
                factors,
                &seen,
                z,
                position(&target, &part),
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
