//! The SIMD floor: one vector width for every kernel, one file of intrinsics per instruction set.
//!
//! A vector is 64 bytes wide **on every instruction set** (16 `f32` or 8 `f64`): AVX-512 holds it in
//! one register, AVX2 in two, NEON in four, the scalar fallback in an array. Kernels therefore never
//! ask for a width, a reduction adds the same lanes in the same order on every CPU, and a result that
//! holds on one machine holds on all of them.
//!
//! A kernel is a value with one generic method ([`Kernel::run`]); [`Element::dispatch`] runs it
//! compiled for the instruction set in use:
//!
//! ```
//! use logitscope_simd::{Element, Kernel, Simd};
//!
//! struct Total<'a>(&'a [f32]);
//! impl Kernel<f32> for Total<'_> {
//!     type Output = f32;
//!     #[inline(always)]
//!     fn run<S: Simd<f32>>(self, simd: S) -> f32 {
//!         let (blocks, tail) = f32::blocks(self.0);
//!         let mut total = simd.load_partial(tail, 0.0);
//!         for block in blocks {
//!             total = simd.add(total, simd.load(block));
//!         }
//!         simd.sum(total)
//!     }
//! }
//! assert_eq!(f32::dispatch(Total(&[1.0; 33])), 33.0);
//! ```
#![allow(clippy::return_self_not_must_use, reason = "arithmetic whose result is dropped is dead code anyway")]

mod arch;
mod dispatch;
mod element;
pub mod ext_exp;
mod isa;
pub mod math;
mod simd;
mod stored;
mod tiles;

pub use dispatch::Kernel;
pub use element::Element;
pub use isa::{Isa, IsaError};
pub use simd::Simd;
pub use stored::{BF16, F16, Stored};
pub use tiles::TileProduct;

#[cfg(feature = "emulation")]
pub mod emulation;
