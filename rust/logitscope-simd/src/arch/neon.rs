//! NEON, which every 64-bit ARM has: four 128-bit registers a vector.

use crate::isa::Isa;
use crate::simd::Simd;
use std::arch::aarch64::*;

/// Token of NEON; made only after the CPU was checked.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The CPU must have the features that `dispatch.rs` lists for this set.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Self {
        Neon(())
    }
}

/// Four registers from an expression of intrinsics in the register's number.
macro_rules! four {
    ($i:ident => $body:expr) => {
        // SAFETY: `self` is a token, so the CPU has the instructions; pointers, where there are any, lie
        // inside a whole block.
        unsafe {
            [
                {
                    const $i: usize = 0;
                    $body
                },
                {
                    const $i: usize = 1;
                    $body
                },
                {
                    const $i: usize = 2;
                    $body
                },
                {
                    const $i: usize = 3;
                    $body
                },
            ]
        }
    };
}

/// 2^n, lane by lane, for integers n in the exponent range of `f32`.
#[inline(always)]
unsafe fn pow2_f32(n: int32x4_t) -> float32x4_t {
    // SAFETY: the caller holds a `Neon` token.
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) }
}

#[inline(always)]
unsafe fn scale_by_pow2_f32(a: float32x4_t, n: float32x4_t) -> float32x4_t {
    // SAFETY: the caller holds a `Neon` token.
    unsafe {
        let steps = vshlq_n_s32::<23>(vcvtq_s32_f32(n));
        vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), steps))
    }
}

/// 2^n, lane by lane, for integers n in the exponent range of `f64`.
#[inline(always)]
unsafe fn pow2_f64(n: int64x2_t) -> float64x2_t {
    // SAFETY: the caller holds a `Neon` token.
    unsafe { vreinterpretq_f64_s64(vshlq_n_s64::<52>(vaddq_s64(n, vdupq_n_s64(1023)))) }
}

#[inline(always)]
unsafe fn scale_by_pow2_f64(a: float64x2_t, n: float64x2_t) -> float64x2_t {
    // SAFETY: the caller holds a `Neon` token.
    unsafe {
        let steps = vshlq_n_s64::<52>(vcvtq_s64_f64(n));
        vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(a), steps))
    }
}

#[inline(always)]
unsafe fn split_f32(a: float32x4_t) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller holds a `Neon` token.
    unsafe {
        let bits = vreinterpretq_u32_f32(a);
        let one = vreinterpretq_u32_f32(vdupq_n_f32(1.0));
        let mantissa = vorrq_u32(vandq_u32(bits, vdupq_n_u32((1 << 23) - 1)), one);
        let exponent = vsubq_f32(vcvtq_f32_u32(vshrq_n_u32::<23>(bits)), vdupq_n_f32(127.0));
        (vreinterpretq_f32_u32(mantissa), exponent)
    }
}

#[inline(always)]
unsafe fn split_f64(a: float64x2_t) -> (float64x2_t, float64x2_t) {
    // SAFETY: the caller holds a `Neon` token.
    unsafe {
        let bits = vreinterpretq_u64_f64(a);
        let one = vreinterpretq_u64_f64(vdupq_n_f64(1.0));
        let mantissa = vorrq_u64(vandq_u64(bits, vdupq_n_u64((1 << 52) - 1)), one);
        let exponent = vsubq_f64(vcvtq_f64_u64(vshrq_n_u64::<52>(bits)), vdupq_n_f64(1023.0));
        (vreinterpretq_f64_u64(mantissa), exponent)
    }
}

macro_rules! implement_neon {
    ($type:ty, $lanes:literal, $register:ty, $mask:ty, $set1:ident, $load:ident, $store:ident, $add:ident, $sub:ident,
     $mul:ident, $div:ident, $fma:ident, $greater:ident, $round:ident, $less:ident, $select:ident, $scale_by_pow2:ident,
     $pow2:ident, $to_integers:ident, $bias:literal, $split:ident) => {
        impl Simd<$type> for Neon {
            type Vector = [$register; 4];
            type Mask = [$mask; 4];

            const ISA: Isa = Isa::Neon;
            const REGISTERS: usize = 8;

            #[inline(always)]
            fn splat(self, x: $type) -> Self::Vector {
                // SAFETY: `self` is a token, so the CPU has the instruction.
                [unsafe { $set1(x) }; 4]
            }
            #[inline(always)]
            fn load(self, block: &[$type; $lanes]) -> Self::Vector {
                four!(I => $load(block.as_ptr().add(I * $lanes / 4)))
            }
            #[inline(always)]
            fn store(self, vector: Self::Vector, block: &mut [$type; $lanes]) {
                let _: [(); 4] = four!(I => $store(block.as_mut_ptr().add(I * $lanes / 4), vector[I]));
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                four!(I => $add(a[I], b[I]))
            }
            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                four!(I => $sub(a[I], b[I]))
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                four!(I => $mul(a[I], b[I]))
            }
            #[inline(always)]
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                four!(I => $div(a[I], b[I]))
            }
            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                four!(I => $fma(c[I], a[I], b[I]))
            }
            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // Not `vmaxq`, which orders NaN and the two zeros unlike the other instruction sets.
                four!(I => $select($greater(a[I], b[I]), a[I], b[I]))
            }
            #[inline(always)]
            fn round(self, a: Self::Vector) -> Self::Vector {
                four!(I => $round(a[I]))
            }
            #[inline(always)]
            fn scale_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
                four!(I => $scale_by_pow2(a[I], n[I]))
            }
            #[inline(always)]
            fn scale_down_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
                // With the biased exponent 0 the factor is exactly 0.
                let n = Simd::<$type>::max(self, Simd::<$type>::splat(self, -$bias), n);
                four!(I => $mul(a[I], $pow2($to_integers(n[I]))))
            }
            #[inline(always)]
            fn split(self, a: Self::Vector) -> (Self::Vector, Self::Vector) {
                let [(m0, e0), (m1, e1), (m2, e2), (m3, e3)] = four!(I => $split(a[I]));
                ([m0, m1, m2, m3], [e0, e1, e2, e3])
            }
            #[inline(always)]
            fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask {
                four!(I => $less(a[I], b[I]))
            }
            #[inline(always)]
            fn select(self, mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector {
                four!(I => $select(mask[I], yes[I], no[I]))
            }
            #[inline(always)]
            fn zero_where_less(self, a: Self::Vector, b: Self::Vector, x: Self::Vector) -> Self::Vector {
                four!(I => $select($less(a[I], b[I]), $set1(0.0), x[I]))
            }
        }
    };
}
implement_neon!(
    f32,
    16,
    float32x4_t,
    uint32x4_t,
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vaddq_f32,
    vsubq_f32,
    vmulq_f32,
    vdivq_f32,
    vfmaq_f32,
    vcgtq_f32,
    vrndnq_f32,
    vcltq_f32,
    vbslq_f32,
    scale_by_pow2_f32,
    pow2_f32,
    vcvtq_s32_f32,
    127.0,
    split_f32
);
implement_neon!(
    f64,
    8,
    float64x2_t,
    uint64x2_t,
    vdupq_n_f64,
    vld1q_f64,
    vst1q_f64,
    vaddq_f64,
    vsubq_f64,
    vmulq_f64,
    vdivq_f64,
    vfmaq_f64,
    vcgtq_f64,
    vrndnq_f64,
    vcltq_f64,
    vbslq_f64,
    scale_by_pow2_f64,
    pow2_f64,
    vcvtq_s64_f64,
    1023.0,
    split_f64
);
