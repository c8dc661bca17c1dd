//! AMX: matrices of bfloat16 in tile registers, beside the vectors of AVX-512.
//!
//! The compiler knows no tile registers. So the code that loads, multiplies and stores tiles is one block of assembly a
//! product, and what has to stay between products, the shapes of the tiles, is all that a thread keeps in them.

mod detect;
mod product;

pub(crate) use detect::has_tiles;
pub(super) use product::multiply_tiles;
use std::arch::asm;

/// Token of AVX-512 with tiles; made only after the CPU was checked, and used while [`Tiles`] are configured.
#[derive(Clone, Copy)]
pub(crate) struct Amx(());

impl Amx {
    /// # Safety
    /// The CPU must have the features that `dispatch.rs` lists for this set, and this thread [`Tiles`] as long as the
    /// token is used.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Self {
        Amx(())
    }
}

/// The shapes of the tiles as the instruction reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight tiles of 16 rows of 64 bytes.
static WHOLE: Shapes = Shapes {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The tiles of this thread while they have shapes. They are given back when this is dropped, unwinding or not: a thread
/// that keeps them makes every switch to another one slower.
pub(crate) struct Tiles(());

impl Tiles {
    /// # Safety
    /// [`has_tiles`] must have said that this process may use them.
    pub(crate) unsafe fn configure() -> Self {
        // SAFETY: the 64 bytes of `WHOLE` are read; the caller vouches for the instruction.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const WHOLE, options(nostack, readonly)) };
        Tiles(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles, since `configure` has run.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
