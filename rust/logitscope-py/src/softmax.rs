//! Softmax, its gradient, and its passes.

use crate::arrays::{
    ArrayElement, ArrayStored, Filled, Input, by_dtype, by_stored, contiguous, filled, last_axis,
};
use crate::call::run;
use crate::errors::ArgumentError;
use logitscope_kernels::Empty;
use logitscope_kernels::softmax::{self as kernel, Algorithm, Options, Pass};
use pyo3::prelude::*;

/// What "nan" and "zero" stand for.
pub(crate) fn empty(operation: &str, name: &str) -> PyResult<Empty> {
    match name {
        "nan" => Ok(Empty::Nan),
        "zero" => Ok(Empty::Zero),
        _ => Err(ArgumentError::new_err(format!("{operation}: empty is '{name}'; use 'nan' or 'zero'"))),
    }
}

/// What a name stands for in a table.
fn named<T: Copy>(of: &str, table: &[(&str, T)], name: &str) -> PyResult<T> {
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| format!("'{known}'")).collect();
        ArgumentError::new_err(format!("{of} is '{name}'; use {}", known.join(", ")))
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
        algorithm: named("softmax: algorithm", &Algorithm::NAMED, algorithm)?,
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

#[pyfunction]
fn softmax_pass<'py>(
    py: Python<'py>,
    name: &str,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
) -> PyResult<f64> {
    let pass = named("softmax_pass: name", &Pass::NAMED, name)?;
    by_dtype!("softmax_pass", x => pass_of(py, pass, x, y))
}

fn pass_of<'py, T: ArrayElement>(
    py: Python<'py>,
    pass: Pass,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
) -> PyResult<f64> {
    let (x, mut y): (Input<'py, T>, Filled<'py, T>) = (x.extract()?, y.extract()?);
    let x = contiguous("x", &x)?;
    let y = filled("y", &mut y, x.len())?;
    run::<T, _>(py, "softmax_pass", x.len(), |cancel| kernel::softmax_pass(pass, x, y, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(softmax, module)?)?;
    module.add_function(wrap_pyfunction!(softmax_backward, module)?)?;
    module.add_function(wrap_pyfunction!(softmax_pass, module)?)
}
