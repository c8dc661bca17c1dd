//! Softmax over the largest elements of rows.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::topk_softmax::{self as kernel, Selected};
use pyo3::prelude::*;

#[pyfunction]
fn topk_softmax<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    k: usize,
    weights: &Bound<'py, PyAny>,
    indices: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("topk_softmax", x => topk_of(py, x, k, weights, indices))
}

fn topk_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    k: usize,
    weights: &Bound<'py, PyAny>,
    indices: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x: Input<'py, X> = x.extract()?;
    let (mut weights, mut indices): (Filled<'py, X>, Filled<'py, i64>) =
        (weights.extract()?, indices.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let len = x.len() / columns.max(1) * k;
    let weights = filled("weights", &mut weights, len)?;
    let indices = filled("indices", &mut indices, len)?;
    run::<X, _>(py, "topk_softmax", x.len(), |cancel| {
        kernel::topk_softmax(x, columns, k, Selected::Sparse { weights, indices }, cancel)
    })
}

#[pyfunction]
fn topk_softmax_dense<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    k: usize,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("topk_softmax", x => dense_of(py, x, k, out))
}

fn dense_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    k: usize,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut out): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, out.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let out = filled("out", &mut out, x.len())?;
    run::<X, _>(py, "topk_softmax", x.len(), |cancel| {
        kernel::topk_softmax(x, columns, k, Selected::Dense(out), cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(topk_softmax, module)?)?;
    module.add_function(wrap_pyfunction!(topk_softmax_dense, module)?)
}
