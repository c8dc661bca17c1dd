//! Binary cross entropy and the focal loss of logits, element by element.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, optional};
use crate::call::run;
use logitscope_kernels::binary_cross_entropy::{self as kernel, Focal, Problem};
use pyo3::prelude::*;

/// What the operation needs besides arrays: gamma and alpha of the focal loss, and what derivatives are multiplied by.
#[derive(Clone, Copy)]
struct Options {
    focal: Option<Focal>,
    factor: f64,
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn binary_cross_entropy<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    pos_weight: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    focal: Option<(f64, Option<f64>)>,
    factor: f64,
    losses: &Bound<'py, PyAny>,
    slopes: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let options = Options { focal: focal.map(|(gamma, alpha)| Focal { gamma, alpha }), factor };
    let inputs = [logits, targets, pos_weight];
    by_stored!("binary_cross_entropy_with_logits", logits => of(py, inputs, weight, options, losses, slopes))
}

fn of<'py, X: ArrayStored>(
    py: Python<'py>,
    [logits, targets, pos_weight]: [&Bound<'py, PyAny>; 3],
    weight: Option<&Bound<'py, PyAny>>,
    Options { focal, factor }: Options,
    losses: &Bound<'py, PyAny>,
    slopes: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (logits, targets): (Input<'py, X>, Input<'py, X>) = (logits.extract()?, targets.extract()?);
    let pos_weight: Input<'py, X::Wide> = pos_weight.extract()?;
    let weight: Option<Input<'py, X::Wide>> = optional(weight)?;
    let (mut losses, mut slopes): (Filled<'py, X::Wide>, Filled<'py, X>) =
        (losses.extract()?, slopes.extract()?);
    let problem = Problem {
        logits: contiguous("logits", &logits)?,
        targets: contiguous("targets", &targets)?,
        pos_weight: contiguous("pos_weight", &pos_weight)?,
        weight: weight.as_ref().map(|weight| contiguous("weight", weight)).transpose()?,
        focal,
        factor,
    };
    let count = problem.logits.len();
    let losses = filled("losses", &mut losses, count)?;
    let slopes = filled("slopes", &mut slopes, count)?;
    let name = if focal.is_some() { "sigmoid_focal_loss" } else { "binary_cross_entropy" };
    run::<X, _>(py, name, count, |cancel| kernel::binary_cross_entropy(&problem, losses, slopes, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(binary_cross_entropy, module)?)
}
