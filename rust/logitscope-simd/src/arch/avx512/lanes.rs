//! What moves numbers between lanes: transpositions, halves and sums.

use std::arch::x86_64::*;

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
pub(super) unsafe fn transpose_f32(rows: &[&[f32; 16]], out: &mut [[f32; 16]]) {
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
pub(super) unsafe fn sum_each_f32(v: &[__m512]) -> __m512 {
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
pub(super) unsafe fn transpose_f64(rows: &[&[f64; 8]], out: &mut [[f64; 8]]) {
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
pub(super) unsafe fn halves_f32(a: __m512) -> [__m256; 2] {
    // SAFETY: the caller holds an `Avx512` token.
    unsafe { [_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)] }
}

#[inline(always)]
pub(super) unsafe fn halves_f64(a: __m512d) -> [__m256d; 2] {
    // SAFETY: the caller holds an `Avx512` token.
    unsafe { [_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd::<1>(a)] }
}
