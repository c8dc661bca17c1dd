//! Attention and its gradients.

use crate::arrays::{
    ArrayElement, Filled, Input, by_dtype, contiguous, filled, filled_heads, heads, optional, rows, scores,
};
use crate::call::run;
use crate::errors::{ArgumentError, ShapeError};
use logitscope_kernels::attention::{
    Align, Gradients, MapBins, Masks, Output, Problem, SigmoidBias, Statistics, Upstream, Weighting,
    backward, bias_gradient, forward,
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
    softcap: f64,
    bias: Option<Input<'py, T>>,
    alibi_slopes: Option<Input<'py, T>>,
    is_sigmoid: bool,
    sigmoid_bias: Option<Input<'py, T>>,
}

/// An attribute; None where it is Python's None.
fn given<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(Some(object.getattr(name)?).filter(|value| !value.is_none()))
}

impl<'py, T: ArrayElement> Inputs<'py, T> {
    fn extract(problem: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = |name| problem.getattr(name)?.extract::<Input<'py, T>>();
        let given = |name| given(problem, name);
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
            softcap: problem.getattr("softcap")?.extract()?,
            bias: optional(given("bias")?.as_ref())?,
            alibi_slopes: optional(given("alibi_slopes")?.as_ref())?,
            is_sigmoid: problem.getattr("is_sigmoid")?.extract()?,
            sigmoid_bias: optional(given("sigmoid_bias")?.as_ref())?,
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
                scores: self.mask.as_ref().map(|x| scores("mask", x)).transpose()?,
            },
            softcap: T::from_f64(self.softcap),
            bias: self.bias.as_ref().map(|x| scores("bias", x)).transpose()?,
            slopes: self.alibi_slopes.as_ref().map(|x| contiguous("alibi_slopes", x)).transpose()?,
            weighting: if self.is_sigmoid {
                Weighting::Sigmoid(match &self.sigmoid_bias {
                    Some(bias) => SigmoidBias::Heads(contiguous("sigmoid_bias", bias)?),
                    None => SigmoidBias::Visible,
                })
            } else {
                Weighting::Softmax(self.sinks.as_ref().map(|x| contiguous("sinks", x)).transpose()?)
            },
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

/// What the forward pass gave and the gradients of its results, as the attributes of one Python object.
struct UpstreamInputs<'py, T: ArrayElement> {
    out: Input<'py, T>,
    max_logit: Input<'py, T>,
    inv_sum: Input<'py, T>,
    dout: Input<'py, T>,
    dlse: Option<Input<'py, T>>,
    entropy: Option<Input<'py, T>>,
    dentropy: Option<Input<'py, T>>,
}

impl<'py, T: ArrayElement> UpstreamInputs<'py, T> {
    fn extract(upstream: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = |name| upstream.getattr(name)?.extract::<Input<'py, T>>();
        Ok(Self {
            out: array("out")?,
            max_logit: array("max_logit")?,
            inv_sum: array("inv_sum")?,
            dout: array("dout")?,
            dlse: optional(given(upstream, "dlse")?.as_ref())?,
            entropy: optional(given(upstream, "entropy")?.as_ref())?,
            dentropy: optional(given(upstream, "dentropy")?.as_ref())?,
        })
    }

    fn upstream(&self) -> PyResult<Upstream<'_, T>> {
        Ok(Upstream {
            out: heads("out", &self.out)?,
            max_logit: rows("max_logit", &self.max_logit)?,
            inv_sum: rows("inv_sum", &self.inv_sum)?,
            dout: heads("dout", &self.dout)?,
            dlse: self.dlse.as_ref().map(|x| rows("dlse", x)).transpose()?,
            entropy: match (&self.entropy, &self.dentropy) {
                (Some(h), Some(dh)) => Some((rows("entropy", h)?, rows("dentropy", dh)?)),
                _ => None,
            },
        })
    }
}

#[pyfunction]
fn attention_backward<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    upstream: &Bound<'py, PyAny>,
    gradients: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_dtype!("attention_backward", &problem.getattr("q")? => backward_of(py, problem, upstream, gradients))
}

fn backward_of<'py, T: ArrayElement>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    upstream: &Bound<'py, PyAny>,
    gradients: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (inputs, upstream) = (Inputs::<T>::extract(problem)?, UpstreamInputs::<T>::extract(upstream)?);
    let (problem, upstream) = (inputs.problem()?, upstream.upstream()?);
    let array = |name| gradients.getattr(name)?.extract::<Filled<'py, T>>();
    let wanted = |name| optional::<Filled<'py, T>>(given(gradients, name)?.as_ref());
    let (mut dq, mut dk, mut dv) = (array("dq")?, array("dk")?, array("dv")?);
    let (mut dinv_temperature, mut dsinks) = (wanted("dinv_temperature")?, wanted("dsinks")?);
    let (mut dslopes, mut dsigmoid_bias) = (wanted("dalibi_slopes")?, wanted("dsigmoid_bias")?);
    let mut dbias = wanted("dbias")?;
    let [batch, query_heads, queries, _] = problem.queries.shape();
    let rows = batch * query_heads * queries;
    let of_heads = |name, array| filled(name, array, query_heads);
    let gradients = Gradients {
        queries: filled_heads("dq", &mut dq, problem.queries.shape())?,
        keys: filled_heads("dk", &mut dk, problem.keys.shape())?,
        values: filled_heads("dv", &mut dv, problem.values.shape())?,
        inv_temperature: dinv_temperature
            .as_mut()
            .map(|x| filled("dinv_temperature", x, rows))
            .transpose()?,
        sinks: dsinks.as_mut().map(|x| of_heads("dsinks", x)).transpose()?,
        slopes: dslopes.as_mut().map(|x| of_heads("dalibi_slopes", x)).transpose()?,
        sigmoid_bias: dsigmoid_bias.as_mut().map(|x| of_heads("dsigmoid_bias", x)).transpose()?,
    };
    let bias = match &mut dbias {
        None => None,
        Some(array) => {
            let full = [batch, query_heads, queries, problem.keys.shape()[2]];
            let shape: [usize; 4] = array.shape().try_into().unwrap_or([0; 4]);
            if shape.iter().zip(full).any(|(&n, full)| n != 1 && n != full) {
                let message =
                    format!("dbias: shape {:?}; use {full:?} with 1 where it is shared", array.shape());
                return Err(ShapeError::new_err(message));
            }
            Some((shape, filled("dbias", array, shape.iter().product())?))
        }
    };
    let work = problem.work().saturating_mul(if bias.is_some() { 5 } else { 3 });
    run::<T, _>(py, "attention_backward", work, |cancel| {
        backward(&problem, &upstream, gradients, cancel)?;
        match bias {
            Some((shape, gradient)) => bias_gradient(&problem, &upstream, shape, gradient, cancel),
            None => Ok(()),
        }
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(attention_forward, module)?)?;
    module.add_function(wrap_pyfunction!(attention_backward, module)?)
}
