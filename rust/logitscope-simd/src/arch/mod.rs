//! Intrinsics: one module an instruction set, and nothing but intrinsics and assembly in it.
#![allow(clippy::wildcard_imports, reason = "intrinsics are many and their names say where they come from")]
#![allow(clippy::cast_ptr_alignment, reason = "the loads and stores used ask for no alignment")]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use amx::{Amx, Tiles, has_tiles};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Bf16};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;
