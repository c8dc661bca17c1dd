//! The micro-tile: rows of numbers times vectors of columns, in registers.

use super::Start;
use super::pack::Scratch;
use logitscope_simd::{Element, Simd};
use std::ops::Range;

/// Adds the product of the packed rows and the packed columns to `columns` of the rows `c`.
#[inline(always)]
pub(super) fn multiply<T: Element, S: Simd<T>, const MR: usize, const NR: usize>(
    simd: S,
    packed: &Scratch<T>,
    start: Start<'_, T>,
    columns: Range<usize>,
    c: &mut [&mut [T]],
) {
    let (b, _) = packed.columns().as_chunks::<NR>();
    for (index, c) in c.chunks_mut(MR).enumerate() {
        for row in c.iter() {
            for part in row[columns.clone()].chunks(T::LANES) {
                simd.prefetch(part);
            }
        }
        let sums = match packed.rows::<MR>(index) {
            Some(a) => micro_tile::<T, S, MR, NR>(simd, a, b),
            None if matches!(start, Start::Kept) => continue,
            None => [[simd.splat(T::ZERO); NR]; MR],
        };
        for (sums, c) in sums.iter().zip(c) {
            store::<T, S, NR>(simd, sums, start, &mut c[columns.clone()]);
        }
    }
}

#[inline(always)]
fn micro_tile<T: Element, S: Simd<T>, const MR: usize, const NR: usize>(
    simd: S,
    a: &[[T; MR]],
    b: &[[T::Block; NR]],
) -> [[S::Vector; NR]; MR] {
    let mut sums = [[simd.splat(T::ZERO); NR]; MR];
    for (a, b) in a.iter().zip(b) {
        let mut vectors = [simd.splat(T::ZERO); NR];
        for j in 0..NR {
            vectors[j] = simd.load(&b[j]);
        }
        for i in 0..MR {
            let x = simd.splat(a[i]);
            for j in 0..NR {
                sums[i][j] = simd.mul_add(x, vectors[j], sums[i][j]);
            }
        }
    }
    sums
}

/// Adds the sums of one row to what it starts from.
#[inline(always)]
fn store<T: Element, S: Simd<T>, const NR: usize>(
    simd: S,
    sums: &[S::Vector; NR],
    start: Start<'_, T>,
    c: &mut [T],
) {
    for (j, (sum, c)) in sums.iter().zip(c.chunks_mut(T::LANES)).enumerate() {
        let (blocks, tail) = T::blocks_mut(c);
        let old = match start {
            Start::Zero => simd.splat(T::ZERO),
            Start::Kept => match blocks.first() {
                Some(block) => simd.load(block),
                None => simd.load_partial(tail, T::ZERO),
            },
            Start::Row(row) => {
                simd.load_partial(&row[j * T::LANES..row.len().min((j + 1) * T::LANES)], T::ZERO)
            }
        };
        let new = simd.add(old, *sum);
        match blocks.first_mut() {
            Some(block) => simd.store(new, block),
            None => simd.store_partial(new, tail),
        }
    }
}
