//! The Python module `logitscope._native`: arrays in, arrays filled, no mathematics.
//!
//! Every function takes its inputs and the arrays it fills; shapes, dtypes and defaults that a user sees are
//! settled in `python/logitscope/ops/`, and `python/logitscope/_native.pyi` is the list of signatures.

mod arrays;
mod attention;
mod call;
mod errors;
mod runtime;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    runtime::register(module)?;
    attention::register(module)
}
