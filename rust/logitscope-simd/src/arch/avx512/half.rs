//! 16-bit numbers: their conversions, and products of pairs of bfloat16.

use crate::stored::{BF16, F16, Stored};
use std::arch::x86_64::*;

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
pub(super) unsafe fn pair_bf16(low: __m512, high: __m512) -> __m512 {
    // SAFETY: the caller holds an `Avx512Bf16` token; vectors are reinterpreted as bits of the same size.
    unsafe {
        let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        let places = _mm512_loadu_si512(INTERLEAVED.as_ptr().cast());
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(places, both))
    }
}

#[inline(always)]
pub(super) unsafe fn pair_neighbours_bf16(low: __m512, high: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)) }
}

#[inline(always)]
pub(super) unsafe fn add_pairs_bf16(a: __m512, b: __m512, c: __m512) -> __m512 {
    // SAFETY: as above.
    unsafe {
        let (a, b) = (std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b));
        _mm512_dpbf16_ps(c, a, b)
    }
}

/// The class of denormals, of either sign.
const DENORMAL: i32 = 0x20;

#[inline(always)]
pub(super) unsafe fn store_bf16(vector: __m512, out: &mut [BF16; 16]) {
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
pub(super) unsafe fn store_bf16_two(low: __m512, high: __m512, out: &mut [BF16; 32]) {
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
pub(super) fn lanes_of<const N: usize>(out: &mut [BF16]) -> &mut [BF16; N] {
    out.try_into().expect("one number a lane")
}

#[inline(always)]
pub(super) unsafe fn load_f16(numbers: &[F16; 16]) -> __m512 {
    // SAFETY: the caller holds a token of AVX-512; the 32 bytes of `numbers` are read.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(numbers.as_ptr().cast())) }
}

#[inline(always)]
pub(super) unsafe fn store_f16(vector: __m512, out: &mut [F16; 16]) {
    // SAFETY: the caller holds a token of AVX-512; the 32 bytes of `out` are written.
    unsafe {
        _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(vector));
    }
}

/// Two numbers a lane.
#[inline(always)]
pub(super) fn lanes_of_both(numbers: &[BF16]) -> &[BF16; 32] {
    numbers.try_into().expect("two numbers a lane")
}

#[inline(always)]
pub(super) unsafe fn load_bf16_two(numbers: &[BF16; 32]) -> [__m512; 2] {
    // SAFETY: the caller holds a token of AVX-512; the 64 bytes of `numbers` are read.
    unsafe {
        let pairs = _mm512_loadu_si512(numbers.as_ptr().cast());
        let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd)]
    }
}
