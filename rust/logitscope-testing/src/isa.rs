//! Running a test on every instruction set.

use logitscope_simd::Isa;
use std::sync::{Mutex, PoisonError};

/// The instruction set in use belongs to the whole process, while tests run on many threads.
static IN_USE: Mutex<()> = Mutex::new(());

/// Runs `test` once for every instruction set of this CPU, with that one in use; one such test at a time.
///
/// # Panics
/// If `test` does.
pub fn each_isa(mut test: impl FnMut(Isa)) {
    // A test that failed while it held the lock says so itself.
    let _guard = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let available = Isa::available();
    for &isa in &available {
        Isa::select(isa.name()).expect("an available instruction set can be selected");
        test(isa);
    }
    let widest = available.last().expect("every CPU runs scalar code");
    Isa::select(widest.name()).expect("an available instruction set can be selected");
}

/// Runs `test` with what this CPU does best, its instructions for bfloat16 among it, which no set that is named has.
///
/// # Panics
/// If `test` does.
pub fn at_best(test: impl FnOnce()) {
    let _guard = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let widest = Isa::select("auto").expect("every CPU runs scalar code");
    test();
    Isa::select(widest.name()).expect("an available instruction set can be selected");
}
