//! Logsumexp and its gradient.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::logsumexp as kernel;
use pyo3::prelude::*;

#[pyfunction]
fn logsumexp<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, lse: &Bound<'py, PyAny>) -> PyResult<()> {
    by_stored!("logsumexp", x => logsumexp_of(py, x, lse))
}

fn logsumexp_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut lse): (Input<'py, X>, Filled<'py, X::Wide>) = (x.extract()?, lse.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let lse = filled("lse", &mut lse, x.len() / columns.max(1))?;
    run::<X, _>(py, "logsumexp", x.len(), |cancel| kernel::logsumexp(x, columns, lse, cancel))
}

#[pyfunction]
fn logsumexp_pair<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    mantissa: &Bound<'py, PyAny>,
    exponent: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("logsumexp", x => pair_of(py, x, mantissa, exponent))
}

fn pair_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    mantissa: &Bound<'py, PyAny>,
    exponent: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x: Input<'py, X> = x.extract()?;
    let (mut mantissa, mut exponent): (Filled<'py, X::Wide>, Filled<'py, X::Wide>) =
        (mantissa.extract()?, exponent.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let rows = x.len() / columns.max(1);
    let mantissa = filled("mantissa", &mut mantissa, rows)?;
    let exponent = filled("exponent", &mut exponent, rows)?;
    run::<X, _>(py, "logsumexp_pair", x.len(), |cancel| {
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
    by_stored!("logsumexp_backward", x => backward_of(py, x, lse, dlse, dx))
}

fn backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    dlse: &Bound<'py, PyAny>,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut dx): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, dx.extract()?);
    let (lse, dlse): (Input<'py, X::Wide>, Input<'py, X::Wide>) = (lse.extract()?, dlse.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let (lse, dlse) = (contiguous("lse", &lse)?, contiguous("dlse", &dlse)?);
    let dx = filled("dx", &mut dx, x.len())?;
    run::<X, _>(py, "logsumexp_backward", x.len(), |cancel| {
        kernel::logsumexp_backward(x, columns, lse, dlse, dx, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(logsumexp, module)?)?;
    module.add_function(wrap_pyfunction!(logsumexp_pair, module)?)?;
    module.add_function(wrap_pyfunction!(logsumexp_backward, module)?)
}
