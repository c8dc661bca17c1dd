//! Sparsemax, 1.5-entmax and their gradients.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::sparsemax::{self as kernel, Sparse};
use pyo3::prelude::*;

#[pyfunction]
fn sparsemax<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, out: &Bound<'py, PyAny>) -> PyResult<()> {
    by_stored!("sparsemax", x => forward_of(py, Sparse::Sparsemax, x, out))
}

#[pyfunction]
fn entmax15<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, out: &Bound<'py, PyAny>) -> PyResult<()> {
    by_stored!("entmax15", x => forward_of(py, Sparse::Entmax15, x, out))
}

fn forward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    kind: Sparse,
    x: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut out): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, out.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let out = filled("out", &mut out, x.len())?;
    run::<X, _>(py, kind.name(), x.len(), |cancel| kernel::sparse(x, columns, kind, out, cancel))
}

#[pyfunction]
fn sparsemax_backward<'py>(
    py: Python<'py>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("sparsemax_backward", y => backward_of(py, Sparse::Sparsemax, y, dy, dx))
}

#[pyfunction]
fn entmax15_backward<'py>(
    py: Python<'py>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("entmax15_backward", y => backward_of(py, Sparse::Entmax15, y, dy, dx))
}

fn backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    kind: Sparse,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (y, dy, mut dx): (Input<'py, X>, Input<'py, X>, Filled<'py, X>) =
        (y.extract()?, dy.extract()?, dx.extract()?);
    let (columns, y, dy) = (last_axis(&y), contiguous("y", &y)?, contiguous("dy", &dy)?);
    let dx = filled("dx", &mut dx, y.len())?;
    let name = format!("{}_backward", kind.name());
    run::<X, _>(py, &name, y.len(), |cancel| kernel::sparse_backward(y, dy, columns, kind, dx, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(sparsemax, module)?)?;
    module.add_function(wrap_pyfunction!(sparsemax_backward, module)?)?;
    module.add_function(wrap_pyfunction!(entmax15, module)?)?;
    module.add_function(wrap_pyfunction!(entmax15_backward, module)?)
}
