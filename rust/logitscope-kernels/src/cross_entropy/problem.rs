//! What a cross entropy is taken of, what it fills, and their checks.

use super::statistics::Statistics;
use super::{Link, NAME, Normalizer, Reduction};
use crate::error::{Error, Result};
use crate::rows::{self, Empty};
use crate::view::Heads;
use logitscope_simd::{Element, Stored};
use std::ops::Range;

/// What the loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, X: Stored> {
    /// The logits, classes in the last axis; what remains, in row-major order, are the rows.
    pub logits: Heads<'a, X>,
    /// What each row should give.
    pub targets: Targets<'a, X>,
    /// A factor for the loss of each class, not negative.
    pub weight: Option<&'a [X::Wide]>,
    /// Everything else.
    pub options: Options<'a>,
}

/// What the rows should give.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a, X> {
    /// The class of each row.
    Classes {
        /// One a row.
        of_rows: &'a [i64],
        /// Rows with this target have no loss and no gradient, whatever their logits hold.
        ignore_index: i64,
    },
    /// The mass of each class, row after row; they need not sum to 1.
    Masses(&'a [X]),
}

/// The options of a cross entropy.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The name that errors give the operation.
    pub operation: &'static str,
    /// What is made of -ln p of the target.
    pub link: Link,
    /// What the logits are divided by.
    pub temperature: f64,
    /// c of c tanh(z / c), through which the logits go after the division.
    pub softcap: Option<f64>,
    /// The share of a target's mass that is spread evenly.
    pub label_smoothing: f64,
    /// Whether that share goes to finite logits only.
    pub smooth_over_finite: bool,
    /// Factor of the penalty lse².
    pub lse_square_scale: f64,
    /// Factor of the penalty H, the entropy of the softmax.
    pub entropy_weight: f64,
    /// How the losses become one number.
    pub reduction: Reduction,
    /// What replaces the divisor of the mean.
    pub normalizer: Option<Normalizer<'a>>,
    /// What the mean of no rows is.
    pub empty: Empty,
    /// Whether the sum over the other classes is used; else, as textbooks do, the one over all.
    pub complement: bool,
}

impl Default for Options<'_> {
    /// Plain cross entropy, its mean.
    fn default() -> Self {
        Self {
            operation: NAME,
            link: Link::CrossEntropy,
            temperature: 1.0,
            softcap: None,
            label_smoothing: 0.0,
            smooth_over_finite: false,
            lse_square_scale: 0.0,
            entropy_weight: 0.0,
            reduction: Reduction::Mean,
            normalizer: None,
            empty: Empty::Nan,
            complement: true,
        }
    }
}

/// The arrays to fill.
#[derive(Debug)]
pub struct Output<'a, X: Stored> {
    /// The loss of each row, 0 where it is ignored; the penalties are in it for [`Reduction::None`].
    pub losses: &'a mut [X::Wide],
    /// The gradient of the reduced loss with respect to the logits.
    pub gradient: Option<Gradient<'a, X>>,
    /// What else is wanted of each row.
    pub statistics: Statistics<'a, X::Wide>,
}

/// A gradient to fill.
#[derive(Debug)]
pub struct Gradient<'a, X: Stored> {
    /// Shaped as the logits.
    pub logits: &'a mut [X],
    /// The gradient of what follows with respect to the loss of each row (before the division of a mean);
    /// all ones if there is none.
    pub upstream: Option<&'a [X::Wide]>,
}

/// What one row should give.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a, T> {
    Ignored,
    Class(usize),
    Masses(&'a [T]),
}

impl<'a, X: Stored> Problem<'a, X> {
    /// The numbers of rows and classes.
    pub fn size(&self) -> (usize, usize) {
        let [a, b, c, classes] = self.logits.shape();
        (a * b * c, classes)
    }

    #[inline(always)]
    pub(super) fn row(&self, index: usize) -> &'a [X] {
        let [_, b, c, _] = self.logits.shape();
        let (outer, row) = (index / c, index % c);
        self.logits.matrix(outer / b, outer % b).row(row)
    }

    #[inline(always)]
    pub(crate) fn target(&self, index: usize) -> Target<'a, X> {
        let (_, classes) = self.size();
        self.targets.of_row(index, classes)
    }

    #[inline(always)]
    pub(crate) fn class_weight(&self, class: usize) -> f64 {
        self.weight.map_or(1.0, |weight| weight[class].to_f64())
    }

    /// The problem itself where its numbers are what is computed with.
    pub(super) fn as_wide(&self) -> Option<Problem<'a, X::Wide>> {
        let targets = match self.targets {
            Targets::Classes { of_rows, ignore_index } => Targets::Classes { of_rows, ignore_index },
            Targets::Masses(masses) => Targets::Masses(X::as_wide(masses)?),
        };
        let logits = self.logits.as_wide()?;
        Some(Problem { logits, targets, weight: self.weight, options: self.options })
    }

    /// Some of the rows as what is computed with, in buffers.
    pub(super) fn widened<'b>(
        &self,
        rows: Range<usize>,
        logits: &'b mut Vec<X::Wide>,
        masses: &'b mut Vec<X::Wide>,
    ) -> Problem<'b, X::Wide>
    where
        'a: 'b,
    {
        let (_, classes) = self.size();
        let shape = [1, 1, rows.len(), classes];
        let targets = match self.targets {
            Targets::Classes { of_rows, ignore_index } => {
                Targets::Classes { of_rows: &of_rows[rows.clone()], ignore_index }
            }
            Targets::Masses(all) => {
                Targets::Masses(X::wide(&all[rows.start * classes..rows.end * classes], masses))
            }
        };
        logits.resize(rows.len() * classes, X::Wide::ZERO);
        for (row, wide) in rows.zip(logits.chunks_exact_mut(classes)) {
            X::widen_into(self.row(row), wide);
        }
        let logits = Heads::contiguous(logits, shape);
        Problem { logits, targets, weight: self.weight, options: self.options }
    }

    /// Checks everything; returns the sum of the weights of the rows that are not ignored, and their number.
    pub(crate) fn check(&self) -> Result<(f64, usize)> {
        let operation = self.options.operation;
        let (rows, classes) = self.size();
        if classes == 0 {
            return Err(Error::Shape {
                operation,
                argument: "logits",
                got: format!("{:?}", self.logits.shape()),
                expected: "at least one class".to_owned(),
            });
        }
        check_weight(operation, self.weight, classes)?;
        self.options.check(rows, matches!(self.targets, Targets::Masses(_)))?;
        match self.targets {
            Targets::Masses(masses) => {
                rows::check_len(operation, "targets", masses.len(), rows * classes)?;
                Ok((rows as f64, rows))
            }
            Targets::Classes { of_rows, ignore_index } => {
                rows::check_len(operation, "targets", of_rows.len(), rows)?;
                check_classes(operation, of_rows, ignore_index, classes, self.weight)
            }
        }
    }
}

/// Checks the factors of the classes.
pub(crate) fn check_weight<T: Element>(
    operation: &'static str,
    weight: Option<&[T]>,
    classes: usize,
) -> Result<()> {
    let Some(weight) = weight else {
        return Ok(());
    };
    rows::check_len(operation, "weight", weight.len(), classes)?;
    match weight.iter().position(|w| *w < T::ZERO || !w.is_finite()) {
        None => Ok(()),
        Some(class) => {
            let got = format!("{} for class {class}", weight[class]);
            Err(wrong(operation, "weight", got, "finite numbers, at least 0"))
        }
    }
}

/// Checks class indices; returns the sum of their weights and how many are not ignored.
pub(crate) fn check_classes<T: Element>(
    operation: &'static str,
    targets: &[i64],
    ignore_index: i64,
    classes: usize,
    weight: Option<&[T]>,
) -> Result<(f64, usize)> {
    let (mut sum, mut live) = (0.0, 0);
    for (row, &value) in targets.iter().enumerate() {
        if value == ignore_index {
            continue;
        }
        let Some(class) = usize::try_from(value).ok().filter(|&class| class < classes) else {
            return Err(Error::Target { operation, row, value, classes });
        };
        live += 1;
        if let Some(weight) = weight {
            sum += weight[class].to_f64();
        }
    }
    Ok((if weight.is_some() { sum } else { live as f64 }, live))
}

impl Options<'_> {
    /// Whether anything is added to the losses.
    pub(crate) fn has_penalties(&self) -> bool {
        self.lse_square_scale != 0.0 || self.entropy_weight != 0.0
    }

    /// What is added to the loss of a row with a logsumexp and an entropy.
    #[inline(always)]
    pub(crate) fn penalty(&self, lse: f64, entropy: f64) -> f64 {
        let of_lse = if self.lse_square_scale == 0.0 { 0.0 } else { self.lse_square_scale * lse * lse };
        let of_entropy = if self.entropy_weight == 0.0 { 0.0 } else { self.entropy_weight * entropy };
        of_lse + of_entropy
    }

    fn check(&self, rows: usize, spread: bool) -> Result<()> {
        let operation = self.operation;
        let finite = "a finite number, at least 0";
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(wrong(
                operation,
                "label_smoothing",
                format!("{:?}", self.label_smoothing),
                "a number in 0..1",
            ));
        }
        if self.softcap.is_some_and(|c| !(c > 0.0 && c.is_finite())) {
            return Err(wrong(
                operation,
                "softcap",
                format!("{:?}", self.softcap.unwrap_or(0.0)),
                "a positive finite number",
            ));
        }
        if !(self.lse_square_scale >= 0.0 && self.lse_square_scale.is_finite()) {
            return Err(wrong(operation, "lse_square_scale", format!("{:?}", self.lse_square_scale), finite));
        }
        if !self.entropy_weight.is_finite() {
            return Err(wrong(
                operation,
                "entropy_weight",
                format!("{:?}", self.entropy_weight),
                "a finite number",
            ));
        }
        if (spread || self.label_smoothing > 0.0) && !self.link.spreads() {
            let got = "one of a single class, with smoothed or soft targets".to_owned();
            return Err(wrong(operation, "link", got, "'ce', 'comp_sum', 'gce' or 'mae'"));
        }
        let Some(normalizer) = self.normalizer else {
            return Ok(());
        };
        if self.reduction != Reduction::Mean {
            return Err(wrong(operation, "normalizer", "given".to_owned(), "it with reduction 'mean' only"));
        }
        let divisors = match &normalizer {
            Normalizer::All(divisor) => std::slice::from_ref(divisor),
            Normalizer::Rows(divisors) => {
                rows::check_len(operation, "normalizer", divisors.len(), rows)?;
                divisors
            }
        };
        match divisors.iter().find(|&&n| !(n > 0.0 && n.is_finite())) {
            Some(n) => Err(wrong(operation, "normalizer", format!("{n:?}"), "positive finite numbers")),
            None => Ok(()),
        }
    }
}

impl<'a, T> Targets<'a, T> {
    /// What one row of `classes` should give.
    #[inline(always)]
    pub(crate) fn of_row(self, row: usize, classes: usize) -> Target<'a, T> {
        match self {
            Targets::Classes { of_rows, ignore_index } if of_rows[row] == ignore_index => Target::Ignored,
            Targets::Classes { of_rows, .. } => Target::Class(of_rows[row] as usize),
            Targets::Masses(masses) => Target::Masses(&masses[row * classes..(row + 1) * classes]),
        }
    }
}

impl<X: Stored> Output<'_, X> {
    pub(super) fn check(&self, problem: &Problem<'_, X>) -> Result<()> {
        let ((rows, classes), operation) = (problem.size(), problem.options.operation);
        rows::check_len(operation, "losses", self.losses.len(), rows)?;
        if let Some(gradient) = &self.gradient {
            rows::check_len(operation, "gradient", gradient.logits.len(), rows * classes)?;
            rows::check_len(operation, "upstream", gradient.upstream.map_or(rows, <[_]>::len), rows)?;
        }
        self.statistics.check(operation, rows)
    }
}

fn wrong(operation: &'static str, argument: &'static str, got: String, expected: &str) -> Error {
    Error::Argument { operation, argument, got, expected: expected.to_owned() }
}
