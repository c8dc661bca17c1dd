//! The rows of mode `recompute` while their logits come for the first time.

use super::cap_of;
use super::online::State;
use super::problem::{Checked, Terms};
use crate::cross_entropy::{RowLoss, Target, Wanted, cap_row, first_maximum, weighted};
use crate::error::Result;
use crate::rows;
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use logitscope_simd::{Element, Kernel, Simd, Stored};
use std::ops::Range;

/// What a thread reuses from row to row.
#[derive(Default)]
pub(super) struct Buffers<T> {
    pub logits: Vec<T>,
    pub capped: Vec<T>,
    powers: Vec<T>,
}

/// A row while its logits come.
#[derive(Clone, Copy)]
pub(super) struct Visit<T> {
    pub state: State,
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
    pub(super) fn answer(&self, terms: &Terms<'_, T>, wanted: Wanted, target: &Target<'_, T>) -> RowLoss {
        let (options, scale) = (&terms.options, scale_of(terms));
        let seen = self.state.seen(scale);
        let v = seen.distance + seen.sum.ln;
        let entropy =
            if wanted.entropy || options.entropy_weight != 0.0 { seen.sum.ln + seen.depth } else { f64::NAN };
        let (mut loss, mut penalty, mut argmax) = (0.0, 0.0, self.best.1);
        if let &Target::Class(class) = target {
            let weight = terms.class_weight(class);
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
pub(super) fn scale_of<T: Element>(terms: &Terms<'_, T>) -> T {
    if terms.options.softcap.is_some() { T::ONE } else { terms.scale }
}

/// Where the target of a row lies among some classes.
pub(super) fn position<T>(target: &Target<'_, T>, part: &Range<usize>) -> Option<usize> {
    match target {
        Target::Class(class) if part.contains(class) => Some(class - part.start),
        _ => None,
    }
}

/// Begins to visit rows, with the logits of their targets.
pub(super) fn own_logits<X: Stored>(
    checked: &Checked<'_, X>,
    input: Matrix<'_, X::Wide>,
    targets: &[Target<'_, X::Wide>],
    cancel: &Cancel,
) -> Result<Vec<Visit<X::Wide>>> {
    let problem = &checked.problem;
    let mut visits = vec![Visit::default(); targets.len()];
    let rows: Vec<_> = visits.iter_mut().zip(targets).enumerate().collect();
    let work = input.rows() * input.columns();
    threads::for_each(rows, work, cancel, Vec::new, |room, (row, (visit, target))| {
        let &Target::Class(class) = target else { return };
        let weight = X::wide(problem.weight.row(class), room);
        let dot = X::Wide::dispatch(Dot { input: input.row(row), weight });
        let logit = dot + problem.bias.map_or(0.0, |bias| bias[class].to_f64());
        let own = match problem.options.softcap {
            None => logit,
            Some(cap) => cap * (logit * checked.terms.scale.to_f64() / cap).tanh(),
        };
        visit.state = State::new(X::Wide::from_f64(own).to_f64());
    })?;
    Ok(visits)
}

/// The product of a row of the input and one of the weight.
struct Dot<'a, T> {
    input: &'a [T],
    weight: &'a [T],
}

impl<T: Element> Kernel<T> for Dot<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> f64 {
        rows::dot(simd, self.input, self.weight)
    }
}

/// Takes a part of the logits of rows in.
pub(super) struct TakeIn<'a, 's, T> {
    pub terms: Terms<'a, T>,
    pub wanted: Wanted,
    pub part: Range<usize>,
    pub visits: &'a mut [Visit<T>],
    pub targets: &'a [Target<'a, T>],
    pub logits: &'a mut [T],
    pub buffers: &'s mut Buffers<T>,
}

impl<T: Element> Kernel<T> for TakeIn<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let TakeIn { terms, wanted, part, visits, targets, logits, buffers } = self;
        let Buffers { capped, powers, .. } = buffers;
        let options = &terms.options;
        let needs_depth = wanted.entropy || options.entropy_weight != 0.0;
        for (i, logits) in logits.chunks_exact_mut(part.len()).enumerate() {
            let mut z = logits;
            if let Some((slope, cap)) = cap_of(options, terms.scale) {
                capped.resize(part.len(), T::ZERO);
                cap_row(simd, z, slope, cap, capped);
                z = capped;
            }
            if let Some(own) = position(&targets[i], &part) {
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
            visit.state.merge(simd, z, scale_of(&terms), powers);
        }
    }
}
