//! AVX2 with FMA: two 256-bit registers a vector.

use crate::isa::Isa;
use crate::simd::Simd;
use crate::stored::{BF16, F16};
use std::arch::x86_64::*;

/// Token of AVX2; made only after the CPU was checked.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU must have the features that `dispatch.rs` lists for this set.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Self {
        Avx2(())
    }
}

/// Runs an expression of intrinsics. One place states why that is sound for the whole file.
macro_rules! intrinsics {
    ($body:expr) => {
        // SAFETY: `self` is a token, so the CPU has the instructions; pointers, where there are any, lie
        // inside a whole block, and unaligned loads and stores are used.
        unsafe { $body }
    };
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// 2^n, lane by lane, for integers n in the exponent range of `f32`.
#[inline(always)]
unsafe fn pow2_f32(n: __m256i) -> __m256 {
    // SAFETY: the caller holds an `Avx2` token.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

#[inline(always)]
unsafe fn scale_by_pow2_f32(a: __m256, n: __m256) -> __m256 {
    // SAFETY: the caller holds an `Avx2` token.
    unsafe {
        let steps = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), steps))
    }
}

/// 2^n, lane by lane, for integers n in the exponent range of `f64`.
#[inline(always)]
unsafe fn pow2_f64(n: __m128i) -> __m256d {
    // SAFETY: the caller holds an `Avx2` token.
    unsafe {
        let biased = _mm256_cvtepi32_epi64(_mm_add_epi32(n, _mm_set1_epi32(1023)));
        _mm256_castsi256_pd(_mm256_slli_epi64::<52>(biased))
    }
}

#[inline(always)]
unsafe fn scale_by_pow2_f64(a: __m256d, n: __m256d) -> __m256d {
    // SAFETY: the caller holds an `Avx2` token.
    unsafe {
        let steps = _mm256_slli_epi64::<52>(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n)));
        _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(a), steps))
    }
}

#[inline(always)]
unsafe fn split_f32(a: __m256) -> (__m256, __m256) {
    // SAFETY: the caller holds an `Avx2` token.
    unsafe {
        let bits = _mm256_castps_si256(a);
        let fraction = _mm256_and_si256(bits, _mm256_set1_epi32((1 << 23) - 1));
        let mantissa = _mm256_or_ps(_mm256_castsi256_ps(fraction), _mm256_set1_ps(1.0));
        let exponent = _mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(127));
        (mantissa, _mm256_cvtepi32_ps(exponent))
    }
}

#[inline(always)]
unsafe fn split_f64(a: __m256d) -> (__m256d, __m256d) {
    // SAFETY: the caller holds an `Avx2` token. The exponent becomes the low bits of 2^52, a number whose last
    // bit is worth 1, for want of an instruction that turns 64-bit integers into numbers.
    unsafe {
        let bits = _mm256_castpd_si256(a);
        let fraction = _mm256_and_si256(bits, _mm256_set1_epi64x((1 << 52) - 1));
        let mantissa = _mm256_or_pd(_mm256_castsi256_pd(fraction), _mm256_set1_pd(1.0));
        let biased = _mm256_castsi256_pd(_mm256_srli_epi64::<52>(bits));
        let two_to_52 = _mm256_set1_pd(4_503_599_627_370_496.0);
        let exponent =
            _mm256_sub_pd(_mm256_or_pd(biased, two_to_52), _mm256_set1_pd(4_503_599_627_370_496.0 + 1023.0));
        (mantissa, exponent)
    }
}

/// Makes one number of a register's eight, halving again and again.
macro_rules! reduce_f32 {
    ($name:ident, $both:ident) => {
        #[inline(always)]
        pub(super) unsafe fn $name(a: __m256) -> f32 {
            // SAFETY: the caller holds an `Avx2` or `Avx512` token.
            unsafe {
                let four = $both(_mm256_extractf128_ps::<1>(a), _mm256_castps256_ps128(a));
                let two = $both(_mm_movehl_ps(four, four), four);
                _mm_cvtss_f32($both(_mm_movehdup_ps(two), two))
            }
        }
    };
}
reduce_f32!(sum_f32, _mm_add_ps);
reduce_f32!(max_lane_f32, _mm_max_ps);

/// Makes one number of a register's four, halving again and again.
macro_rules! reduce_f64 {
    ($name:ident, $both:ident) => {
        #[inline(always)]
        pub(super) unsafe fn $name(a: __m256d) -> f64 {
            // SAFETY: the caller holds an `Avx2` or `Avx512` token.
            unsafe {
                let two = $both(_mm256_extractf128_pd::<1>(a), _mm256_castpd256_pd128(a));
                _mm_cvtsd_f64($both(_mm_unpackhi_pd(two, two), two))
            }
        }
    };
}
reduce_f64!(sum_f64, _mm_add_pd);
reduce_f64!(max_lane_f64, _mm_max_pd);

macro_rules! first_lanes {
    ($name:ident, $integer:ty, $lanes:literal) => {
        /// Masks of the first `count` lanes of a vector's two registers.
        #[inline(always)]
        unsafe fn $name(count: usize) -> [__m256i; 2] {
            static WINDOW: [$integer; 2 * $lanes] = {
                let mut window = [0; 2 * $lanes];
                let mut i = 0;
                while i < $lanes {
                    window[i] = -1;
                    i += 1;
                }
                window
            };
            debug_assert!(count <= $lanes, "{count} elements for {} lanes", $lanes);
            let window = &WINDOW[$lanes - count.min($lanes)..][..$lanes];
            let p = window.as_ptr().cast::<__m256i>();
            // SAFETY: the caller holds an `Avx2` token; the two unaligned loads cover the window exactly.
            unsafe { [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))] }
        }
    };
}
first_lanes!(first_lanes_f32, i32, 16);
first_lanes!(first_lanes_f64, i64, 8);

macro_rules! implement_avx2 {
    ({ $($own:tt)* }, $type:ty, $lanes:literal, $register:ty, $set1:ident, $load:ident, $store:ident, $stream:ident, $add:ident, $sub:ident, $mul:ident,
     $div:ident, $fmadd:ident, $max:ident, $round:ident, $cmp:ident, $blend:ident, $and_not:ident, $scale_by_pow2:ident, $pow2:ident,
     $to_integers:ident, $bias:literal, $split:ident,
     $first_lanes:ident, $mask_load:ident, $mask_store:ident, $as_float:ident, $sum:ident, $max_lane:ident) => {
        impl Simd<$type> for Avx2 {
            type Vector = [$register; 2];
            type Mask = [$register; 2];

            const ISA: Isa = Isa::Avx2;
            const REGISTERS: usize = 8;
            $($own)*

            #[inline(always)]
            fn splat(self, x: $type) -> Self::Vector {
                intrinsics!([$set1(x), $set1(x)])
            }
            #[inline(always)]
            fn load(self, block: &[$type; $lanes]) -> Self::Vector {
                let p = block.as_ptr();
                intrinsics!([$load(p), $load(p.add($lanes / 2))])
            }
            #[inline(always)]
            fn store(self, vector: Self::Vector, block: &mut [$type; $lanes]) {
                let p = block.as_mut_ptr();
                intrinsics!({
                    $store(p, vector[0]);
                    $store(p.add($lanes / 2), vector[1]);
                });
            }
            #[inline(always)]
            fn store_stream(self, vector: Self::Vector, block: &mut [$type; $lanes]) {
                let p = block.as_mut_ptr();
                if p.cast::<$register>().is_aligned() {
                    // SAFETY: as `intrinsics!` says, and the pointers are aligned as this instruction asks.
                    unsafe {
                        $stream(p, vector[0]);
                        $stream(p.add($lanes / 2), vector[1]);
                    }
                } else {
                    Simd::<$type>::store(self, vector, block);
                }
            }
            #[inline(always)]
            fn fence(self) {
                intrinsics!(_mm_sfence());
            }
            #[inline(always)]
            fn prefetch<X>(self, slice: &[X]) {
                intrinsics!(_mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().cast()));
            }
            #[inline(always)]
            fn load_partial(self, slice: &[$type], fill: $type) -> Self::Vector {
                // Lanes outside of the mask are not read, so a pointer to a short slice is enough.
                let p = slice.as_ptr();
                intrinsics!({
                    let [low, high] = $first_lanes(slice.len());
                    let fill = $set1(fill);
                    let first = $mask_load(p, low);
                    let second = $mask_load(p.wrapping_add($lanes / 2), high);
                    [$blend(fill, first, $as_float(low)), $blend(fill, second, $as_float(high))]
                })
            }
            #[inline(always)]
            fn store_partial(self, vector: Self::Vector, slice: &mut [$type]) {
                let p = slice.as_mut_ptr();
                intrinsics!({
                    let [low, high] = $first_lanes(slice.len());
                    $mask_store(p, low, vector[0]);
                    $mask_store(p.wrapping_add($lanes / 2), high, vector[1]);
                });
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                intrinsics!([$add(a[0], b[0]), $add(a[1], b[1])])
            }
            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                intrinsics!([$sub(a[0], b[0]), $sub(a[1], b[1])])
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                intrinsics!([$mul(a[0], b[0]), $mul(a[1], b[1])])
            }
            #[inline(always)]
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                intrinsics!([$div(a[0], b[0]), $div(a[1], b[1])])
            }
            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                intrinsics!([$fmadd(a[0], b[0], c[0]), $fmadd(a[1], b[1], c[1])])
            }
            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                intrinsics!([$max(a[0], b[0]), $max(a[1], b[1])])
            }
            #[inline(always)]
            fn round(self, a: Self::Vector) -> Self::Vector {
                intrinsics!([$round::<NEAREST>(a[0]), $round::<NEAREST>(a[1])])
            }
            #[inline(always)]
            fn scale_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
                intrinsics!([$scale_by_pow2(a[0], n[0]), $scale_by_pow2(a[1], n[1])])
            }
            #[inline(always)]
            fn scale_down_by_pow2(self, a: Self::Vector, n: Self::Vector) -> Self::Vector {
                // With the biased exponent 0 the factor is exactly 0.
                intrinsics!({
                    let lowest = $set1(-$bias);
                    let n = [$to_integers($max(lowest, n[0])), $to_integers($max(lowest, n[1]))];
                    [$mul(a[0], $pow2(n[0])), $mul(a[1], $pow2(n[1]))]
                })
            }
            #[inline(always)]
            fn split(self, a: Self::Vector) -> (Self::Vector, Self::Vector) {
                let [(m0, e0), (m1, e1)] = intrinsics!([$split(a[0]), $split(a[1])]);
                ([m0, m1], [e0, e1])
            }
            #[inline(always)]
            fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask {
                intrinsics!([$cmp::<_CMP_LT_OQ>(a[0], b[0]), $cmp::<_CMP_LT_OQ>(a[1], b[1])])
            }
            #[inline(always)]
            fn select(self, mask: Self::Mask, yes: Self::Vector, no: Self::Vector) -> Self::Vector {
                intrinsics!([$blend(no[0], yes[0], mask[0]), $blend(no[1], yes[1], mask[1])])
            }
            #[inline(always)]
            fn zero_where_less(self, a: Self::Vector, b: Self::Vector, x: Self::Vector) -> Self::Vector {
                let mask = Simd::<$type>::less(self, a, b);
                intrinsics!([$and_not(mask[0], x[0]), $and_not(mask[1], x[1])])
            }
            #[inline(always)]
            fn sum(self, vector: Self::Vector) -> $type {
                intrinsics!($sum($add(vector[1], vector[0])))
            }
            #[inline(always)]
            fn max_lane(self, vector: Self::Vector) -> $type {
                // In this order NaN is passed over; nothing in the tree that follows is one.
                intrinsics!({
                    let lowest = $set1(<$type>::NEG_INFINITY);
                    $max_lane($max($max(vector[1], lowest), $max(vector[0], lowest)))
                })
            }
        }
    };
}
implement_avx2!(
    {
        #[inline(always)]
        fn bits(self, mask: [__m256; 2]) -> u64 {
            let [low, high] = intrinsics!([_mm256_movemask_ps(mask[0]), _mm256_movemask_ps(mask[1])]);
            u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 8
        }
        #[inline(always)]
        fn load_f16(self, numbers: &[F16; 16]) -> [__m256; 2] {
            let p = numbers.as_ptr().cast::<__m128i>();
            intrinsics!([_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))])
        }
        #[inline(always)]
        fn load_bf16_two(self, numbers: &[BF16]) -> [[__m256; 2]; 2] {
            let numbers: &[BF16; 32] = numbers.try_into().expect("two numbers a lane");
            let p = numbers.as_ptr().cast::<__m256i>();
            intrinsics!({
                let (a, b) = (_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1)));
                let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
                let even = [_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b)];
                let odd = [_mm256_and_si256(a, upper), _mm256_and_si256(b, upper)];
                [
                    [_mm256_castsi256_ps(even[0]), _mm256_castsi256_ps(even[1])],
                    [_mm256_castsi256_ps(odd[0]), _mm256_castsi256_ps(odd[1])],
                ]
            })
        }
        #[inline(always)]
        fn store_f16(self, vector: [__m256; 2], out: &mut [F16; 16]) {
            let p = out.as_mut_ptr().cast::<__m128i>();
            intrinsics!({
                _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector[0]));
                _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector[1]));
            });
        }
    },
    f32,
    16,
    __m256,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_stream_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    _mm256_fmadd_ps,
    _mm256_max_ps,
    _mm256_round_ps,
    _mm256_cmp_ps,
    _mm256_blendv_ps,
    _mm256_andnot_ps,
    scale_by_pow2_f32,
    pow2_f32,
    _mm256_cvtps_epi32,
    127.0,
    split_f32,
    first_lanes_f32,
    _mm256_maskload_ps,
    _mm256_maskstore_ps,
    _mm256_castsi256_ps,
    sum_f32,
    max_lane_f32
);
implement_avx2!(
    {
        #[inline(always)]
        fn bits(self, mask: [__m256d; 2]) -> u64 {
            let [low, high] = intrinsics!([_mm256_movemask_pd(mask[0]), _mm256_movemask_pd(mask[1])]);
            u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 4
        }
    },
    f64,
    8,
    __m256d,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_stream_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_div_pd,
    _mm256_fmadd_pd,
    _mm256_max_pd,
    _mm256_round_pd,
    _mm256_cmp_pd,
    _mm256_blendv_pd,
    _mm256_andnot_pd,
    scale_by_pow2_f64,
    pow2_f64,
    _mm256_cvtpd_epi32,
    1023.0,
    split_f64,
    first_lanes_f64,
    _mm256_maskload_pd,
    _mm256_maskstore_pd,
    _mm256_castsi256_pd,
    sum_f64,
    max_lane_f64
);
