//! Binary cross entropy of logits, element by element.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled};
use crate::call::run;
use logitscope_kernels::binary_cross_entropy as kernel;
use pyo3::prelude::*;

#[pyfunction]
fn binary_cross_entropy<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    pos_weight: &Bound<'py, PyAny>,
    factor: f64,
    losses: &Bound<'py, PyAny>,
    slopes: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("binary_cross_entropy_with_logits", logits => of(py, logits, targets, pos_weight, factor, losses, slopes))
}

fn of<'py, X: ArrayStored>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    pos_weight: &Bound<'py, PyAny>,
    factor: f64,
    losses: &Bound<'py, PyAny>,
    slopes: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (logits, targets): (Input<'py, X>, Input<'py, X>) = (logits.extract()?, targets.extract()?);
    let pos_weight: Input<'py, X::Wide> = pos_weight.extract()?;
    let (mut losses, mut slopes): (Filled<'py, X::Wide>, Filled<'py, X>) =
        (losses.extract()?, slopes.extract()?);
    let (logits, targets) = (contiguous("logits", &logits)?, contiguous("targets", &targets)?);
    let pos_weight = contiguous("pos_weight", &pos_weight)?;
    let losses = filled("losses", &mut losses, logits.len())?;
    let slopes = filled("slopes", &mut slopes, logits.len())?;
    run::<X, _>(py, "binary_cross_entropy", logits.len(), |cancel| {
        kernel::binary_cross_entropy(logits, targets, pos_weight, factor, losses, slopes, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(binary_cross_entropy, module)?)
}
