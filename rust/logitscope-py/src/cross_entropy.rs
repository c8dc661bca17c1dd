//! Losses of rows of logits with their gradient and statistics.

use crate::arrays::{
    ArrayElement, ArrayStored, Filled, Input, Item, by_stored, contiguous, filled, heads, optional,
};
use crate::call::run;
use crate::errors::{ArgumentError, to_python};
use crate::softmax::empty;
use logitscope_kernels::cross_entropy::{
    self as kernel, Gradient, Link, Normalizer, Output, Problem, Reduction, Statistics, Targets,
};
use pyo3::prelude::*;

/// The reduction with a name.
pub(crate) fn reduction(operation: &str, name: &str) -> PyResult<Reduction> {
    match name {
        "none" => Ok(Reduction::None),
        "sum" => Ok(Reduction::Sum),
        "mean" => Ok(Reduction::Mean),
        _ => {
            let message = format!("{operation}: reduction is '{name}'; use 'mean', 'sum' or 'none'");
            Err(ArgumentError::new_err(message))
        }
    }
}

/// The operations of Python that are this kernel: errors name the one that was called.
const OPERATIONS: [&str; 9] = [
    "cross_entropy",
    "cross_entropy_backward",
    "comp_sum_loss",
    "focal_loss",
    "generalized_cross_entropy",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "poly_loss",
    "symmetric_cross_entropy",
];

/// A divisor for all rows or one a row.
#[derive(FromPyObject)]
enum Divisors<'py> {
    All(f64),
    Rows(Input<'py, f64>),
}

/// The options, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Options<'py> {
    pub(crate) ignore_index: i64,
    reduction: String,
    empty: String,
    temperature: f64,
    softcap: Option<f64>,
    label_smoothing: f64,
    smooth_over: String,
    lse_square_scale: f64,
    entropy_weight: f64,
    normalizer: Option<Divisors<'py>>,
    link: String,
    link_params: Vec<(String, f64)>,
    complement: bool,
}

impl Options<'_> {
    pub(crate) fn for_kernel(&self, operation: &str) -> PyResult<kernel::Options<'_>> {
        let operation = OPERATIONS.into_iter().find(|known| *known == operation).unwrap_or(OPERATIONS[0]);
        Ok(kernel::Options {
            operation,
            link: Link::named(operation, &self.link, &self.link_params).map_err(|error| to_python(&error))?,
            temperature: self.temperature,
            softcap: self.softcap,
            label_smoothing: self.label_smoothing,
            smooth_over_finite: match self.smooth_over.as_str() {
                "all" => false,
                "finite" => true,
                name => {
                    let message = format!("{operation}: smooth_over is '{name}'; use 'all' or 'finite'");
                    return Err(ArgumentError::new_err(message));
                }
            },
            lse_square_scale: self.lse_square_scale,
            entropy_weight: self.entropy_weight,
            reduction: reduction(operation, &self.reduction)?,
            normalizer: match &self.normalizer {
                None => None,
                Some(Divisors::All(divisor)) => Some(Normalizer::All(*divisor)),
                Some(Divisors::Rows(rows)) => Some(Normalizer::Rows(contiguous("normalizer", rows)?)),
            },
            empty: empty(operation, &self.empty)?,
            complement: self.complement,
        })
    }
}

/// Arrays to fill besides losses and gradient, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Wanted<'py> {
    lse: Bound<'py, PyAny>,
    argmax: Bound<'py, PyAny>,
    margin: Bound<'py, PyAny>,
    v: Bound<'py, PyAny>,
    entropy: Bound<'py, PyAny>,
    collapsed: Bound<'py, PyAny>,
}

/// The same with their element types.
pub(crate) struct Filling<'py, T: ArrayElement> {
    lse: Filled<'py, T>,
    argmax: Filled<'py, i64>,
    margin: Filled<'py, T>,
    v: Filled<'py, T>,
    entropy: Filled<'py, T>,
    collapsed: Filled<'py, bool>,
}

impl<'py, T: ArrayElement> Filling<'py, T> {
    pub(crate) fn of(wanted: &Wanted<'py>) -> PyResult<Self> {
        Ok(Self {
            lse: wanted.lse.extract()?,
            argmax: wanted.argmax.extract()?,
            margin: wanted.margin.extract()?,
            v: wanted.v.extract()?,
            entropy: wanted.entropy.extract()?,
            collapsed: wanted.collapsed.extract()?,
        })
    }

    pub(crate) fn statistics(&mut self, rows: usize) -> PyResult<Statistics<'_, T>> {
        Ok(Statistics {
            lse: Some(filled("lse", &mut self.lse, rows)?),
            argmax: Some(filled("argmax", &mut self.argmax, rows)?),
            margin: Some(filled("margin", &mut self.margin, rows)?),
            v: Some(filled("v", &mut self.v, rows)?),
            entropy: Some(filled("entropy", &mut self.entropy, rows)?),
            collapsed: Some(filled("collapsed", &mut self.collapsed, rows)?),
        })
    }
}

/// Targets of either kind.
pub(crate) enum TargetArray<'py, T: Item> {
    Classes(Input<'py, i64>),
    Masses(Input<'py, T>),
}

impl<'py, T: Item> TargetArray<'py, T> {
    pub(crate) fn of(targets: &Bound<'py, PyAny>) -> PyResult<Self> {
        match targets.extract() {
            Ok(classes) => Ok(Self::Classes(classes)),
            Err(_) => Ok(Self::Masses(targets.extract()?)),
        }
    }

    pub(crate) fn for_kernel(&self, ignore_index: i64) -> PyResult<Targets<'_, T>> {
        match self {
            Self::Classes(classes) => {
                Ok(Targets::Classes { of_rows: contiguous("targets", classes)?, ignore_index })
            }
            Self::Masses(masses) => Ok(Targets::Masses(contiguous("targets", masses)?)),
        }
    }
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn cross_entropy<'py>(
    py: Python<'py>,
    operation: &str,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    options: Options<'py>,
    losses: &Bound<'py, PyAny>,
    gradient: Option<&Bound<'py, PyAny>>,
    upstream: Option<&Bound<'py, PyAny>>,
    statistics: Option<Wanted<'py>>,
) -> PyResult<f64> {
    by_stored!(operation, logits => cross_entropy_of(
        py, operation, logits, targets, weight, &options, losses, gradient, upstream, statistics.as_ref(),
    ))
}

#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn cross_entropy_of<'py, X: ArrayStored>(
    py: Python<'py>,
    operation: &str,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    options: &Options<'py>,
    losses: &Bound<'py, PyAny>,
    gradient: Option<&Bound<'py, PyAny>>,
    upstream: Option<&Bound<'py, PyAny>>,
    wanted: Option<&Wanted<'py>>,
) -> PyResult<f64> {
    let logits: Input<'py, X> = logits.extract()?;
    let targets = TargetArray::<X>::of(targets)?;
    let weight: Option<Input<'py, X::Wide>> = optional(weight)?;
    let mut losses: Filled<'py, X::Wide> = losses.extract()?;
    let mut gradient: Option<Filled<'py, X>> = optional(gradient)?;
    let upstream: Option<Input<'py, X::Wide>> = optional(upstream)?;
    let mut filling = wanted.map(Filling::of).transpose()?;
    let problem = Problem {
        logits: heads("logits", &logits)?,
        targets: targets.for_kernel(options.ignore_index)?,
        weight: weight.as_ref().map(|x| contiguous("weight", x)).transpose()?,
        options: options.for_kernel(operation)?,
    };
    let (rows, classes) = problem.size();
    let upstream = upstream.as_ref().map(|x| contiguous("upstream", x)).transpose()?;
    let output = Output {
        losses: filled("losses", &mut losses, rows)?,
        gradient: match &mut gradient {
            Some(gradient) => {
                Some(Gradient { logits: filled("gradient", gradient, rows * classes)?, upstream })
            }
            None => None,
        },
        statistics: match &mut filling {
            Some(filling) => filling.statistics(rows)?,
            None => Statistics::default(),
        },
    };
    run::<X, _>(py, "cross_entropy", rows * classes, |cancel| kernel::cross_entropy(&problem, output, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cross_entropy, module)?)
}
