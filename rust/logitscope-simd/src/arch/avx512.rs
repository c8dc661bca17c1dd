//! AVX-512 (F, BW, DQ, VL): one 512-bit register a vector.

use super::avx2::{max_lane_f32, max_lane_f64, sum_f32, sum_f64};
use crate::isa::Isa;
use crate::simd::Simd;
use crate::stored::{BF16, Stored};
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

/// The last step of a transposition: vectors of which part p holds rows g of column p, for four groups g of rows,
/// become the four columns.
macro_rules! gather_parts {
    ($shuffle:ident, $groups:expr) => {{
        let [a, b, c, d] = $groups;
        let (even_ab, odd_ab) = ($shuffle::<0x88>(a, b), $shuffle::<0xdd>(a, b));
        let (even_cd, odd_cd) = ($shuffle::<0x88>(c, d), $shuffle::<0xdd>(c, d));
        [
            $shuffle::<0x88>(even_ab, even_cd),
            $shuffle::<0x88>(odd_ab, odd_cd),
            $shuffle::<0xdd>(even_ab, even_cd),
            $shuffle::<0xdd>(odd_ab, odd_cd),
        ]
    }};
}

#[inline(always)]
unsafe fn transpose_f32(rows: &[&[f32; 16]], out: &mut [[f32; 16]]) {
    // SAFETY: the caller holds an `Avx512` token; pointers come from references to whole blocks.
    unsafe {
        let mut quads = [[_mm512_setzero_ps(); 4]; 4];
        for (quads, rows) in quads.iter_mut().zip(rows.as_chunks::<4>().0) {
            let (a, b) = (_mm512_loadu_ps(rows[0].as_ptr()), _mm512_loadu_ps(rows[1].as_ptr()));
            let (c, d) = (_mm512_loadu_ps(rows[2].as_ptr()), _mm512_loadu_ps(rows[3].as_ptr()));
            let low_ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
            let low_cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
            let high_ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
            let high_cd = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
            *quads = [
                _mm512_castpd_ps(_mm512_unpacklo_pd(low_ab, low_cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(low_ab, low_cd)),
                _mm512_castpd_ps(_mm512_unpacklo_pd(high_ab, high_cd)),
                _mm512_castpd_ps(_mm512_unpackhi_pd(high_ab, high_cd)),
            ];
        }
        for j in 0..4 {
            let columns =
                gather_parts!(_mm512_shuffle_f32x4, [quads[0][j], quads[1][j], quads[2][j], quads[3][j]]);
            for (part, column) in columns.into_iter().enumerate() {
                _mm512_storeu_ps(out[4 * part + j].as_mut_ptr(), column);
            }
        }
    }
}

/// Sums of lanes as a tree over halves, of sixteen vectors at once: two vectors that have been halved share one.
#[inline(always)]
unsafe fn sum_each_f32(v: &[__m512]) -> __m512 {
    // SAFETY: the caller holds an `Avx512` token.
    unsafe {
        let mut quarters = [_mm512_setzero_ps(); 4];
        for (i, quarter) in quarters.iter_mut().enumerate() {
            let mut halves = [_mm512_setzero_ps(); 2];
            for (half, i) in halves.iter_mut().zip([i, i + 8]) {
                let (low, high) = (
                    _mm512_shuffle_f32x4::<0x44>(v[i], v[i + 4]),
                    _mm512_shuffle_f32x4::<0xee>(v[i], v[i + 4]),
                );
                *half = _mm512_add_ps(low, high);
            }
            let [a, b] = halves;
            let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            *quarter = _mm512_add_ps(even, odd);
        }
        let mut pairs = [_mm512_setzero_ps(); 2];
        for (pair, i) in pairs.iter_mut().zip([0, 2]) {
            let (a, b) = (_mm512_castps_pd(quarters[i]), _mm512_castps_pd(quarters[i + 1]));
            let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
            *pair = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
        }
        let [a, b] = pairs;
        _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b))
    }
}

#[inline(always)]
unsafe fn transpose_f64(rows: &[&[f64; 8]], out: &mut [[f64; 8]]) {
    // SAFETY: the caller holds an `Avx512` token; pointers come from references to whole blocks.
    unsafe {
        let mut pairs = [[_mm512_setzero_pd(); 2]; 4];
        for (pairs, rows) in pairs.iter_mut().zip(rows.as_chunks::<2>().0) {
            let (a, b) = (_mm512_loadu_pd(rows[0].as_ptr()), _mm512_loadu_pd(rows[1].as_ptr()));
            *pairs = [_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b)];
        }
        for j in 0..2 {
            let columns =
                gather_parts!(_mm512_shuffle_f64x2, [pairs[0][j], pairs[1][j], pairs[2][j], pairs[3][j]]);
            for (part, column) in columns.into_iter().enumerate() {
                _mm512_storeu_pd(out[2 * part + j].as_mut_ptr(), column);
            }
        }
    }
}

#[inline(always)]
unsafe fn halves_f32(a: __m512) -> [__m256; 2] {
    // SAFETY: the caller holds an `Avx512` token.
    unsafe { [_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)] }
}

#[inline(always)]
unsafe fn halves_f64(a: __m512d) -> [__m256d; 2] {
    // SAFETY: the caller holds an `Avx512` token.
    unsafe { [_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd::<1>(a)] }
}

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
/// The places of the numbers of two vectors, narrowed one after the other, where those of a lane are side by side.
const INTERLEAVED: [i16; 32] = {
    let mut places = [0; 32];
    let mut i = 0;
    while i < 32 {
        places[i] = (i / 2 + i % 2 * 16) as i16;
        i += 1;
    }
    places
};

#[inline(always)]
unsafe fn pair_bf16(low: __m512, high: __m512) -> __m512 {
    // SAFETY: the caller holds an `Avx512Bf16` token; vectors are reinterpreted as bits of the same size.
    unsafe {
        let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        let places = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(places, both))
    }
}

#[inline(always)]
unsafe fn pair_neighbours_bf16(low: __m512, high: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)) }
}

#[inline(always)]
unsafe fn add_pairs_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe {
        let (a, b) = (std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b));
        _mm512_dpbf16_ps(c, a, b)
    }
}

/// The class of denormals, of either sign.
const DENORMAL: i32 = 0x20;

#[inline(always)]
unsafe fn store_bf16(vector: __m512, out: &mut [BF16; 16]) {
    // SAFETY: as above; the stores write the 64 bytes of `wide` or the 32 of `out`.
    unsafe {
        // The instruction takes denormals for 0.
        if _mm512_fpclass_ps_mask::<DENORMAL>(vector) != 0 {
            let mut wide = [0.0; 16];
            _mm512_storeu_ps(wide.as_mut_ptr(), vector);
            return round_denormals(&wide, out);
        }
        let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(vector));
        _mm256_storeu_si256(out.as_mut_ptr().cast(), rounded);
    }
}

#[inline(always)]
unsafe fn store_bf16_two(low: __m512, high: __m512, out: &mut [BF16; 32]) {
    // SAFETY: as above; the store writes the 64 bytes of `out`.
    unsafe {
        let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_storeu_si512(out.as_mut_ptr().cast(), rounded);
    }
}

#[cold]
fn round_denormals(wide: &[f32; 16], out: &mut [BF16; 16]) {
    *out = wide.map(BF16::narrow);
}

/// One number a lane; slices that are handed to a store have so many.
#[inline(always)]
fn lanes_of<const N: usize>(out: &mut [BF16]) -> &mut [BF16; N] {
    out.try_into().expect("one number a lane")
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
implement_avx512_f32!(Avx512Bf16, {
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
});
