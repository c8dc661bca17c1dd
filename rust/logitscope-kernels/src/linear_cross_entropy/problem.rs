//! What a fused linear layer and loss is taken of, what it fills, and their checks.

use crate::cross_entropy::{self, Divisors, Statistics, Target, Targets};
use crate::error::{Error, Result};
use crate::rows;
use crate::view::{Heads, Matrix};
use logitscope_simd::{Element, Stored};

/// Logits are `input weight^T + bias`, and the loss that of [`cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, X: Stored> {
    /// The rows before the linear layer.
    pub input: Matrix<'a, X>,
    /// A row for each class.
    pub weight: Matrix<'a, X>,
    /// A number for each class.
    pub bias: Option<&'a [X::Wide]>,
    /// What each row should give.
    pub targets: Targets<'a, X>,
    /// A factor for the loss of each class, not negative.
    pub class_weight: Option<&'a [X::Wide]>,
    /// Everything else.
    pub options: cross_entropy::Options<'a>,
    /// Blocks of the logits' gradient that nowhere reach this are taken for 0.
    pub filter: Option<f64>,
}

/// The arrays to fill.
#[derive(Debug)]
pub struct Output<'a, X: Stored> {
    /// The loss of each row, 0 where it is ignored; the penalties are in it when they are not reduced.
    pub losses: &'a mut [X::Wide],
    /// The gradients of the reduced loss.
    pub gradients: Option<Gradients<'a, X>>,
    /// What else is wanted of each row.
    pub statistics: Statistics<'a, X::Wide>,
}

/// Gradients to fill, in row-major order.
#[derive(Debug)]
pub struct Gradients<'a, X: Stored> {
    /// Shaped as the input.
    pub input: Option<&'a mut [X]>,
    /// Shaped as the weight.
    pub weight: Option<&'a mut [X]>,
    /// One number a class.
    pub bias: Option<&'a mut [X]>,
    /// The gradient of what follows with respect to the loss of each row (before the division of a mean);
    /// all ones if there is none.
    pub upstream: Option<&'a [X::Wide]>,
}

/// A problem that has been checked.
pub(super) struct Checked<'a, X: Stored> {
    pub problem: Problem<'a, X>,
    pub terms: Terms<'a, X::Wide>,
}

/// What a loss depends on beside logits and targets: all of it is of what is computed with.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a, T> {
    class_weight: Option<&'a [T]>,
    pub options: cross_entropy::Options<'a>,
    /// 1 / temperature.
    pub scale: T,
    pub divisors: Divisors<'a>,
}

impl<'a, X: Stored> Problem<'a, X> {
    /// The numbers of rows and classes.
    pub fn size(&self) -> (usize, usize) {
        (self.input.rows(), self.weight.rows())
    }

    pub(super) fn check(self) -> Result<Checked<'a, X>> {
        let operation = self.options.operation;
        let (rows, classes) = self.size();
        if self.input.columns() != self.weight.columns() {
            return Err(Error::Shape {
                operation,
                argument: "weight",
                got: format!("of {} columns", self.weight.columns()),
                expected: format!("{}, as many as input has", self.input.columns()),
            });
        }
        rows::check_len(operation, "bias", self.bias.map_or(classes, <[_]>::len), classes)?;
        if let Some(filter) = self.filter.filter(|&x| !(x > 0.0 && x.is_finite())) {
            return Err(Error::Argument {
                operation,
                argument: "filter_eps",
                got: format!("{filter:?}"),
                expected: "a positive finite number, or none".to_owned(),
            });
        }
        // Stands for every row of logits, which are not there yet.
        let row = vec![X::narrow(X::Wide::ZERO); classes];
        let of_logits = cross_entropy::Problem {
            logits: Heads::new(&row, [1, 1, rows, classes], [0; 3]),
            targets: self.targets,
            weight: self.class_weight,
            options: self.options,
        };
        let (weights, live) = of_logits.check()?;
        let (options, scale) = (self.options, rows::scale_of(operation, self.options.temperature)?);
        let divisors = Divisors::new(options.reduction, options.normalizer, weights, live, options.empty);
        let terms = Terms { class_weight: self.class_weight, options, scale, divisors };
        Ok(Checked { problem: self, terms })
    }
}

impl<X: Stored> Checked<'_, X> {
    /// What a row should give.
    pub(super) fn target(&self, row: usize) -> Target<'_, X> {
        self.problem.targets.of_row(row, self.problem.weight.rows())
    }

    /// What rows should give; masses that are not what is computed with are widened in `masses`.
    pub(super) fn targets<'b>(
        &'b self,
        rows: &[usize],
        masses: &'b mut Vec<X::Wide>,
    ) -> Vec<Target<'b, X::Wide>> {
        let classes = self.problem.weight.rows();
        for (place, &row) in rows.iter().enumerate() {
            if let Target::Masses(given) = self.target(row)
                && X::as_wide(given).is_none()
            {
                masses.resize(rows.len() * classes, X::Wide::ZERO);
                X::widen_into(given, &mut masses[place * classes..(place + 1) * classes]);
            }
        }
        let widened = |place: usize| &masses[place * classes..(place + 1) * classes];
        rows.iter()
            .enumerate()
            .map(|(place, &row)| match self.target(row) {
                Target::Ignored => Target::Ignored,
                Target::Class(class) => Target::Class(class),
                Target::Masses(given) => Target::Masses(X::as_wide(given).unwrap_or_else(|| widened(place))),
            })
            .collect()
    }

    /// Whether a row has no target.
    pub(super) fn is_ignored(&self, row: usize) -> bool {
        matches!(self.target(row), Target::Ignored)
    }

    /// The rows to look at: those that are not ignored, or all.
    pub(super) fn rows(&self, all: bool) -> Vec<usize> {
        (0..self.problem.input.rows()).filter(|&row| all || !self.is_ignored(row)).collect()
    }
}

impl<'a, T: Element> Terms<'a, T> {
    /// The factor of a class.
    #[inline(always)]
    pub(super) fn class_weight(&self, class: usize) -> f64 {
        self.class_weight.map_or(1.0, |weight| weight[class].to_f64())
    }

    /// The problem of the loss of `logits` alone, whose target is told apart.
    pub(super) fn of_row<'b>(&self, logits: &'b [T]) -> cross_entropy::Problem<'b, T>
    where
        'a: 'b,
    {
        cross_entropy::Problem {
            logits: Heads::contiguous(logits, [1, 1, 1, logits.len()]),
            targets: Targets::Classes { of_rows: &[], ignore_index: 0 },
            weight: self.class_weight,
            options: self.options,
        }
    }
}

impl<X: Stored> Output<'_, X> {
    pub(super) fn check(&self, problem: &Problem<'_, X>) -> Result<()> {
        let ((rows, _), operation) = (problem.size(), problem.options.operation);
        rows::check_len(operation, "losses", self.losses.len(), rows)?;
        self.statistics.check(operation, rows)?;
        self.gradients.as_ref().map_or(Ok(()), |gradients| gradients.check(problem))
    }
}

impl<X: Stored> Gradients<'_, X> {
    pub(super) fn check(&self, problem: &Problem<'_, X>) -> Result<()> {
        let ((rows, classes), operation) = (problem.size(), problem.options.operation);
        let columns = problem.input.columns();
        let wanted = [
            ("input", &self.input, rows * columns),
            ("weight", &self.weight, classes * columns),
            ("bias", &self.bias, classes),
        ];
        for (name, array, len) in wanted {
            rows::check_len(operation, name, array.as_ref().map_or(len, |x| x.len()), len)?;
        }
        rows::check_len(operation, "upstream", self.upstream.map_or(rows, <[_]>::len), rows)
    }
}
