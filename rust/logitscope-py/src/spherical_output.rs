//! The output layer whose step does not depend on the number of classes.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled};
use crate::call::run;
use logitscope_kernels::spherical_output::{self as kernel, Batch, Forward, Rate, Slopes};
use pyo3::prelude::*;

/// The arrays of the layer, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct State<'py> {
    v: Bound<'py, PyAny>,
    u: Filled<'py, f64>,
    inverse: Filled<'py, f64>,
    gram: Filled<'py, f64>,
    omega: Filled<'py, f64>,
    total: Filled<'py, f64>,
}

/// The arrays of a forward pass, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Pass<'py> {
    hidden: Input<'py, f64>,
    targets: Input<'py, i64>,
    by_gram: Filled<'py, f64>,
    by_u: Filled<'py, f64>,
    own: Filled<'py, f64>,
    square: Filled<'py, f64>,
    sum: Filled<'py, f64>,
}

/// The slopes of a loss, the rate of the step and the gradient to fill, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Step<'py> {
    own: Input<'py, f64>,
    square: Input<'py, f64>,
    sum: Input<'py, f64>,
    learning_rate: f64,
    weight_decay: f64,
    gradient: Filled<'py, f64>,
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn spherical_output<'py>(
    py: Python<'py>,
    state: State<'py>,
    passed: Pass<'py>,
    step: Option<Step<'py>>,
) -> PyResult<()> {
    let v = state.v.clone();
    by_stored!("SphericalOutput", &v => run_of(py, state, passed, step))
}

/// Runs the forward pass, or with a step the backward pass.
fn run_of<'py, X: ArrayStored>(
    py: Python<'py>,
    mut state: State<'py>,
    mut passed: Pass<'py>,
    step: Option<Step<'py>>,
) -> PyResult<()> {
    let mut v: Filled<'py, X> = state.v.extract()?;
    let (d, classes) = (state.omega.shape()[0], v.shape()[0]);
    let m = passed.sum.shape()[0];
    let mut layer = kernel::State {
        v: filled("v", &mut v, classes * d)?,
        u: filled("u", &mut state.u, d * d)?,
        inverse: filled("inverse", &mut state.inverse, d * d)?,
        gram: filled("gram", &mut state.gram, d * d)?,
        omega: filled("omega", &mut state.omega, d)?,
        total: filled("total", &mut state.total, d)?,
    };
    let targets = contiguous("targets", &passed.targets)?;
    let batch = Batch { hidden: contiguous("hidden", &passed.hidden)?, targets, rows: m };
    let mut forward = Forward {
        by_gram: filled("by_gram", &mut passed.by_gram, m * d)?,
        by_u: filled("by_u", &mut passed.by_u, m * d)?,
        own: filled("own", &mut passed.own, targets.len())?,
        square: filled("square", &mut passed.square, m)?,
        sum: filled("sum", &mut passed.sum, m)?,
    };
    let work = m * d * (d + m);
    let Some(mut step) = step else {
        return run::<X, _>(py, "spherical_output", work, |cancel| {
            kernel::forward(&layer, &batch, &mut forward, cancel)
        });
    };
    let slopes = Slopes {
        own: contiguous("own", &step.own)?,
        square: contiguous("square", &step.square)?,
        sum: contiguous("sum", &step.sum)?,
    };
    let rate = Rate { step: step.learning_rate, decay: step.weight_decay };
    let gradient = filled("gradient", &mut step.gradient, m * d)?;
    run::<X, _>(py, "spherical_output_step", 6 * work, |cancel| {
        kernel::step(&mut layer, &batch, &forward, &slopes, rate, gradient, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(spherical_output, module)?)
}
