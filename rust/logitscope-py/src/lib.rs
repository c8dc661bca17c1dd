//! The Python module `logitscope._native`: arrays in, arrays filled, no mathematics.
//!
//! Every function takes its inputs and the arrays it fills; shapes, dtypes and defaults that a user sees are
//! settled in `python/logitscope/ops/`, and `python/logitscope/_native.pyi` is the list of signatures.

mod activation;
mod arrays;
mod attention;
mod attention_decode;
mod attention_figures;
mod attention_varlen;
mod binary_cross_entropy;
mod call;
mod cross_entropy;
mod detection;
mod errors;
mod ext_exp;
mod gpu;
mod linear_cross_entropy;
mod log_softmax;
mod logsumexp;
mod roofline;
mod row_loss;
mod runtime;
mod softmax;
mod softmax_stats;
mod sparsemax;
mod spherical_output;
mod stablemax;
mod topk_softmax;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    runtime::register(module)?;
    activation::register(module)?;
    attention::register(module)?;
    attention_decode::register(module)?;
    attention_varlen::register(module)?;
    binary_cross_entropy::register(module)?;
    cross_entropy::register(module)?;
    detection::register(module)?;
    ext_exp::register(module)?;
    gpu::register(module)?;
    roofline::register(module)?;
    row_loss::register(module)?;
    linear_cross_entropy::register(module)?;
    log_softmax::register(module)?;
    logsumexp::register(module)?;
    softmax::register(module)?;
    softmax_stats::register(module)?;
    sparsemax::register(module)?;
    spherical_output::register(module)?;
    stablemax::register(module)?;
    topk_softmax::register(module)
}
