//! The one way from a Python call into a kernel: without the GIL, open to Ctrl-C, and on record.

use crate::errors::to_python;
use logitscope_kernels::{Cancel, Result, threads};
use logitscope_simd::{Isa, Stored};
use pyo3::prelude::*;
use std::cell::RefCell;
use std::time::Duration;

/// Operations of more elementary steps than this (some ten milliseconds) watch for signals while they run.
const LONG_WORK: usize = 1 << 28;

/// How soon Ctrl-C is seen.
const SIGNAL_PERIOD: Duration = Duration::from_millis(50);

thread_local! {
    /// What ran last on this thread.
    static LAST_KERNEL: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `operation`, named `name`, over numbers `X` with the GIL released.
///
/// # Errors
/// The kernel's error as a Python exception, or what a signal handler raised (`KeyboardInterrupt`).
pub(crate) fn run<X: Stored, R: Send>(
    py: Python<'_>,
    name: &str,
    work: usize,
    operation: impl FnOnce(&Cancel) -> Result<R> + Send,
) -> PyResult<R> {
    note(format!("{name}-{}-{}", X::FORMAT, Isa::current().name()));
    let cancel = Cancel::default();
    let mut raised = None;
    let result = if work < LONG_WORK {
        py.detach(|| operation(&cancel))
    } else {
        let mut no_signal = || {
            raised = raised.take().or_else(|| Python::attach(|py| py.check_signals().err()));
            raised.is_none()
        };
        py.detach(|| threads::with_ticks(SIGNAL_PERIOD, &cancel, &mut no_signal, || operation(&cancel)))
    };
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|error| to_python(&error)),
    }
}

/// Notes what runs on the calling thread.
pub(crate) fn note(kernel: String) {
    LAST_KERNEL.with_borrow_mut(|last| *last = kernel);
}

/// Name of the kernel that ran last on the calling thread, such as `attention-f32-avx512`; empty before the first.
pub(crate) fn last_kernel() -> String {
    LAST_KERNEL.with_borrow(String::clone)
}
