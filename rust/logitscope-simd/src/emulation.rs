//! What lets tests run the code for AMX on a CPU without: the instructions raise a signal there, whose handler does what
//! they do (`logitscope-testing` has one). Behind a cargo feature that nothing enables but tests.

use std::sync::atomic::{AtomicBool, Ordering};

static TILES: AtomicBool = AtomicBool::new(false);

/// Says that tiles may be used although the CPU has none, or no longer.
///
/// # Safety
/// While they may, the process must have a handler that emulates their instructions.
pub unsafe fn set_tiles(emulated: bool) {
    TILES.store(emulated, Ordering::SeqCst);
}

pub(crate) fn has_tiles() -> bool {
    TILES.load(Ordering::SeqCst)
}
