//! Log-softmax and its gradient.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::log_softmax as kernel;
use pyo3::prelude::*;

#[pyfunction]
fn log_softmax<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    temperature: f64,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("log_softmax", x => log_softmax_of(py, x, temperature, out))
}

fn log_softmax_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    temperature: f64,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut out): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, out.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let out = filled("out", &mut out, x.len())?;
    run::<X, _>(py, "log_softmax", x.len(), |cancel| {
        kernel::log_softmax(x, columns, temperature, out, cancel)
    })
}

#[pyfunction]
fn log_softmax_backward<'py>(
    py: Python<'py>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    temperature: f64,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("log_softmax_backward", y => backward_of(py, y, dy, temperature, dx))
}

fn backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    temperature: f64,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (y, dy, mut dx): (Input<'py, X>, Input<'py, X>, Filled<'py, X>) =
        (y.extract()?, dy.extract()?, dx.extract()?);
    let (columns, y, dy) = (last_axis(&y), contiguous("y", &y)?, contiguous("dy", &dy)?);
    let dx = filled("dx", &mut dx, y.len())?;
    run::<X, _>(py, "log_softmax_backward", y.len(), |cancel| {
        kernel::log_softmax_backward(y, dy, columns, temperature, dx, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(log_softmax, module)?)?;
    module.add_function(wrap_pyfunction!(log_softmax_backward, module)?)
}
