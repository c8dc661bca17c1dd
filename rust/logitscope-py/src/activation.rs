//! Activations with trainable coefficients and their gradients.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::activation::{self as kernel, NormScale};
use pyo3::prelude::*;

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn poly_relu<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: Vec<f64>,
    bias: f64,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("poly_relu", x => poly_relu_of(py, x, &weight, bias, out))
}

fn poly_relu_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: &[f64],
    bias: f64,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut out): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, out.extract()?);
    let x = contiguous("x", &x)?;
    let out = filled("out", &mut out, x.len())?;
    run::<X, _>(py, "poly_relu", x.len(), |cancel| kernel::poly_relu(x, weight, bias, out, cancel))
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn poly_relu_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    weight: Vec<f64>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<Vec<f64>> {
    by_stored!("poly_relu_backward", x => poly_relu_backward_of(py, x, dy, &weight, dx))
}

fn poly_relu_backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    weight: &[f64],
    dx: &Bound<'py, PyAny>,
) -> PyResult<Vec<f64>> {
    let (x, dy): (Input<'py, X>, Input<'py, X>) = (x.extract()?, dy.extract()?);
    let mut dx: Filled<'py, X> = dx.extract()?;
    let (x, dy) = (contiguous("x", &x)?, contiguous("dy", &dy)?);
    let dx = filled("dx", &mut dx, x.len())?;
    run::<X, _>(py, "poly_relu_backward", x.len(), |cancel| {
        kernel::poly_relu_backward(x, dy, weight, dx, cancel)
    })
}

fn norm_scale(l2: bool) -> NormScale {
    if l2 { NormScale::L2 } else { NormScale::Rms }
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn poly_norm<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: Vec<f64>,
    bias: f64,
    eps: f64,
    l2: bool,
    out: &Bound<'py, PyAny>,
    saved: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("poly_norm", x => poly_norm_of(py, x, (&weight, bias), (eps, norm_scale(l2)), out, saved))
}

fn poly_norm_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    polynomial: (&[f64], f64),
    norm: (f64, NormScale),
    out: &Bound<'py, PyAny>,
    saved: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x: Input<'py, X> = x.extract()?;
    let (mut out, mut saved): (Filled<'py, X>, Filled<'py, X::Wide>) = (out.extract()?, saved.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let out = filled("out", &mut out, x.len())?;
    let saved = filled("saved", &mut saved, x.len() / columns.max(1) * (polynomial.0.len() + 1))?;
    run::<X, _>(py, "poly_norm", x.len(), |cancel| {
        kernel::poly_norm(x, columns, polynomial, norm, out, saved, cancel)
    })
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]
fn poly_norm_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    weight: Vec<f64>,
    saved: &Bound<'py, PyAny>,
    l2: bool,
    dx: &Bound<'py, PyAny>,
) -> PyResult<Vec<f64>> {
    by_stored!("poly_norm_backward", x => poly_norm_backward_of(py, x, dy, &weight, saved, norm_scale(l2), dx))
}

fn poly_norm_backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    weight: &[f64],
    saved: &Bound<'py, PyAny>,
    scale: NormScale,
    dx: &Bound<'py, PyAny>,
) -> PyResult<Vec<f64>> {
    let (x, dy, saved): (Input<'py, X>, Input<'py, X>, Input<'py, X::Wide>) =
        (x.extract()?, dy.extract()?, saved.extract()?);
    let mut dx: Filled<'py, X> = dx.extract()?;
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let (dy, saved) = (contiguous("dy", &dy)?, contiguous("saved", &saved)?);
    let dx = filled("dx", &mut dx, x.len())?;
    run::<X, _>(py, "poly_norm_backward", x.len(), |cancel| {
        kernel::poly_norm_backward([x, dy], columns, weight, saved, scale, dx, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(poly_relu, module)?)?;
    module.add_function(wrap_pyfunction!(poly_relu_backward, module)?)?;
    module.add_function(wrap_pyfunction!(poly_norm, module)?)?;
    module.add_function(wrap_pyfunction!(poly_norm_backward, module)?)
}
