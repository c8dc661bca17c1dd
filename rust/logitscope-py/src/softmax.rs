//! Softmax and its gradient.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use crate::errors::ArgumentError;
use logitscope_kernels::Empty;
use logitscope_kernels::softmax::{self as kernel, Algorithm, Options};
use pyo3::prelude::*;

/// What "nan" and "zero" stand for.
pub(crate) fn empty(operation: &str, name: &str) -> PyResult<Empty> {
    match name {
        "nan" => Ok(Empty::Nan),
        "zero" => Ok(Empty::Zero),
        _ => Err(ArgumentError::new_err(format!("{operation}: empty is '{name}'; use 'nan' or 'zero'"))),
    }
}

fn algorithm(name: &str) -> PyResult<Algorithm> {
    let found = Algorithm::NAMED.iter().find(|(known, _)| *known == name);
    found.map(|&(_, algorithm)| algorithm).ok_or_else(|| {
        let known: Vec<_> = Algorithm::NAMED.iter().map(|(known, _)| format!("'{known}'")).collect();
        ArgumentError::new_err(format!("softmax: algorithm is '{name}'; use {}", known.join(", ")))
    })
}

#[pyfunction]
fn softmax<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    temperature: f64,
    algorithm: &str,
    empty: &str,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let options = Options {
        temperature,
        algorithm: self::algorithm(algorithm)?,
        empty: self::empty("softmax", empty)?,
    };
    by_stored!("softmax", x => softmax_of(py, x, options, out))
}

fn softmax_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    options: Options,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (x, mut out): (Input<'py, X>, Filled<'py, X>) = (x.extract()?, out.extract()?);
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let out = filled("out", &mut out, x.len())?;
    let name = format!("softmax_{}", options.algorithm.for_rows::<X>(columns).name());
    run::<X, _>(py, &name, x.len(), |cancel| kernel::softmax(x, columns, options, out, cancel))
}

#[pyfunction]
fn softmax_backward<'py>(
    py: Python<'py>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    temperature: f64,
    dx: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("softmax_backward", y => backward_of(py, y, dy, temperature, dx))
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
    run::<X, _>(py, "softmax_backward", y.len(), |cancel| {
        kernel::softmax_backward(y, dy, columns, temperature, dx, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(softmax, module)?)?;
    module.add_function(wrap_pyfunction!(softmax_backward, module)?)
}
