//! What a fused linear layer and loss is taken of, what it fills, and their checks.

use crate::cross_entropy::{self, Divisors, Statistics, Target, Targets};
use crate::error::{Error, Result};
use crate::rows;
use crate::view::{Heads, Matrix};
use logitscope_simd::Element;

/// Logits are `input weight^T + bias`, and the loss that of [`cross_entropy`].
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a, T> {
    /// The rows before the linear layer.
    pub input: Matrix<'a, T>,
    /// A row for each class.
    pub weight: Matrix<'a, T>,
    /// A number for each class.
    pub bias: Option<&'a [T]>,
    /// What each row should give.
    pub targets: Targets<'a, T>,
    /// A factor for the loss of each class, not negative.
    pub class_weight: Option<&'a [T]>,
    /// Everything else.
    pub options: cross_entropy::Options<'a>,
    /// Blocks of the logits' gradient that nowhere reach this are taken for 0.
    pub filter: Option<f64>,
}

/// The arrays to fill.
#[derive(Debug)]
pub struct Output<'a, T> {
    /// The loss of each row, 0 where it is ignored; the penalties are in it when they are not reduced.
    pub losses: &'a mut [T],
    /// The gradients of the reduced loss.
    pub gradients: Option<Gradients<'a, T>>,
    /// What else is wanted of each row.
    pub statistics: Statistics<'a, T>,
}

/// Gradients to fill, in row-major order.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// Shaped as the input.
    pub input: Option<&'a mut [T]>,
    /// Shaped as the weight.
    pub weight: Option<&'a mut [T]>,
    /// One number a class.
    pub bias: Option<&'a mut [T]>,
    /// The gradient of what follows with respect to the loss of each row (before the division of a mean);
    /// all ones if there is none.
    pub upstream: Option<&'a [T]>,
}

/// A problem that has been checked.
pub(super) struct Checked<'a, T> {
    pub problem: Problem<'a, T>,
    /// 1 / temperature.
    pub scale: T,
    pub divisors: Divisors<'a>,
}

impl<'a, T: Element> Problem<'a, T> {
    /// The numbers of rows and classes.
    pub fn size(&self) -> (usize, usize) {
        (self.input.rows(), self.weight.rows())
    }

    /// The problem of the loss alone: `row` stands for every row of logits, which are not there yet.
    pub(super) fn of_logits<'b>(&self, row: &'b [T]) -> cross_entropy::Problem<'b, T>
    where
        'a: 'b,
    {
        let (rows, classes) = self.size();
        cross_entropy::Problem {
            logits: Heads::new(row, [1, 1, rows, classes], [0; 3]),
            targets: self.targets,
            weight: self.class_weight,
            options: self.options,
        }
    }

    pub(super) fn check(self) -> Result<Checked<'a, T>> {
        let operation = self.options.operation;
        let (_, classes) = self.size();
        if self.input.columns() != self.weight.columns() {
            return Err(Error::Shape {
                operation,
                argument: "weight",
                got: format!("of {} columns", self.weight.columns()),
                expected: format!("{}, as many as input has", self.input.columns()),
            });
        }
        rows::check_len(operation, "bias", self.bias.map_or(classes, <[T]>::len), classes)?;
        if let Some(filter) = self.filter.filter(|&x| !(x > 0.0 && x.is_finite())) {
            return Err(Error::Argument {
                operation,
                argument: "filter_eps",
                got: format!("{filter:?}"),
                expected: "a positive finite number, or none".to_owned(),
            });
        }
        let row = vec![T::ZERO; classes];
        let (weights, live) = self.of_logits(&row).check()?;
        let scale = rows::scale_of(operation, self.options.temperature)?;
        let options = &self.options;
        let divisors = Divisors::new(options.reduction, options.normalizer, weights, live, options.empty);
        Ok(Checked { problem: self, scale, divisors })
    }
}

impl<T: Element> Checked<'_, T> {
    /// What a row should give.
    #[inline(always)]
    pub(super) fn target(&self, row: usize) -> Target<'_, T> {
        self.problem.targets.of_row(row, self.problem.weight.rows())
    }

    /// The factor of a class.
    #[inline(always)]
    pub(super) fn class_weight(&self, class: usize) -> f64 {
        self.problem.class_weight.map_or(1.0, |weight| weight[class].to_f64())
    }

    /// The rows to look at: those that are not ignored, or all.
    pub(super) fn rows(&self, all: bool) -> Vec<usize> {
        let rows = 0..self.problem.input.rows();
        rows.filter(|&row| all || !matches!(self.target(row), Target::Ignored)).collect()
    }
}

impl<T: Element> Output<'_, T> {
    pub(super) fn check(&self, problem: &Problem<'_, T>) -> Result<()> {
        let ((rows, _), operation) = (problem.size(), problem.options.operation);
        rows::check_len(operation, "losses", self.losses.len(), rows)?;
        self.statistics.check(operation, rows)?;
        self.gradients.as_ref().map_or(Ok(()), |gradients| gradients.check(problem))
    }
}

impl<T: Element> Gradients<'_, T> {
    pub(super) fn check(&self, problem: &Problem<'_, T>) -> Result<()> {
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
        rows::check_len(operation, "upstream", self.upstream.map_or(rows, <[T]>::len), rows)
    }
}
