//! Statistics of rows of logits.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, last_axis};
use crate::call::run;
use logitscope_kernels::softmax_stats as kernel;
use logitscope_simd::Element;
use pyo3::prelude::*;

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "one array a statistic")]
fn softmax_stats<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    max: &Bound<'py, PyAny>,
    argmax: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    entropy: &Bound<'py, PyAny>,
    mean: &Bound<'py, PyAny>,
    deviation: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("softmax_stats", x => stats_of(py, x, argmax, [max, lse, entropy, mean, deviation]))
}

fn stats_of<'py, X: ArrayStored>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    argmax: &Bound<'py, PyAny>,
    numbers: [&Bound<'py, PyAny>; 5],
) -> PyResult<()> {
    let x: Input<'py, X> = x.extract()?;
    let (columns, x) = (last_axis(&x), contiguous("x", &x)?);
    let stats =
        run::<X, _>(py, "softmax_stats", x.len(), |cancel| kernel::softmax_stats(x, columns, cancel))?;
    let mut argmax: Filled<'py, i64> = argmax.extract()?;
    for (slot, stats) in filled("argmax", &mut argmax, stats.len())?.iter_mut().zip(&stats) {
        *slot = stats.argmax as i64;
    }
    for (index, array) in numbers.into_iter().enumerate() {
        let mut array: Filled<'py, X::Wide> = array.extract()?;
        for (slot, stats) in filled("statistics", &mut array, stats.len())?.iter_mut().zip(&stats) {
            let all = [stats.max, stats.lse, stats.entropy, stats.mean, stats.deviation];
            *slot = X::Wide::from_f64(all[index]);
        }
    }
    Ok(())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(softmax_stats, module)?)
}
