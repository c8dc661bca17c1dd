//! `StableMax`, its logarithm and their gradients.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::stablemax::{self as kernel, Scale};
use pyo3::prelude::*;

#[pyfunction]
fn stablemax<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, out: &Bound<'py, PyAny>) -> PyResult<()> {
    by_stored!("stablemax", x => forward_of(py, Scale::Linear, x, out))
}

#[pyfunction]
fn log_stablemax<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, out: &Bound<'py, PyAny>) -> PyResult<()> {
    by_stored!("log_stablemax", x => forward_of(py, Scale::Log, x, out))
}

fn forward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    scale: Scale,
    x: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut out): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, out.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let out = filled("out", &mut out, x.len())?;
    run::<X, _>(py, scale.name(), x.len(), |cancel| kernel::stablemax(x, columns, scale, out, cancel))
}

#[pyfunction]
fn stablemax_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("stablemax_backward", x => backward_of(py, Scale::Linear, x, y, dy, dx))
}

#[pyfunction]
fn log_stablemax_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("log_stablemax_backward", x => backward_of(py, Scale::Log, x, y, dy, dx))
}

fn backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    scale: Scale,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, y, dy): (Input<'py, X>, Input<'py, X>, Input<'py, X>) =
        (x.extract()?, y.extract()?, dy.extract()?);
    let mut dx: Filled<'py, X> = dx.extract()?;
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let (y, dy) = (contiguous("y", &y)?, contiguous("dy", &dy)?);
    let dx = filled("dx", &mut dx, x.len())?;
    let name = format!("{}_backward", scale.name());
    run::<X, _>(py, &name, x.len(), |cancel| {
        kernel::stablemax_backward([x, y, dy], columns, scale, dx, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(stablemax, module)?)?;
    module.add_function(wrap_pyfunction!(stablemax_backward, module)?)?;
    module.add_function(wrap_pyfunction!(log_stablemax, module)?)?;
    module.add_function(wrap_pyfunction!(log_stablemax_backward, module)?)
}
