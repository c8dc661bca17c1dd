//! Attention of the newest tokens over a cache.

use crate::arrays::{ArrayStored, Filled, Input, by_stored, contiguous, filled, heads, optional, rows};
use crate::attention::given;
use crate::attention_figures::Figures;
use crate::call::run;
use logitscope_kernels::attention::{Decoding, decode};
use logitscope_simd::Element;
use pyo3::prelude::*;

#[pyfunction]
fn attention_decode<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    figures: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("attention_decode", &problem.getattr("q")? => decode_of(
        py, problem, out, figures,
    ))
}

fn decode_of<'py, X: ArrayStored>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    figures: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let array = |name| problem.getattr(name)?.extract::<Input<'py, X>>();
    let wide = |name| optional::<Input<'py, X::Wide>>(given(problem, name)?.as_ref());
    let (q, keys, values) = (array("q")?, array("keys")?, array("values")?);
    let (temperature, slopes, sinks) = (wide("inv_temperature")?, wide("alibi_slopes")?, wide("sinks")?);
    let (pages, lengths): (Vec<usize>, Vec<usize>) =
        (problem.getattr("pages")?.extract()?, problem.getattr("lengths")?.extract()?);
    let problem = Decoding {
        queries: heads("q", &q)?,
        keys: heads("keys", &keys)?,
        values: heads("values", &values)?,
        pages: &pages,
        lengths: &lengths,
        capacity: problem.getattr("capacity")?.extract()?,
        window: problem.getattr("window")?.extract()?,
        scale: X::Wide::from_f64(problem.getattr("scale")?.extract()?),
        inv_temperature: temperature.as_ref().map(|x| rows("inv_temperature", x)).transpose()?,
        softcap: X::Wide::from_f64(problem.getattr("softcap")?.extract()?),
        slopes: slopes.as_ref().map(|x| contiguous("alibi_slopes", x)).transpose()?,
        sinks: sinks.as_ref().map(|x| contiguous("sinks", x)).transpose()?,
    };
    let [batch, query_heads, tokens, _] = problem.queries.shape();
    let count = batch * query_heads * tokens;
    let mut out: Filled<'py, X> = out.extract()?;
    let mut figures = Figures::<X::Wide>::extract(figures)?;
    let out = filled("out", &mut out, count * problem.values.shape()[3])?;
    let statistics = figures.statistics(count)?;
    run::<X, _>(py, "attention_decode", problem.work(), |cancel| decode(&problem, out, statistics, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(attention_decode, module)?)
}
