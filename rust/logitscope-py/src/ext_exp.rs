//! The exponential of each element as a pair.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled};
use crate::call::run;
use logitscope_kernels::ext_exp as kernel;
use pyo3::prelude::*;

#[pyfunction]
fn ext_exp<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    mantissa: &Bound<'py, PyAny>,
    exponent: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("ext_exp", x => of(py, x, mantissa, exponent))
}

fn of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    mantissa: &Bound<'py, PyAny>,
    exponent: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x: Input<'py, X> = x.extract()?;
    let (mut mantissa, mut exponent): (Filled<'py, X::Wide>, Filled<'py, X::Wide>) =
        (mantissa.extract()?, exponent.extract()?);
    let x = contiguous("x", &x)?;
    let mantissa = filled("mantissa", &mut mantissa, x.len())?;
    let exponent = filled("exponent", &mut exponent, x.len())?;
    run::<X, _>(py, "ext_exp", x.len(), |cancel| kernel::ext_exp(x, mantissa, exponent, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(ext_exp, module)?)
}
