//! The probes of what one thread can do at most.

use crate::arrays::{ArrayElement, Filled, Input, by_dtype, contiguous, filled};
use crate::call::run;
use crate::errors::ArgumentError;
use logitscope_kernels::roofline::{self as kernel, Probe};
use logitscope_simd::Element;
use pyo3::prelude::*;

#[pyfunction]
fn roofline<'py>(
    py: Python<'py>,
    probe: &str,
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    rounds: usize,
) -> PyResult<f64> {
    let found = Probe::NAMED.iter().find(|(known, _)| *known == probe);
    let &(name, probe) = found.ok_or_else(|| {
        let known: Vec<_> = Probe::NAMED.iter().map(|(known, _)| format!("'{known}'")).collect();
        ArgumentError::new_err(format!("roofline: probe is '{probe}'; use {}", known.join(", ")))
    })?;
    by_dtype!("roofline", x => roofline_of(py, (name, probe), x, y, rounds))
}

fn roofline_of<'py, T: ArrayElement>(
    py: Python<'py>,
    (name, probe): (&str, Probe),
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    rounds: usize,
) -> PyResult<f64> {
    let (x, mut y): (Input<'py, T>, Filled<'py, T>) = (x.extract()?, y.extract()?);
    let x = contiguous("x", &x)?;
    let y = filled("y", &mut y, x.len())?;
    // Without the thread that would look for signals: it takes time from the probe.
    run::<T, _>(py, &format!("roofline_{name}"), 0, |_| {
        kernel::probe(probe, x, y, rounds).map(Element::to_f64)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(roofline, module)?)
}
