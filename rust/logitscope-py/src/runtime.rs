//! Threads, instruction sets and what ran last.

use crate::call;
use crate::errors::{ArgumentError, DeviceError};
use logitscope_kernels::threads;
use logitscope_simd::Isa;
use pyo3::prelude::*;

#[pyfunction]
fn set_num_threads(threads: usize) {
    threads::set_num_threads(threads);
}

#[pyfunction]
fn get_num_threads() -> usize {
    threads::num_threads()
}

#[pyfunction]
fn isa() -> &'static str {
    Isa::current().name()
}

#[pyfunction]
fn available_isas() -> Vec<&'static str> {
    Isa::available().into_iter().map(Isa::name).collect()
}

#[pyfunction]
fn has_bf16_products() -> bool {
    Isa::uses_pairs()
}

#[pyfunction]
fn has_bf16_tiles() -> bool {
    Isa::uses_tiles()
}

#[pyfunction]
fn select_isa(name: &str) -> PyResult<()> {
    Isa::select(name).map(|_| ()).map_err(|error| ArgumentError::new_err(error.to_string()))
}

#[pyfunction]
fn last_kernel() -> String {
    call::last_kernel()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Read here, so that a wrong LOGITSCOPE_ISA or LOGITSCOPE_AMX is an error of the import and not of some later call.
    Isa::initialise().map_err(|error| DeviceError::new_err(error.to_string()))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(set_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(get_num_threads, module)?)?;
    module.add_function(wrap_pyfunction!(isa, module)?)?;
    module.add_function(wrap_pyfunction!(available_isas, module)?)?;
    module.add_function(wrap_pyfunction!(has_bf16_products, module)?)?;
    module.add_function(wrap_pyfunction!(has_bf16_tiles, module)?)?;
    module.add_function(wrap_pyfunction!(select_isa, module)?)?;
    module.add_function(wrap_pyfunction!(last_kernel, module)?)
}
