//! The micro-tile: rows of numbers times vectors of columns, in registers.

use super::Start;
use super::ahead::{Ahead, fetch};
use super::pack::{Panel, Scratch};
use logitscope_simd::{Element, Simd, Stored};
use std::ops::Range;

/// How far a micro-tile walks before it fetches the next lines ahead.
pub(super) const STEP: usize = 64;

type Block<X> = <<X as Stored>::Wide as Element>::Block;

/// Adds the product of the packed rows and the packed columns to `columns` of the rows `c`.
#[inline(always)]
pub(super) fn multiply<X: Stored, S: Simd<X::Wide>, const MR: usize, const NR: usize>(
    simd: S,
    packed: &Scratch<X::Wide>,
    mut ahead: Ahead<'_, X>,
    start: Start<'_, X::Wide>,
    columns: Range<usize>,
    c: &mut [&mut [X::Wide]],
) {
    let (b, _) = packed.columns().as_chunks::<NR>();
    for (index, c) in c.chunks_mut(MR).enumerate() {
        for row in c.iter() {
            fetch(simd, &row[columns.clone()]);
        }
        let sums = match packed.rows::<MR>(index) {
            Some(Panel::OfRows(rows)) => by_rows::<X, S, MR, NR>(simd, rows, b, &mut ahead),
            Some(Panel::OfDepths(depths)) => by_depths::<X, S, MR, NR>(simd, depths, b, &mut ahead),
            None if matches!(start, Start::Kept) => continue,
            None => [[simd.splat(X::Wide::ZERO); NR]; MR],
        };
        for (i, sums) in sums.iter().enumerate() {
            if let Some(c) = c.get_mut(i) {
                store::<X::Wide, S, NR>(simd, sums, start, &mut c[columns.clone()]);
            }
        }
    }
}

#[inline(always)]
fn by_rows<X: Stored, S: Simd<X::Wide>, const MR: usize, const NR: usize>(
    simd: S,
    rows: [&[X::Wide]; MR],
    b: &[[Block<X>; NR]],
    ahead: &mut Ahead<'_, X>,
) -> [[S::Vector; NR]; MR] {
    let mut sums = [[simd.splat(X::Wide::ZERO); NR]; MR];
    for (index, b) in b.chunks(STEP).enumerate() {
        ahead.fetch(simd);
        // Cut to one length, so that the compiler sees that no index below it can be out of bounds.
        let mut cut: [&[X::Wide]; MR] = [&[]; MR];
        for (cut, row) in cut.iter_mut().zip(rows) {
            *cut = &row[index * STEP..][..b.len()];
        }
        for (k, b) in b.iter().enumerate() {
            let mut a = [X::Wide::ZERO; MR];
            for i in 0..MR {
                a[i] = cut[i][k];
            }
            add_products(simd, &a, b, &mut sums);
        }
    }
    sums
}

#[inline(always)]
fn by_depths<X: Stored, S: Simd<X::Wide>, const MR: usize, const NR: usize>(
    simd: S,
    depths: &[[X::Wide; MR]],
    b: &[[Block<X>; NR]],
    ahead: &mut Ahead<'_, X>,
) -> [[S::Vector; NR]; MR] {
    let mut sums = [[simd.splat(X::Wide::ZERO); NR]; MR];
    for (depths, b) in depths.chunks(STEP).zip(b.chunks(STEP)) {
        ahead.fetch(simd);
        for (a, b) in depths.iter().zip(b) {
            add_products(simd, a, b, &mut sums);
        }
    }
    sums
}

#[inline(always)]
fn add_products<T: Element, S: Simd<T>, const MR: usize, const NR: usize>(
    simd: S,
    a: &[T; MR],
    b: &[T::Block; NR],
    sums: &mut [[S::Vector; NR]; MR],
) {
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

/// Adds the sums of one row to what it starts from.
///
/// Loops here have as many rounds as sums, so that those stay in registers.
#[inline(always)]
fn store<T: Element, S: Simd<T>, const NR: usize>(
    simd: S,
    sums: &[S::Vector; NR],
    start: Start<'_, T>,
    c: &mut [T],
) {
    if c.len() == NR * T::LANES {
        for (j, sum) in sums.iter().enumerate() {
            let old = match start {
                Start::Zero => simd.splat(T::ZERO),
                Start::Kept => simd.load(&T::blocks(c).0[j]),
                Start::Row(row) => simd.load(&T::blocks(row).0[j]),
            };
            simd.store(simd.add(old, *sum), &mut T::blocks_mut(c).0[j]);
        }
        return;
    }
    for (j, sum) in sums.iter().enumerate() {
        let part = c.len().min(j * T::LANES)..c.len().min((j + 1) * T::LANES);
        let old = match start {
            Start::Zero => simd.splat(T::ZERO),
            Start::Kept => simd.load_partial(&c[part.clone()], T::ZERO),
            Start::Row(row) => simd.load_partial(&row[part.clone()], T::ZERO),
        };
        simd.store_partial(simd.add(old, *sum), &mut c[part]);
    }
}
