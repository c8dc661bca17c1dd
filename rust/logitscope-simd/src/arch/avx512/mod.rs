//! AVX-512 (F, BW, DQ, VL): one 512-bit register a vector.

mod half;
mod lanes;

use super::amx::{Amx, multiply_tiles};
use super::avx2::{max_lane_f32, max_lane_f64, sum_f32, sum_f64};
use crate::isa::Isa;
use crate::simd::Simd;
use crate::stored::{BF16, F16};
use crate::tiles::TileProduct;
use half::{
    add_pairs_bf16, lanes_of, lanes_of_both, load_bf16_two, load_f16, pair_bf16, pair_neighbours_bf16,
    store_bf16, store_bf16_two, store_f16,
};
use lanes::{halves_f32, halves_f64, sum_each_f32, transpose_f32, transpose_f64};
use std::arch::x86_64::*;

/// Token of AVX-512; made only after the CPU was checked.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU must have the features that `dispatch.rs` lists for this set.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Self {
        Avx512(())
    }
}

/// Token of AVX-512 with products of bfloat16; made only after the CPU was checked.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16(());

impl Avx512Bf16 {
    /// # Safety
    /// The CPU must have the features that `dispatch.rs` lists for this set.
    #[inline(always)]
    pub(crate) unsafe fn new_unchecked() -> Self {
        Avx512Bf16(())
    }
}

/// Calls an intrinsic. One place states why that is sound for the whole file.
macro_rules! intrinsic {
    ($name:ident $(::<$($constant:tt),+>)? ($($argument:expr),*)) => {
        // SAFETY: `self` is a token, so the CPU has the instruction; a pointer argument, where there is
        // one, comes from a reference to a whole block and the instruction asks for no alignment.
        unsafe { $name $(::<$($constant),+>)? ($($argument),*) }
    };
}

/// A mask of the first `count` lanes.
#[inline(always)]
fn first_lanes(count: usize, lanes: usize) -> u32 {
    debug_assert!(count <= lanes, "{count} elements for {lanes} lanes");
    (1 << count.min(lanes)) - 1
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

macro_rules! implement_avx512 {
    ($token:ty, { $($pairs:tt)* }, $type:ty, $lanes:literal, $vector:ty, $mask:ty, $set1:ident, $load:ident, $store:ident, $stream:ident, $add:ident, $sub:ident,
     $mul:ident, $div:ident, $fmadd:ident, $max:ident, $round:ident, $scalef:ident, $cmp:ident, $blend:ident, $keep:ident,
     $mask_load:ident, $mask_store:ident, $getmant:ident, $getexp:ident, $transpose:ident, $halves:ident, $add_halves:ident, $max_of_halves:ident,
     $sum:ident, $max_lane:ident) => {
        impl Simd<$type> for $token {
            type Vector = $vector;
            type Mask = $mask;

            const ISA: Isa = Isa::Avx512;
            const REGISTERS: usize = 32;
            $($pairs)*

            #[inline(always)]
            fn splat(self, x: $type) -> $vector {
                intrinsic!($set1(x))
            }
            #[inline(always)]
            fn load(self, block: &[$type; $lanes]) -> $vector {
                intrinsic!($load(block.as_ptr()))
            }
            #[inline(always)]
            fn store(self, vector: $vector, block: &mut [$type; $lanes]) {
                intrinsic!($store(block.as_mut_ptr(), vector));
            }
            #[inline(always)]
            fn store_stream(self, vector: $vector, block: &mut [$type; $lanes]) {
                if block.as_ptr().cast::<$vector>().is_aligned() {
                    // SAFETY: as `intrinsic!` says, and the pointer is aligned as this instruction asks.
                    unsafe { $stream(block.as_mut_ptr(), vector) }
                } else {
                    Simd::<$type>::store(self, vector, block);
                }
            }
            #[inline(always)]
            fn fence(self) {
                intrinsic!(_mm_sfence());
            }
            #[inline(always)]
            fn prefetch<X>(self, slice: &[X]) {
                intrinsic!(_mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().cast()));
            }
            #[inline(always)]
            fn transpose(self, rows: &[&[$type; $lanes]], out: &mut [[$type; $lanes]]) {
                intrinsic!($transpose(rows, out));
            }
            #[inline(always)]
            fn load_partial(self, slice: &[$type], fill: $type) -> $vector {
                // Lanes outside of the mask are not read, so a pointer to a short slice is enough.
                intrinsic!($mask_load($set1(fill), first_lanes(slice.len(), $lanes) as $mask, slice.as_ptr()))
            }
            #[inline(always)]
            fn store_partial(self, vector: $vector, slice: &mut [$type]) {
                let mask = first_lanes(slice.len(), $lanes) as $mask;
                intrinsic!($mask_store(slice.as_mut_ptr(), mask, vector));
            }
            #[inline(always)]
            fn add(self, a: $vector, b: $vector) -> $vector {
                intrinsic!($add(a, b))
            }
            #[inline(always)]
            fn sub(self, a: $vector, b: $vector) -> $vector {
                intrinsic!($sub(a, b))
            }
            #[inline(always)]
            fn mul(self, a: $vector, b: $vector) -> $vector {
                intrinsic!($mul(a, b))
            }
            #[inline(always)]
            fn div(self, a: $vector, b: $vector) -> $vector {
                intrinsic!($div(a, b))
            }
            #[inline(always)]
            fn mul_add(self, a: $vector, b: $vector, c: $vector) -> $vector {
                intrinsic!($fmadd(a, b, c))
            }
            #[inline(always)]
            fn max(self, a: $vector, b: $vector) -> $vector {
                intrinsic!($max(a, b))
            }
            #[inline(always)]
            fn round(self, a: $vector) -> $vector {
                intrinsic!($round::<NEAREST>(a))
            }
            #[inline(always)]
            fn scale_by_pow2(self, a: $vector, n: $vector) -> $vector {
                intrinsic!($scalef(a, n))
            }
            #[inline(always)]
            fn scale_down_by_pow2(self, a: $vector, n: $vector) -> $vector {
                intrinsic!($scalef(a, n))
            }
            #[inline(always)]
            fn split(self, a: $vector) -> ($vector, $vector) {
                let mantissa = intrinsic!($getmant::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(a));
                (mantissa, intrinsic!($getexp(a)))
            }
            #[inline(always)]
            fn less(self, a: $vector, b: $vector) -> $mask {
                intrinsic!($cmp::<_CMP_LT_OQ>(a, b))
            }
            #[inline(always)]
            fn any(self, mask: $mask) -> bool {
                mask != 0
            }
            #[inline(always)]
            fn bits(self, mask: $mask) -> u64 {
                mask.into()
            }
            #[inline(always)]
            fn select(self, mask: $mask, yes: $vector, no: $vector) -> $vector {
                intrinsic!($blend(mask, no, yes))
            }
            #[inline(always)]
            fn zero_where_less(self, a: $vector, b: $vector, x: $vector) -> $vector {
                // The mask of what stays, NaN with it: zeroing is then a part of what made x.
                let stays = intrinsic!($cmp::<_CMP_NLT_UQ>(a, b));
                intrinsic!($keep(stays, x))
            }
            #[inline(always)]
            fn sum(self, vector: $vector) -> $type {
                let [low, high] = intrinsic!($halves(vector));
                intrinsic!($sum($add_halves(high, low)))
            }
            #[inline(always)]
            fn max_lane(self, vector: $vector) -> $type {
                // In this order NaN is passed over; nothing in the tree that follows is one.
                let lowest = intrinsic!($set1(<$type>::NEG_INFINITY));
                let [low, high] = intrinsic!($halves($max(vector, lowest)));
                intrinsic!($max_lane($max_of_halves(high, low)))
            }
        }
    };
}

/// `f32` over a token that may add to it what only some of the CPUs with AVX-512 have.
macro_rules! implement_avx512_f32 {
    ($token:ty, { $($pairs:tt)* }) => {
        implement_avx512!(
            $token,
            {
                #[inline(always)]
                fn sum_each(self, vectors: &[__m512]) -> __m512 {
                    intrinsic!(sum_each_f32(vectors))
                }
                #[inline(always)]
                fn load_f16(self, numbers: &[F16; 16]) -> __m512 {
                    intrinsic!(load_f16(numbers))
                }
                #[inline(always)]
                fn store_f16(self, vector: __m512, out: &mut [F16; 16]) {
                    intrinsic!(store_f16(vector, out));
                }
                #[inline(always)]
                fn load_bf16_two(self, numbers: &[BF16]) -> [__m512; 2] {
                    intrinsic!(load_bf16_two(lanes_of_both(numbers)))
                }
                $($pairs)*
            },
            f32,
            16,
            __m512,
            __mmask16,
            _mm512_set1_ps,
            _mm512_loadu_ps,
            _mm512_storeu_ps,
            _mm512_stream_ps,
            _mm512_add_ps,
            _mm512_sub_ps,
            _mm512_mul_ps,
            _mm512_div_ps,
            _mm512_fmadd_ps,
            _mm512_max_ps,
            _mm512_roundscale_ps,
            _mm512_scalef_ps,
            _mm512_cmp_ps_mask,
            _mm512_mask_blend_ps,
            _mm512_maskz_mov_ps,
            _mm512_mask_loadu_ps,
            _mm512_mask_storeu_ps,
            _mm512_getmant_ps,
            _mm512_getexp_ps,
            transpose_f32,
            halves_f32,
            _mm256_add_ps,
            _mm256_max_ps,
            sum_f32,
            max_lane_f32
        );
    };
}

implement_avx512_f32!(Avx512, {});
implement_avx512!(
    Avx512,
    {},
    f64,
    8,
    __m512d,
    __mmask8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_stream_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_mul_pd,
    _mm512_div_pd,
    _mm512_fmadd_pd,
    _mm512_max_pd,
    _mm512_roundscale_pd,
    _mm512_scalef_pd,
    _mm512_cmp_pd_mask,
    _mm512_mask_blend_pd,
    _mm512_maskz_mov_pd,
    _mm512_mask_loadu_pd,
    _mm512_mask_storeu_pd,
    _mm512_getmant_pd,
    _mm512_getexp_pd,
    transpose_f64,
    halves_f64,
    _mm256_add_pd,
    _mm256_max_pd,
    sum_f64,
    max_lane_f64
);
/// What AVX512-BF16 adds.
macro_rules! pairs_of_bf16 {
    () => {
        const HAS_PAIRS: bool = true;

        #[inline(always)]
        fn pair(self, low: __m512, high: __m512) -> __m512 {
            intrinsic!(pair_bf16(low, high))
        }
        #[inline(always)]
        fn pair_neighbours(self, low: __m512, high: __m512) -> __m512 {
            intrinsic!(pair_neighbours_bf16(low, high))
        }
        #[inline(always)]
        fn add_pairs(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            intrinsic!(add_pairs_bf16(a, b, c))
        }
        #[inline(always)]
        fn store_bf16(self, vector: __m512, out: &mut [BF16]) {
            intrinsic!(store_bf16(vector, lanes_of(out)));
        }
        #[inline(always)]
        fn store_bf16_two(self, low: __m512, high: __m512, out: &mut [BF16]) {
            intrinsic!(store_bf16_two(low, high, lanes_of(out)));
        }
    };
}

implement_avx512_f32!(Avx512Bf16, {
    pairs_of_bf16!();
});
implement_avx512_f32!(Amx, {
    pairs_of_bf16!();

    const HAS_TILES: bool = true;

    #[inline(always)]
    fn multiply_tiles(self, mut product: TileProduct<'_, f32>) {
        // SAFETY: a token of tiles is used while they are configured.
        unsafe { multiply_tiles(&mut product) }
    }
});
