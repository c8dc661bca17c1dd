//! Logsumexp and its gradient.

use crate::arrays::{ArrayElement, Filled, Input, by_dtype, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::logsumexp as kernel;
use pyo3::prelude::*;

#[pyfunction]
fn logsumexp<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, lse: &Bound<'py, PyAny>) -> PyResult<()> {
    by_dtype!("logsumexp", x => logsumexp_of(py, x, lse))
}

fn logsumexp_of<'py, T: ArrayElement>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut lse): (Input<'py, T>, Filled<'py, T>) = (x.extract()?, lse.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let lse = filled("lse", &mut lse, x.len() / columns.max(1))?;
    run::<T, _>(py, "logsumexp", x.len(), |cancel| kernel::logsumexp(x, columns, lse, cancel))
}

#[pyfunction]
fn logsumexp_pair<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    mantissa: &Bound<'py, PyAny>,
    exponent: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_dtype!("logsumexp", x => pair_of(py, x, mantissa, exponent))
}

fn pair_of<'py, T: ArrayElement>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    mantissa: &Bound<'py, PyAny>,
    exponent: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x: Input<'py, T> = x.extract()?;
    let (mut mantissa, mut exponent): (Filled<'py, T>, Filled<'py, T>) =
        (mantissa.extract()?, exponent.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let rows = x.len() / columns.max(1);
    let mantissa = filled("mantissa", &mut mantissa, rows)?;
    let exponent = filled("exponent", &mut exponent, rows)?;
    run::<T, _>(py, "logsumexp_pair", x.len(), |cancel| {
        kernel::logsumexp_pair(x, columns, mantissa, exponent, cancel)
    })
}

#[pyfunction]
fn logsumexp_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    dlse: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_dtype!("logsumexp_backward", x => backward_of(py, x, lse, dlse, dx))
}

fn backward_of<'py, T: ArrayElement>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    dlse: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut dx): (Input<'py, T>, Filled<'py, T>) = (x.extract()?, dx.extract()?);
    let (lse, dlse): (Input<'py, T>, Input<'py, T>) = (lse.extract()?, dlse.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let (lse, dlse) = (contiguous("lse", &lse)?, contiguous("dlse", &dlse)?);
    let dx = filled("dx", &mut dx, x.len())?;
    run::<T, _>(py, "logsumexp_backward", x.len(), |cancel| {
        kernel::logsumexp_backward(x, columns, lse, dlse, dx, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(logsumexp, module)?)?;
    module.add_function(wrap_pyfunction!(logsumexp_pair, module)?)?;
    module.add_function(wrap_pyfunction!(logsumexp_backward, module)?)
}
