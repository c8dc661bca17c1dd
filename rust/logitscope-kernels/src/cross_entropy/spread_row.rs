//! One row with everything: masses on many classes, softcap, penalties, entropy.
//!
//! With masses t of sum T and logits z, the loss is T ln S + sum t (max - z), a sum of what is not negative, and
//! its gradient T p - t. At one class, the target or else the largest, that is (T - t) - T (1 - p) with 1 - p
//! from the sum over the others, so that a confident row keeps its digits.

use super::Link;
use super::problem::{Options, Target};
use super::row::{Question, RowLoss, RowSum, first_maximum, margin, powers, times, weighted};
use crate::rows::{self, update_row, weighed, write_row};
use logitscope_simd::math::{self, ExpBelow};
use logitscope_simd::{Element, Simd};

/// Rows that a thread reuses.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    capped: Vec<T>,
    masses: Vec<T>,
    powers: Vec<T>,
}

/// The masses of a row as its loss and gradient see them.
pub(crate) struct Spread {
    pub loss: f64,
    /// The sum of all.
    pub mass: f64,
    /// The sum over the classes other than the one that is seen from.
    pub rest: f64,
}

/// A row as it was seen from one class.
pub(crate) struct Seen<T> {
    pub max: T,
    pub scale: T,
    /// Of the class from the maximum.
    pub distance: f64,
    pub lse: f64,
    /// The mean distance from the maximum.
    pub depth: f64,
    pub sum: RowSum,
}

/// Writes the capped logits, c tanh(slope x).
#[inline(always)]
pub(crate) fn cap_row<T: Element, S: Simd<T>>(simd: S, logits: &[T], slope: T, cap: T, out: &mut [T]) {
    let (slope, cap) = (simd.splat(slope), simd.splat(cap));
    write_row!(simd, out, x in logits => simd.mul(cap, math::tanh(simd, simd.mul(x, slope))));
}

/// Makes a gradient with respect to capped logits one with respect to the logits.
#[inline(always)]
pub(crate) fn uncap_gradient<T: Element, S: Simd<T>>(simd: S, logits: &[T], slope: T, gradient: &mut [T]) {
    let slope = simd.splat(slope);
    update_row!(simd, gradient, old, x in logits => {
        math::flush(simd, simd.mul(old, math::tanh_slope(simd, simd.mul(x, slope))))
    });
}

/// The loss and the penalties of a row, and their gradient.
#[inline(always)]
pub(super) fn spread_row<T: Element, S: Simd<T>>(
    simd: S,
    question: &Question<'_, T>,
    target: Target<'_, T>,
    scratch: &mut Scratch<T>,
    mut gradient: Option<&mut [T]>,
) -> RowLoss {
    let &Question { problem, logits, .. } = question;
    let (options, classes) = (&problem.options, logits.len());
    let Scratch { capped, masses, powers: spare } = scratch;
    let slope = options.softcap.map(|cap| T::from_f64(question.scale.to_f64() / cap));
    let (z, scale) = match (options.softcap, slope) {
        (Some(cap), Some(slope)) => {
            capped.resize(classes, T::ZERO);
            cap_row(simd, logits, slope, T::from_f64(cap), capped);
            (capped.as_slice(), T::ONE)
        }
        _ => (logits, question.scale),
    };
    let (max, first) = first_maximum(simd, z);
    let (class, labelled) = match target {
        Target::Masses(masses) => (first, first_maximum(simd, masses).1),
        Target::Class(class) => (class, class),
        Target::Ignored => (0, 0),
    };

    let wants_entropy = question.wanted.entropy || options.entropy_weight != 0.0;
    let mut exponentials = match (&mut gradient, wants_entropy) {
        (Some(gradient), _) => Some(&mut **gradient),
        (None, true) => {
            spare.resize(classes, T::ZERO);
            Some(spare.as_mut_slice())
        }
        (None, false) => None,
    };
    let exp = ExpBelow::new(simd, max, scale);
    let distance = scaled_distance(max, z[class], scale);
    let labelled_distance = scaled_distance(max, z[labelled], scale);
    let others = powers(simd, &exp, z, class, distance, question.ahead, exponentials.as_deref_mut());
    let sum = RowSum::new::<T>(others, distance, options.complement);
    let v = labelled_distance + sum.ln;
    let lse = max.to_f64() * scale.to_f64() + sum.ln;
    let depth = match exponentials {
        Some(exponentials) if wants_entropy => {
            exponentials[class] = T::from_f64(sum.own);
            rows::weighted_distance(simd, exponentials, z, max, scale) / sum.total
        }
        _ => 0.0,
    };
    let collapsed = labelled_distance == 0.0 && sum.absorbs;
    let entropy = if wants_entropy { sum.ln + depth } else { f64::NAN };

    let spread = match target {
        Target::Class(class) if options.label_smoothing == 0.0 => {
            let weight = problem.class_weight(class);
            let mass = weighted(weight, options.link.slope(v));
            Some(Spread { loss: weighted(weight, options.link.value(v)), mass, rest: 0.0 })
        }
        Target::Ignored => None,
        _ => {
            masses.resize(classes, T::ZERO);
            fill_masses(masses, logits, target, problem.weight, options);
            Some(spread_loss(simd, masses, z, max, scale, sum.ln, class, options.link))
        }
    };
    let penalty = options.penalty(lse, entropy);

    if let (Some(gradient), Some(spread)) = (gradient, &spread) {
        let seen = Seen { max, scale, distance, lse, depth, sum };
        let chain = question.scale.to_f64();
        let factors = (question.factors.0 * chain, question.factors.1 * chain);
        write_gradient(simd, options, factors, &seen, z, Some(class), spread, masses, gradient);
        if let Some(slope) = slope {
            uncap_gradient(simd, logits, slope, gradient);
        }
    }
    RowLoss {
        loss: spread.as_ref().map_or(0.0, |spread| spread.loss),
        penalty: if spread.is_some() { penalty } else { 0.0 },
        v,
        lse,
        entropy,
        margin: if question.wanted.margin { margin(simd, z, scale, labelled, v) } else { f64::NAN },
        collapsed,
        argmax: 0,
    }
}

/// Makes the exponentials of a row, or of a part `z` of it that may have the class, the gradient with respect to
/// the logits, of softcapped ones with respect to what comes out. The factors are those of loss and penalties.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the parts of one row")]
pub(crate) fn write_gradient<T: Element, S: Simd<T>>(
    simd: S,
    options: &Options<'_>,
    (of_loss, of_penalty): (f64, f64),
    seen: &Seen<T>,
    z: &[T],
    class: Option<usize>,
    spread: &Spread,
    masses: &[T],
    gradient: &mut [T],
) {
    let &Seen { max, scale, distance, lse, depth, ref sum } = seen;
    let even = of_penalty * (2.0 * options.lse_square_scale * lse - options.entropy_weight * depth);
    let deep = of_penalty * options.entropy_weight;
    if let Some(class) = class {
        // Whatever lies there is replaced below.
        gradient[class] = T::ZERO;
    }
    let of_powers = T::from_f64((of_loss * spread.mass + even) / sum.total);
    if deep == 0.0 {
        times(simd, gradient, of_powers);
    } else {
        let (even, deep) = (simd.splat(of_powers), simd.splat(T::from_f64(deep / sum.total)));
        let (top, scale) = (simd.splat(max), simd.splat(scale));
        update_row!(simd, gradient, power, x in z => {
            let distance = simd.mul(simd.sub(top, x), scale);
            // Where a row has NaN, `even` is NaN.
            let product = weighed(simd, power, simd.mul(distance, deep));
            math::flush(simd, simd.add(simd.mul(power, even), product))
        });
    }
    if spread.rest != 0.0 {
        let factor = simd.splat(T::from_f64(-of_loss));
        update_row!(simd, gradient, old, t in masses => math::flush(simd, simd.mul_add(factor, t, old)));
    }
    if let Some(class) = class {
        let p = sum.own / sum.total;
        let own = of_loss * (spread.rest - spread.mass * sum.missing);
        let of_penalties = if p == 0.0 { 0.0 } else { p * (even + deep * distance) };
        gradient[class] = rows::normal_or_zero(own + of_penalties);
    }
}

#[inline(always)]
fn scaled_distance<T: Element>(max: T, x: T, scale: T) -> f64 {
    (max.to_f64() - x.to_f64()) * scale.to_f64()
}

/// The mass of each class: w ((1 - smoothing) q + smoothing / classes).
#[inline(always)]
fn fill_masses<T: Element>(
    masses: &mut [T],
    logits: &[T],
    target: Target<'_, T>,
    weight: Option<&[T]>,
    options: &Options<'_>,
) {
    let smoothing = options.label_smoothing;
    let count = if options.smooth_over_finite {
        logits.iter().filter(|&&x| x > T::NEG_INFINITY).count()
    } else {
        logits.len()
    };
    let share = T::from_f64(smoothing / count.max(1) as f64);
    masses.fill(share);
    if options.smooth_over_finite {
        for (mass, &x) in masses.iter_mut().zip(logits) {
            *mass = if x > T::NEG_INFINITY { *mass } else { T::ZERO };
        }
    }
    let kept = T::from_f64(1.0 - smoothing);
    if let Target::Masses(target) = target {
        for (mass, &q) in masses.iter_mut().zip(target) {
            *mass += kept * q;
        }
    }
    if let Some(weight) = weight {
        for (mass, &w) in masses.iter_mut().zip(weight) {
            *mass *= w;
        }
    }
    if let Target::Class(class) = target {
        // With class indices the weight is the target's, as in torch.
        masses[class] += kept * weight.map_or(T::ONE, |weight| weight[class]);
    }
}

/// The loss of spread masses, which become those of the gradient.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the parts of one row")]
fn spread_loss<T: Element, S: Simd<T>>(
    simd: S,
    masses: &mut [T],
    z: &[T],
    max: T,
    scale: T,
    ln: f64,
    class: usize,
    link: Link,
) -> Spread {
    let mut linked = 0.0;
    if link != Link::CrossEntropy {
        for (mass, &x) in masses.iter_mut().zip(z).filter(|(mass, _)| **mass != T::ZERO) {
            let v = scaled_distance(max, x, scale) + ln;
            linked += mass.to_f64() * link.value(v);
            *mass = T::from_f64(mass.to_f64() * link.slope(v));
        }
    }
    let rest = rows::sum(simd, &masses[..class]) + rows::sum(simd, &masses[class + 1..]);
    let mass = rest + masses[class].to_f64();
    let loss = if link == Link::CrossEntropy {
        mass * ln + rows::weighted_distance(simd, masses, z, max, scale)
    } else {
        linked
    };
    Spread { loss, mass, rest }
}
