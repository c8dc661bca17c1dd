//! From an instruction set to a kernel compiled for it.

use crate::arch;
use crate::element::Element;
use crate::isa::Isa;
use crate::simd::Simd;

/// A computation written once, generic over the instruction set.
pub trait Kernel<T: Element>: Sized {
    /// What [`Kernel::run`] returns.
    type Output;

    /// The computation; mark it and what it calls `#[inline(always)]`, so that all of it is compiled
    /// inside the function that switches the instruction set on. A closure cannot be marked, and one that is
    /// not inlined makes a kernel a hundred times slower: use functions and macros.
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output;
}

/// For one instruction set: the check that the CPU has it, and the function compiled with it. One list
/// of features serves both, so they cannot differ.
///
/// The function is a trait's, because the compiler puts a provided method beside the type that has it: kernels
/// are then compiled side by side, a unit for each of their modules. As a free function all would be one unit.
macro_rules! instruction_set {
    ($token:ty, $detect:ident, [$($feature:tt),+], $supported:ident, $run_on:ident, $run:ident) => {
        fn $supported() -> bool {
            $(std::arch::$detect!($feature))&&+
        }

        trait $run_on<T: Element>: Kernel<T> {
            /// # Safety
            /// The CPU must have the features: check with the function beside it.
            #[target_feature($(enable = $feature),+)]
            unsafe fn $run(self, simd: $token) -> Self::Output
            where
                $token: Simd<T>,
            {
                self.run(simd)
            }
        }
        impl<T: Element, K: Kernel<T>> $run_on<T> for K {}
    };
}

#[cfg(target_arch = "x86_64")]
instruction_set!(
    arch::Avx512,
    is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "bmi2", "popcnt"],
    avx512_supported,
    RunOnAvx512,
    run_avx512
);
#[cfg(target_arch = "x86_64")]
instruction_set!(
    arch::Avx512Bf16,
    is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "avx2", "fma", "f16c", "bmi2", "popcnt"],
    avx512bf16_supported,
    RunOnAvx512Bf16,
    run_avx512bf16
);
#[cfg(target_arch = "x86_64")]
instruction_set!(
    arch::Amx,
    is_x86_feature_detected,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "avx2", "fma", "f16c", "bmi2", "popcnt"],
    amx_vectors_supported,
    RunOnAmx,
    run_amx
);
#[cfg(target_arch = "x86_64")]
instruction_set!(
    arch::Avx2,
    is_x86_feature_detected,
    ["avx2", "fma", "f16c", "bmi2", "popcnt"],
    avx2_supported,
    RunOnAvx2,
    run_avx2
);
#[cfg(target_arch = "aarch64")]
instruction_set!(arch::Neon, is_aarch64_feature_detected, ["neon"], neon_supported, RunOnNeon, run_neon);

/// What [`instruction_set`] makes, for the one that needs no check. Not inlined: it would be compiled again for
/// each unit that calls it, and takes the compiler longer than all other sets together.
trait RunOnScalar<T: Element>: Kernel<T> {
    #[inline(never)]
    fn run_scalar(self) -> Self::Output
    where
        arch::Scalar: Simd<T>,
    {
        self.run(arch::Scalar)
    }
}
impl<T: Element, K: Kernel<T>> RunOnScalar<T> for K {}

/// True if this CPU, and the operating system, can run `isa`.
pub(crate) fn is_supported(isa: Isa) -> bool {
    match isa {
        Isa::Scalar => true,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => neon_supported(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2_supported(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512_supported(),
        _ => false,
    }
}

/// True if this CPU multiplies pairs of bfloat16.
pub(crate) fn has_pairs() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512bf16_supported();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// True if this CPU multiplies tiles of bfloat16 and the system lets this process do so; the first call asks it.
pub(crate) fn has_tiles() -> bool {
    #[cfg(all(feature = "emulation", target_arch = "x86_64"))]
    if crate::emulation::has_tiles() {
        return amx_vectors_supported();
    }
    #[cfg(target_arch = "x86_64")]
    return amx_vectors_supported() && arch::has_tiles();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Runs `kernel` with products of tiles where they are in use, else with those of pairs.
#[inline]
pub(crate) fn run_f32_tiles<K: Kernel<f32>>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if Isa::uses_tiles() {
        // SAFETY: tiles are only in use after `has_tiles` said that this process may use them, and the vectors beside them.
        unsafe {
            let _tiles = arch::Tiles::configure();
            return kernel.run_amx(arch::Amx::new_unchecked());
        }
    }
    run_f32_pairs(kernel)
}

/// Runs `kernel`: there is no such instruction for this type.
#[inline]
pub(crate) fn run_f64_tiles<K: Kernel<f64>>(kernel: K) -> K::Output {
    run_f64(Isa::current(), kernel)
}

/// Runs `kernel` with products of pairs where they are in use.
#[inline]
pub(crate) fn run_f32_pairs<K: Kernel<f32>>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if Isa::uses_pairs() {
        // SAFETY: pairs are only in use after `has_pairs` said that this CPU has them.
        return unsafe { kernel.run_avx512bf16(arch::Avx512Bf16::new_unchecked()) };
    }
    run_f32(Isa::current(), kernel)
}

/// Runs `kernel`: there is no such instruction for this type.
#[inline]
pub(crate) fn run_f64_pairs<K: Kernel<f64>>(kernel: K) -> K::Output {
    run_f64(Isa::current(), kernel)
}

/// Defines the function that runs a kernel over one element type. It is a macro because `Token: Simd<T>`
/// holds for `f32` and `f64`, not for every `T` a generic function could be called with.
macro_rules! run_on {
    ($name:ident, $type:ty) => {
        /// Runs `kernel` on `isa`, which must be one of [`Isa::available`].
        #[inline]
        pub(crate) fn $name<K: Kernel<$type>>(isa: Isa, kernel: K) -> K::Output {
            match isa {
                // SAFETY (all arms): an `Isa` other than `Scalar` is only ever stored as the current one
                // after `is_supported` said that this CPU has it.
                #[cfg(target_arch = "x86_64")]
                // SAFETY: see above.
                Isa::Avx512 => unsafe { kernel.run_avx512(arch::Avx512::new_unchecked()) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: see above.
                Isa::Avx2 => unsafe { kernel.run_avx2(arch::Avx2::new_unchecked()) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: see above.
                Isa::Neon => unsafe { kernel.run_neon(arch::Neon::new_unchecked()) },
                _ => kernel.run_scalar(),
            }
        }
    };
}
run_on!(run_f32, f32);
run_on!(run_f64, f64);
