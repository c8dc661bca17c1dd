//! Attention and its gradients.

use crate::arrays::{
    ArrayStored, Filled, Input, by_stored, contiguous, filled, filled_heads, heads, optional, rows, scores,
};
use crate::attention_figures::Figures;
use crate::call::run;
use crate::errors::{ArgumentError, ShapeError, to_python};
use logitscope_kernels::attention::{
    Align, Bias, Dropout, Gated, Gradients, MapBins, Masks, Operand, Output, Pooling, Problem, SigmoidBias,
    TileCount, TopKeys, Upstream, Weighting, backward, bias_gradient, forward, tile_count,
};
use logitscope_kernels::{Heads, Scores};
use logitscope_simd::Element;
use pyo3::prelude::*;

/// What a call works on, as the attributes of one Python object hold it: the arrays that a problem is a view of.
///
/// What is small beside q, k and v is in the type that is computed with.
pub(crate) struct Inputs<'py, X: ArrayStored> {
    q: Input<'py, X>,
    k: Input<'py, X>,
    v: Input<'py, X>,
    scale: f64,
    inv_temperature: Option<Input<'py, X::Wide>>,
    align: String,
    window: (Option<usize>, Option<usize>),
    q_len: Option<Vec<usize>>,
    kv_len: Option<Vec<usize>>,
    mask: Option<Input<'py, u8>>,
    sinks: Option<Input<'py, X::Wide>>,
    softcap: f64,
    bias: Option<BiasInput<'py, X>>,
    alibi_slopes: Option<Input<'py, X::Wide>>,
    is_sigmoid: bool,
    sigmoid_bias: Option<Input<'py, X::Wide>>,
    dropout: Option<Dropout>,
    value_gate: Option<Input<'py, X::Wide>>,
}

/// A bias as it is computed with, or in 16 bits as q is.
enum BiasInput<'py, X: ArrayStored> {
    Wide(Input<'py, X::Wide>),
    Stored(Input<'py, X>),
}

impl<'py, X: ArrayStored> BiasInput<'py, X> {
    fn extract(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        match array.extract() {
            Ok(wide) => Ok(Self::Wide(wide)),
            Err(_) => Ok(Self::Stored(array.extract()?)),
        }
    }
}

/// Views of the arrays that are read a tile at a time.
pub(crate) struct Views<'a, X: ArrayStored> {
    /// q, k and v.
    pub(crate) heads: [Heads<'a, X>; 3],
    /// v with its gates.
    gated: Option<Gated<'a, X>>,
    /// A bias of 16 bits.
    bias: Option<Scores<'a, X>>,
}

impl<'a, X: ArrayStored> Views<'a, X> {
    /// Of arrays without gates and bias.
    pub(crate) fn of(heads: [Heads<'a, X>; 3]) -> Self {
        Self { heads, gated: None, bias: None }
    }
}

/// An attribute; None where it is Python's None.
pub(crate) fn given<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(Some(object.getattr(name)?).filter(|value| !value.is_none()))
}

impl<'py, X: ArrayStored> Inputs<'py, X> {
    pub(crate) fn extract(problem: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = |name| problem.getattr(name)?.extract::<Input<'py, X>>();
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
            bias: given("bias")?.as_ref().map(BiasInput::extract).transpose()?,
            alibi_slopes: optional(given("alibi_slopes")?.as_ref())?,
            is_sigmoid: problem.getattr("is_sigmoid")?.extract()?,
            sigmoid_bias: optional(given("sigmoid_bias")?.as_ref())?,
            dropout: {
                let rate = problem.getattr("dropout_p")?.extract()?;
                (rate != 0.0).then_some(Dropout { rate, seed: problem.getattr("seed")?.extract()? })
            },
            value_gate: optional(given("value_gate")?.as_ref())?,
        })
    }

    /// Views of what is read a tile at a time.
    pub(crate) fn views(&self) -> PyResult<Views<'_, X>> {
        let heads = [heads("q", &self.q)?, heads("k", &self.k)?, heads("v", &self.v)?];
        let [batch, key_heads, keys, _] = heads[2].shape();
        let gated = match &self.value_gate {
            None => None,
            Some(gates) if gates.shape() == [batch, key_heads, keys] => {
                Some(Gated::new(heads[2], rows("value_gate", gates)?))
            }
            Some(gates) => {
                let (got, wanted) = (gates.shape(), [batch, key_heads, keys]);
                return Err(ShapeError::new_err(format!("value_gate: shape {got:?}; use {wanted:?}")));
            }
        };
        let bias = match &self.bias {
            Some(BiasInput::Stored(bias)) => Some(scores("bias", bias)?),
            _ => None,
        };
        Ok(Views { heads, gated, bias })
    }

    pub(crate) fn problem<'a>(&'a self, views: &'a Views<'a, X>) -> PyResult<Problem<'a, X::Wide>> {
        let Views { heads: [q, k, v], gated, bias } = views;
        Ok(Problem {
            queries: Operand::new(q),
            keys: Operand::new(k),
            values: gated.as_ref().map_or_else(|| Operand::new(v), Operand::gated),
            scale: X::Wide::from_f64(self.scale),
            inv_temperature: self.inv_temperature.as_ref().map(|x| rows("inv_temperature", x)).transpose()?,
            masks: Masks {
                align: align(&self.align)?,
                left: self.window.0,
                right: self.window.1,
                query_lengths: self.q_len.as_deref(),
                key_lengths: self.kv_len.as_deref(),
                scores: self.mask.as_ref().map(|x| scores("mask", x)).transpose()?,
            },
            softcap: X::Wide::from_f64(self.softcap),
            bias: match &self.bias {
                None => None,
                Some(BiasInput::Wide(bias)) => Some(Bias::Wide(scores("bias", bias)?)),
                Some(BiasInput::Stored(_)) => bias.as_ref().map(|scores| Bias::Narrow(scores)),
            },
            slopes: self.alibi_slopes.as_ref().map(|x| contiguous("alibi_slopes", x)).transpose()?,
            weighting: if self.is_sigmoid {
                Weighting::Sigmoid(match &self.sigmoid_bias {
                    Some(bias) => SigmoidBias::Heads(contiguous("sigmoid_bias", bias)?),
                    None => SigmoidBias::Visible,
                })
            } else {
                Weighting::Softmax(self.sinks.as_ref().map(|x| contiguous("sinks", x)).transpose()?)
            },
            dropout: self.dropout,
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

fn pooling(name: &str) -> PyResult<Pooling> {
    match name {
        "mean" => Ok(Pooling::Mean),
        "max" => Ok(Pooling::Max),
        _ => Err(ArgumentError::new_err(format!("attention: map_pooling is '{name}'; use mean or max"))),
    }
}

#[pyfunction]
fn attention_forward<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    figures: &Bound<'py, PyAny>,
    map: Option<(Bound<'py, PyAny>, String)>,
    top: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
) -> PyResult<()> {
    by_stored!("attention", &problem.getattr("q")? => forward_of(
        py, problem, out, figures, map, top,
    ))
}

fn forward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    figures: &Bound<'py, PyAny>,
    map: Option<(Bound<'py, PyAny>, String)>,
    top: Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
) -> PyResult<()> {
    let inputs = Inputs::<X>::extract(problem)?;
    let views = inputs.views()?;
    let problem = inputs.problem(&views)?;
    let [batch, query_heads, queries, _] = problem.queries.shape();
    let count = batch * query_heads * queries;
    let mut out: Filled<'py, X> = out.extract()?;
    let mut figures = Figures::<X::Wide>::extract(figures)?;
    let mut map: Option<(Filled<'py, X::Wide>, Pooling)> = match map {
        None => None,
        Some((map, name)) => Some((map.extract()?, pooling(&name)?)),
    };
    let mut top: Option<(Filled<'py, i64>, Filled<'py, X::Wide>)> = match top {
        None => None,
        Some((keys, weights)) => Some((keys.extract()?, weights.extract()?)),
    };
    let map = match &mut map {
        None => None,
        Some((map, pooling)) => {
            let &[.., rows, columns] = map.shape() else {
                return Err(ShapeError::new_err("map: use shape (batch, heads, rows, columns)"));
            };
            let keys = problem.keys.shape()[2];
            if rows == 0 || columns == 0 || rows > queries || columns > keys {
                let message = format!("map: {rows} by {columns} bins; use 1..{queries} by 1..{keys}");
                return Err(ArgumentError::new_err(message));
            }
            let bins = MapBins { rows, columns, pooling: *pooling };
            Some((bins, filled("map", map, batch * query_heads * rows * columns)?))
        }
    };
    let top = match &mut top {
        None => None,
        Some((keys, weights)) => {
            let chosen = keys.shape().last().copied().unwrap_or(0);
            if chosen == 0 {
                return Err(ArgumentError::new_err("attention: top_keys is 0; use 1 or more"));
            }
            let n = count * chosen;
            let (keys, weights) = (filled("top_keys", keys, n)?, filled("top_weights", weights, n)?);
            Some(TopKeys { count: chosen, keys, weights })
        }
    };
    let output = Output {
        out: filled_heads("out", &mut out, [batch, query_heads, queries, problem.values.shape()[3]])?,
        statistics: figures.statistics(count)?,
        map,
        top,
    };
    run::<X, _>(py, "attention", problem.work(), |cancel| forward(&problem, output, cancel))
}

/// What the forward pass gave and the gradients of its results, as the attributes of one Python object.
pub(crate) struct UpstreamInputs<'py, X: ArrayStored> {
    out: Input<'py, X>,
    max_logit: Input<'py, X::Wide>,
    inv_sum: Input<'py, X::Wide>,
    dout: Input<'py, X>,
    dlse: Option<Input<'py, X::Wide>>,
    entropy: Option<Input<'py, X::Wide>>,
    dentropy: Option<Input<'py, X::Wide>>,
}

impl<'py, X: ArrayStored> UpstreamInputs<'py, X> {
    pub(crate) fn extract(upstream: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = |name| upstream.getattr(name)?.extract::<Input<'py, X>>();
        let figures = |name| upstream.getattr(name)?.extract::<Input<'py, X::Wide>>();
        Ok(Self {
            out: array("out")?,
            max_logit: figures("max_logit")?,
            inv_sum: figures("inv_sum")?,
            dout: array("dout")?,
            dlse: optional(given(upstream, "dlse")?.as_ref())?,
            entropy: optional(given(upstream, "entropy")?.as_ref())?,
            dentropy: optional(given(upstream, "dentropy")?.as_ref())?,
        })
    }

    /// Views of the output and its gradient.
    pub(crate) fn heads(&self) -> PyResult<[Heads<'_, X>; 2]> {
        Ok([heads("out", &self.out)?, heads("dout", &self.dout)?])
    }

    pub(crate) fn upstream<'a>(
        &'a self,
        [out, dout]: &'a [Heads<'a, X>; 2],
    ) -> PyResult<Upstream<'a, X::Wide>> {
        Ok(Upstream {
            out: Operand::new(out),
            max_logit: rows("max_logit", &self.max_logit)?,
            inv_sum: rows("inv_sum", &self.inv_sum)?,
            dout: Operand::new(dout),
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
    by_stored!("attention_backward", &problem.getattr("q")? => backward_of(py, problem, upstream, gradients))
}

fn backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    upstream: &Bound<'py, PyAny>,
    gradients: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (inputs, upstream) = (Inputs::<X>::extract(problem)?, UpstreamInputs::<X>::extract(upstream)?);
    let (views, given_back) = (inputs.views()?, upstream.heads()?);
    let (problem, upstream) = (inputs.problem(&views)?, upstream.upstream(&given_back)?);
    let array = |name| gradients.getattr(name)?.extract::<Filled<'py, X>>();
    let wanted = |name| optional::<Filled<'py, X::Wide>>(given(gradients, name)?.as_ref());
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
    run::<X, _>(py, "attention_backward", work, |cancel| {
        backward(&problem, &upstream, gradients, cancel)?;
        match bias {
            Some((shape, gradient)) => bias_gradient(&problem, &upstream, shape, gradient, cancel),
            None => Ok(()),
        }
    })
}

/// How many tiles of scores there are, are computed, and have hidden scores among those computed.
#[pyfunction]
fn attention_tiles(problem: &Bound<'_, PyAny>) -> PyResult<(usize, usize, usize)> {
    by_stored!("attention", &problem.getattr("q")? => tiles_of(problem))
}

fn tiles_of<X: ArrayStored>(problem: &Bound<'_, PyAny>) -> PyResult<(usize, usize, usize)> {
    let inputs = Inputs::<X>::extract(problem)?;
    let views = inputs.views()?;
    let TileCount { all, seen, masked } =
        tile_count(&inputs.problem(&views)?).map_err(|error| to_python(&error))?;
    Ok((all, seen, masked))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(attention_tiles, module)?)?;
    module.add_function(wrap_pyfunction!(attention_forward, module)?)?;
    module.add_function(wrap_pyfunction!(attention_backward, module)?)
}
