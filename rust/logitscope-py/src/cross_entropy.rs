//! Cross entropy with its gradient and statistics.

use crate::arrays::{ArrayElement, Filled, Input, by_dtype, contiguous, filled, heads, optional};
use crate::call::run;
use crate::errors::ArgumentError;
use crate::softmax::empty;
use logitscope_kernels::cross_entropy::{self as kernel, Gradient, Output, Problem, Reduction};
use pyo3::prelude::*;

fn reduction(name: &str) -> PyResult<Reduction> {
    match name {
        "none" => Ok(Reduction::None),
        "sum" => Ok(Reduction::Sum),
        "mean" => Ok(Reduction::Mean),
        _ => {
            let message = format!("cross_entropy: reduction is '{name}'; use 'mean', 'sum' or 'none'");
            Err(ArgumentError::new_err(message))
        }
    }
}

/// Arguments that are not arrays of the element type.
struct Options<'a, 'py> {
    targets: &'a Bound<'py, PyAny>,
    ignore_index: i64,
    reduction: &'a str,
    empty: &'a str,
    argmax: Option<&'a Bound<'py, PyAny>>,
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn cross_entropy<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    ignore_index: i64,
    reduction: &str,
    empty: &str,
    losses: &Bound<'py, PyAny>,
    gradient: Option<&Bound<'py, PyAny>>,
    upstream: Option<&Bound<'py, PyAny>>,
    lse: Option<&Bound<'py, PyAny>>,
    argmax: Option<&Bound<'py, PyAny>>,
) -> PyResult<f64> {
    let options = Options { targets, ignore_index, reduction, empty, argmax };
    by_dtype!("cross_entropy", logits => cross_entropy_of(py, logits, &options, losses, gradient, upstream, lse))
}

fn cross_entropy_of<'py, T: ArrayElement>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    options: &Options<'_, 'py>,
    losses: &Bound<'py, PyAny>,
    gradient: Option<&Bound<'py, PyAny>>,
    upstream: Option<&Bound<'py, PyAny>>,
    lse: Option<&Bound<'py, PyAny>>,
) -> PyResult<f64> {
    let (logits, targets): (Input<'py, T>, Input<'py, i64>) = (logits.extract()?, options.targets.extract()?);
    let mut losses: Filled<'py, T> = losses.extract()?;
    let mut gradient: Option<Filled<'py, T>> = optional(gradient)?;
    let upstream: Option<Input<'py, T>> = optional(upstream)?;
    let mut lse: Option<Filled<'py, T>> = optional(lse)?;
    let mut argmax: Option<Filled<'py, i64>> = optional(options.argmax)?;
    let problem = Problem {
        logits: heads("logits", &logits)?,
        targets: contiguous("targets", &targets)?,
        ignore_index: options.ignore_index,
        reduction: reduction(options.reduction)?,
        empty: empty("cross_entropy", options.empty)?,
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
        lse: lse.as_mut().map(|x| filled("lse", x, rows)).transpose()?,
        argmax: argmax.as_mut().map(|x| filled("argmax", x, rows)).transpose()?,
    };
    run::<T, _>(py, "cross_entropy", rows * classes, |cancel| kernel::cross_entropy(&problem, output, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cross_entropy, module)?)
}
