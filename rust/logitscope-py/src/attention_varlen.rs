//! Attention of packed sequences, and its gradients: one call for all of them.
//!
//! Arrays are those of attention with one batch element, in which the positions of all sequences lie one after the other.

use crate::arrays::{ArrayStored, Filled, by_stored, filled, optional};
use crate::attention::{Inputs, UpstreamInputs, Views, given};
use crate::attention_figures::Figures;
use crate::call::run;
use crate::errors::ShapeError;
use logitscope_kernels::attention::{
    OfHeads, Operand, Problem, RowGradients, SigmoidBias, Upstream, Weighting, backward_packed,
    forward_packed,
};
use logitscope_kernels::{Heads, HeadsMut, Order};
use pyo3::prelude::*;
use std::ops::Range;

/// Where the queries and the keys of the sequences begin, and where the last ones end.
type Starts = (Vec<usize>, Vec<usize>);

/// The positions of each sequence.
fn ranges(name: &str, starts: &[usize], length: usize) -> PyResult<Vec<Range<usize>>> {
    let ascends = starts.windows(2).all(|pair| pair[0] <= pair[1]);
    if starts.first() != Some(&0) || starts.last() != Some(&length) || !ascends {
        let message =
            format!("attention_varlen: {name} is {starts:?}; use ascending numbers from 0 to {length}");
        return Err(ShapeError::new_err(message));
    }
    Ok(starts.windows(2).map(|pair| pair[0]..pair[1]).collect())
}

/// The queries, keys and values of each sequence.
fn parts<'a, X: ArrayStored>(
    [q, k, v]: &[Heads<'a, X>; 3],
    (starts_q, starts_k): &Starts,
) -> PyResult<Vec<Views<'a, X>>> {
    let queries = ranges("cu_seqlens_q", starts_q, q.shape()[2])?;
    let keys = ranges("cu_seqlens_k", starts_k, k.shape()[2])?;
    if queries.len() != keys.len() || v.shape()[2] != k.shape()[2] {
        let message = format!(
            "attention_varlen: {} sequences of queries, {} of keys, {} keys, {} values; use as many",
            queries.len(),
            keys.len(),
            k.shape()[2],
            v.shape()[2]
        );
        return Err(ShapeError::new_err(message));
    }
    let of_sequence = |(queries, keys): (Range<usize>, Range<usize>)| {
        Views::of([q.positions(queries), k.positions(keys.clone()), v.positions(keys)])
    };
    Ok(queries.into_iter().zip(keys).map(of_sequence).collect())
}

/// The problem of each sequence. A bias of sigmoid weighting has one number for each sequence and head.
fn problems<'a, X: ArrayStored>(
    inputs: &'a Inputs<'_, X>,
    parts: &'a [Views<'a, X>],
) -> PyResult<Vec<Problem<'a, X::Wide>>> {
    parts
        .iter()
        .enumerate()
        .map(|(sequence, part)| {
            let mut problem = inputs.problem(part)?;
            if let Weighting::Sigmoid(SigmoidBias::Heads(all)) = problem.weighting {
                let heads = part.heads[0].shape()[1];
                let Some(own) = all.get(sequence * heads..(sequence + 1) * heads) else {
                    return Err(ShapeError::new_err(
                        "attention_varlen: sigmoid_bias: one for each sequence and head",
                    ));
                };
                problem.weighting = Weighting::Sigmoid(SigmoidBias::Heads(own));
            }
            Ok(problem)
        })
        .collect()
}

/// Cuts an array (positions of all sequences, heads, dim) to fill into those of the sequences.
fn cut<X>(mut data: &mut [X], shapes: impl Iterator<Item = [usize; 4]>) -> Vec<HeadsMut<'_, X>> {
    let mut parts = Vec::new();
    for shape in shapes {
        let (own, rest) = data.split_at_mut(shape.iter().product());
        parts.push(HeadsMut::new(own, shape, Order::PositionsFirst));
        data = rest;
    }
    parts
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "what is made of Python's lists")]
fn attention_varlen_forward<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    starts: Starts,
    out: &Bound<'py, PyAny>,
    figures: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("attention_varlen", &problem.getattr("q")? => forward_of(
        py, problem, &starts, out, figures,
    ))
}

fn forward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    starts: &Starts,
    out: &Bound<'py, PyAny>,
    figures: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let inputs = Inputs::<X>::extract(problem)?;
    let arrays = inputs.views()?.heads;
    let parts = parts(&arrays, starts)?;
    let problems = problems(&inputs, &parts)?;
    let ([_, heads, queries, _], value_dim) = (arrays[0].shape(), arrays[2].shape()[3]);
    let (rows, mut out) = (heads * queries, out.extract::<Filled<'py, X>>()?);
    let mut figures = Figures::<X::Wide>::extract(figures)?;
    let statistics = figures.statistics(rows)?;
    let shapes = parts.iter().map(|part| [1, heads, part.heads[0].shape()[2], value_dim]);
    let outs = cut(filled("out", &mut out, rows * value_dim)?, shapes);
    let work = problems.iter().fold(0_usize, |work, problem| work.saturating_add(problem.work()));
    run::<X, _>(py, "attention_varlen", work, |cancel| forward_packed(&problems, outs, statistics, cancel))
}

#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "what is made of Python's lists")]
fn attention_varlen_backward<'py>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    starts: Starts,
    upstream: &Bound<'py, PyAny>,
    gradients: &Bound<'py, PyAny>,
) -> PyResult<()> {
    by_stored!("attention_varlen_backward", &problem.getattr("q")? => backward_of(
        py, problem, &starts, upstream, gradients,
    ))
}

fn backward_of<'py, X: ArrayStored>(
    py: Python<'py>,
    problem: &Bound<'py, PyAny>,
    starts: &Starts,
    upstream: &Bound<'py, PyAny>,
    gradients: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let (inputs, given_back) = (Inputs::<X>::extract(problem)?, UpstreamInputs::<X>::extract(upstream)?);
    let (arrays, rows) = (inputs.views()?.heads, given_back.heads()?);
    let parts = parts(&arrays, starts)?;
    let problems = problems(&inputs, &parts)?;
    let queries = ranges("cu_seqlens_q", &starts.0, arrays[0].shape()[2])?;
    let part_of = |range: &Range<usize>| [rows[0].positions(range.clone()), rows[1].positions(range.clone())];
    let of_sequences: Vec<_> = queries.iter().map(part_of).collect();
    let all = given_back.upstream(&rows)?;
    let mut upstreams = Vec::with_capacity(queries.len());
    for (range, [out, dout]) in queries.iter().zip(&of_sequences) {
        upstreams.push(Upstream {
            out: Operand::new(out),
            max_logit: all.max_logit.from(range.start),
            inv_sum: all.inv_sum.from(range.start),
            dout: Operand::new(dout),
            dlse: all.dlse.map(|dlse| dlse.from(range.start)),
            entropy: all.entropy.map(|(h, dh)| (h.from(range.start), dh.from(range.start))),
        });
    }
    let array = |name| gradients.getattr(name)?.extract::<Filled<'py, X>>();
    let wanted = |name| optional::<Filled<'py, X::Wide>>(given(gradients, name)?.as_ref());
    let (mut dq, mut dk, mut dv) = (array("dq")?, array("dk")?, array("dv")?);
    let (mut dsinks, mut dslopes) = (wanted("dsinks")?, wanted("dalibi_slopes")?);
    let mut dsigmoid_bias = wanted("dsigmoid_bias")?;
    let heads = arrays[0].shape()[1];
    let size = |index: usize| arrays[index].shape().iter().product();
    let shapes = |index: usize| parts.iter().map(move |part| part.heads[index].shape());
    let dqueries = cut(filled("dq", &mut dq, size(0))?, shapes(0));
    let dkeys = cut(filled("dk", &mut dk, size(1))?, shapes(1));
    let dvalues = cut(filled("dv", &mut dv, size(2))?, shapes(2));
    let rows = dqueries
        .into_iter()
        .zip(dkeys)
        .zip(dvalues)
        .map(|((queries, keys), values)| RowGradients { queries, keys, values })
        .collect();
    let of_heads = OfHeads {
        sinks: dsinks.as_mut().map(|x| filled("dsinks", x, heads)).transpose()?,
        slopes: dslopes.as_mut().map(|x| filled("dalibi_slopes", x, heads)).transpose()?,
        sigmoid_bias: dsigmoid_bias.as_mut().map(|x| filled("dsigmoid_bias", x, heads)).transpose()?,
    };
    let work = problems.iter().fold(0_usize, |work, problem| work.saturating_add(problem.work()));
    run::<X, _>(py, "attention_varlen_backward", work.saturating_mul(3), |cancel| {
        backward_packed(&problems, &upstreams, rows, of_heads, cancel)
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(attention_varlen_forward, module)?)?;
    module.add_function(wrap_pyfunction!(attention_varlen_backward, module)?)
}
