//! Attention and its gradients.

use crate::arrays::{
    ArrayElement, Filled, Input, by_dtype, contiguous, filled, filled_heads, heads, mask, optional, rows,
};
use crate::call::run;
use crate::errors::{ArgumentError, ShapeError};
use logitscope_kernels::attention::{
    Align, Gradients, MapBins, Masks, Output, Problem, Statistics, Upstream, backward, forward,
};
use pyo3::prelude::*;

/// What a call works on, as the attributes of one Python object hold it: the arrays that a problem is a view of.
struct Inputs<'py, T: ArrayElement> {
    q: Input<'py, T>,
    k: Input<'py, T>,
    v: Input<'py, T>,
    scale: f64,
    inv_temperature: Option<Input<'py, T>>,
    align: String,
    window: (Option<usize>, Option<usize>),
    q_len: Option<Vec<usize>>,
    kv_len: Option<Vec<usize>>,
    mask: Option<Input<'py, u8>>,
    sinks: Option<Input<'py, T>>,
}

impl<'py, T: ArrayElement> Inputs<'py, T> {
    fn extract(problem: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = |name| problem.getattr(name)?.extract::<Input<'py, T>>();
        let given = |name| PyResult::Ok(Some(problem.getattr(name)?).filter(|value| !value.is_none()));
        Ok(Self {
            q: array("q")?,
            k: array("k")?,
            v: array("v")?,
            scale: problem.getattr("scale")?.extract()?,
            inv_temperature: optional(given("inv_temperature")?.as_ref())?,
            align: problem.getattr("align")?.extract()?,
            window: problem.getattr("window")?.extract()?,
            q_len: problem.getattr("q_len")?.extract()?,
            kv_len: problem.getattr("kv_len")?.extract()?,
            mask: optional(given("mask")?.as_ref())?,
            sinks: optional(given("sinks")?.as_ref())?,
        })
    }

    fn problem(&self) -> PyResult<Problem<'_, T>> {
        Ok(Problem {
            queries: heads("q", &self.q)?,
            keys: heads("k", &self.k)?,
            values: heads("v", &self.v)?,
            scale: T::from_f64(self.scale),
            inv_temperature: self.inv_temperature.as_ref().map(|x| rows("inv_temperature", x)).transpose()?,
            masks: Masks {
                align: align(&self.align)?,
                left: self.window.0,
                right: self.window.1,
                query_lengths: self.q_len.as_deref(),
                key_lengths: self.kv_len.as_deref(),
                scores: self.mask.as_ref().map(|x| mask("mask", x)).transpose()?,
            },
            sinks: self.sinks.as_ref().map(|x| contiguous("sinks", x)).transpose()?,
        })
    }
}

fn align(name: &str) -> PyResult<Align> {
    match name {
        "top_left" => Ok(Align::TopLeft),
        "bottom_right" => Ok(Align::BottomRight),
        _ => Err(ArgumentError::new_err(format!(
            "attention: causal_align is '{name}'; use top_left or bottom_right"
        ))),
    }
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn attention_forward<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    max_logit: &Bound<'py, PyAny>,
    inv_sum: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    entropy: Option<&Bound<'py, PyAny>>,
    map: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    by_dtype!("attention", &problem.getattr("q")? => forward_of(
        py, problem, out, max_logit, inv_sum, lse, entropy, map,
    ))
}

#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn forward_of<'py, T: ArrayElement>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    max_logit: &Bound<'py, PyAny>,
    inv_sum: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    entropy: Option<&Bound<'py, PyAny>>,
    map: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let inputs = Inputs::<T>::extract(problem)?;
    let problem = inputs.problem()?;
    let [batch, query_heads, queries, _] = problem.queries.shape();
    let count = batch * query_heads * queries;
    let (mut out, mut max_logit): (Filled<'py, T>, Filled<'py, T>) = (out.extract()?, max_logit.extract()?);
    let (mut inv_sum, mut lse): (Filled<'py, T>, Filled<'py, T>) = (inv_sum.extract()?, lse.extract()?);
    let mut entropy: Option<Filled<'py, T>> = optional(entropy)?;
    let mut map: Option<Filled<'py, T>> = optional(map)?;
    let map = match &mut map {
        None => None,
        Some(map) => {
            let &[.., rows, columns] = map.shape() else {
                return Err(ShapeError::new_err("map: use shape (batch, heads, rows, columns)"));
            };
            let keys = problem.keys.shape()[2];
            if rows == 0 || columns == 0 || rows > queries || columns > keys {
                let message = format!("map: {rows} by {columns} bins; use 1..{queries} by 1..{keys}");
                return Err(ArgumentError::new_err(message));
            }
            Some((MapBins { rows, columns }, filled("map", map, batch * query_heads * rows * columns)?))
        }
    };
    let output = Output {
        out: filled_heads("out", &mut out, [batch, query_heads, queries, problem.values.shape()[3]])?,
        statistics: Statistics {
            max_logit: filled("max_logit", &mut max_logit, count)?,
            inv_sum: filled("inv_sum", &mut inv_sum, count)?,
            lse: filled("lse", &mut lse, count)?,
            entropy: entropy.as_mut().map(|x| filled("entropy", x, count)).transpose()?,
        },
        map,
    };
    run::<T, _>(py, "attention", problem.work(), |cancel| forward(&problem, output, cancel))
}

#[pyfunction]
#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn attention_backward<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    max_logit: &Bound<'py, PyAny>,
    inv_sum: &Bound<'py, PyAny>,
    dout: &Bound<'py, PyAny>,
    dlse: Option<&Bound<'py, PyAny>>,
    entropy: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    dq: &Bound<'py, PyAny>,
    dk: &Bound<'py, PyAny>,
    dv: &Bound<'py, PyAny>,
    dinv_temperature: Option<&Bound<'py, PyAny>>,
    dsinks: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    by_dtype!("attention_backward", &problem.getattr("q")? => backward_of(
        py, problem, out, max_logit, inv_sum, dout, dlse, entropy, dq, dk, dv, dinv_temperature, dsinks,
    ))
}

#[allow(clippy::too_many_arguments, reason = "inputs, options and the arrays to fill of one operation")]
fn backward_of<'py, T: ArrayElement>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    max_logit: &Bound<'py, PyAny>,
    inv_sum: &Bound<'py, PyAny>,
    dout: &Bound<'py, PyAny>,
    dlse: Option<&Bound<'py, PyAny>>,
    entropy: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    dq: &Bound<'py, PyAny>,
    dk: &Bound<'py, PyAny>,
    dv: &Bound<'py, PyAny>,
    dinv_temperature: Option<&Bound<'py, PyAny>>,
    dsinks: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let inputs = Inputs::<T>::extract(problem)?;
    let problem = inputs.problem()?;
    let (out, dout): (Input<'py, T>, Input<'py, T>) = (out.extract()?, dout.extract()?);
    let (max_logit, inv_sum): (Input<'py, T>, Input<'py, T>) = (max_logit.extract()?, inv_sum.extract()?);
    let dlse: Option<Input<'py, T>> = optional(dlse)?;
    let entropy = entropy
        .map(|(h, dh)| PyResult::Ok((h.extract::<Input<'py, T>>()?, dh.extract::<Input<'py, T>>()?)))
        .transpose()?;
    let upstream = Upstream {
        out: heads("out", &out)?,
        max_logit: rows("max_logit", &max_logit)?,
        inv_sum: rows("inv_sum", &inv_sum)?,
        dout: heads("dout", &dout)?,
        dlse: dlse.as_ref().map(|x| rows("dlse", x)).transpose()?,
        entropy: match &entropy {
            Some((h, dh)) => Some((rows("entropy", h)?, rows("dentropy", dh)?)),
            None => None,
        },
    };
    let (mut dq, mut dk): (Filled<'py, T>, Filled<'py, T>) = (dq.extract()?, dk.extract()?);
    let mut dv: Filled<'py, T> = dv.extract()?;
    let mut dinv_temperature: Option<Filled<'py, T>> = optional(dinv_temperature)?;
    let mut dsinks: Option<Filled<'py, T>> = optional(dsinks)?;
    let [batch, query_heads, queries, _] = problem.queries.shape();
    let gradients = Gradients {
        queries: filled_heads("dq", &mut dq, problem.queries.shape())?,
        keys: filled_heads("dk", &mut dk, problem.keys.shape())?,
        values: filled_heads("dv", &mut dv, problem.values.shape())?,
        inv_temperature: dinv_temperature
            .as_mut()
            .map(|x| filled("dinv_temperature", x, batch * query_heads * queries))
            .transpose()?,
        sinks: dsinks.as_mut().map(|x| filled("dsinks", x, query_heads)).transpose()?,
    };
    let work = problem.work().saturating_mul(3);
    run::<T, _>(py, "attention_backward", work, |cancel| backward(&problem, &upstream, gradients, cancel))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(attention_forward, module)?)?;
    module.add_function(wrap_pyfunction!(attention_backward, module)?)
}
