//! Losses over `StableMax`, of the margin, and of the spherical family.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis, optional};
use crate::call::run;
use crate::cross_entropy::reduction;
use crate::errors::ArgumentError;
use crate::softmax::empty;
use logitscope_kernels::row_loss::{self as kernel, Problem, RowLoss};
use pyo3::prelude::*;

fn loss(name: &str, parameters: &[f64]) -> PyResult<RowLoss> {
    match (name, parameters) {
        ("stablemax_cross_entropy", &[label_smoothing]) => Ok(RowLoss::StableMax { label_smoothing }),
        ("margin_loss", []) => Ok(RowLoss::Margin),
        ("taylor_softmax_loss", []) => Ok(RowLoss::Taylor),
        ("squared_error_loss", []) => Ok(RowLoss::Squared),
        ("spherical_softmax_loss", &[epsilon]) => Ok(RowLoss::Spherical { epsilon }),
        ("z_standardized_loss", &[a, b]) => Ok(RowLoss::ZStandardized { a, b }),
        _ => {
            Err(ArgumentError::new_err(format!("row_loss: no loss '{name}' of {} numbers", parameters.len())))
        }
    }
}

/// Arguments that are not arrays of the element type.
struct Options<'a, 'py> {
    loss: RowLoss,
    targets: &'a Bound<'py, PyAny>,
    ignore_index: i64,
    reduction: &'a str,
    empty: &'a str,
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn row_loss<'py>(
    py: Python<'py>,
    operation: &str,
    parameters: Vec<f64>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    ignore_index: i64,
    reduction: &str,
    empty: &str,
    losses: &Bound<'py, PyAny>,
    gradient: Option<&Bound<'py, PyAny>>,
) -> PyResult<f64> {
    let options = Options { loss: loss(operation, &parameters)?, targets, ignore_index, reduction, empty };
    by_stored!(operation, logits => row_loss_of(py, logits, weight, &options, losses, gradient))
}

fn row_loss_of<'py, X: ArrayStored>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    options: &Options<'_, 'py>,
    losses: &Bound<'py, PyAny>,
    gradient: Option<&Bound<'py, PyAny>>,
) -> PyResult<f64> {
    let operation = options.loss.name();
    let (logits, targets): (Input<'py, X>, Input<'py, i64>) = (logits.extract()?, options.targets.extract()?);
    let weight: Option<Input<'py, X::Wide>> = optional(weight)?;
    let mut losses: Filled<'py, X::Wide> = losses.extract()?;
    let mut gradient: Option<Filled<'py, X>> = optional(gradient)?;
    let (classes, logits) = (last_axis(&logits), contiguous("logits", &logits)?);
    let problem = Problem {
        logits,
        classes,
        targets: contiguous("targets", &targets)?,
        ignore_index: options.ignore_index,
        weight: weight.as_ref().map(|x| contiguous("weight", x)).transpose()?,
        loss: options.loss,
        reduction: reduction(operation, options.reduction)?,
        empty: empty(operation, options.empty)?,
    };
    let losses = filled("losses", &mut losses, logits.len() / classes.max(1))?;
    let gradient = gradient.as_mut().map(|x| filled("gradient", x, logits.len())).transpose()?;
    run::<X, _>(py, operation, logits.len(), |cancel| kernel::row_loss(&problem, losses, gradient, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(row_loss, module)?)
}
