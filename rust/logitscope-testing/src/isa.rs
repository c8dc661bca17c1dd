//! Running a test on every instruction set.

use logitscope_simd::{Isa, emulation};
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

/// Runs `test` with tiles of bfloat16 (AMX): the CPU's own, or emulated ones where its vectors are those that lie beside
/// tiles (AVX512-BF16). Elsewhere nothing could run that code, and `test` is left out.
///
/// # Panics
/// If `test` does.
pub fn with_tiles(test: impl FnOnce()) {
    let _guard = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let widest = Isa::select("auto").expect("every CPU runs scalar code");
    if !Isa::uses_tiles() && !emulate_tiles() {
        eprintln!("no tiles: no AVX512-BF16, or no handler for what the CPU does not know");
        return;
    }
    test();
    // SAFETY: says that nothing is emulated.
    unsafe { emulation::set_tiles(false) };
    Isa::select(widest.name()).expect("an available instruction set can be selected");
}

/// Makes tiles emulated ones and says whether they are then in use.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
fn emulate_tiles() -> bool {
    crate::amx::install();
    // SAFETY: the handler has just been put in place.
    unsafe { emulation::set_tiles(true) };
    Isa::uses_tiles()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
fn emulate_tiles() -> bool {
    false
}

/// Whether the tiles of this thread have shapes, by the instruction that stores them. To be asked within [`with_tiles`].
#[cfg(target_arch = "x86_64")]
pub fn has_configured_tiles() -> bool {
    let mut shapes = [0_u8; 64];
    // SAFETY: the 64 bytes are written; the CPU knows the instruction, or the handler does.
    unsafe { std::arch::asm!("sttilecfg [{}]", in(reg) shapes.as_mut_ptr(), options(nostack)) };
    shapes[0] != 0
}
