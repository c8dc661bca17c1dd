//! Packing: parts of the factors in the order in which micro-tiles read them.
//!
//! A panel has the depth outside: all its rows of `a`, or columns of `b`, at one depth lie side by side.

use super::Factor;
use crate::view::Matrix;
use logitscope_simd::{Element, Simd, Stored};
use std::ops::Range;

/// The most lanes that a vector has.
const LANES: usize = 16;

/// What a thread reuses from tile to tile.
pub(super) struct Scratch<T> {
    /// Panels of rows of `a`.
    rows: Vec<T>,
    /// The length of one.
    panel: usize,
    /// Which of them count.
    live: Vec<bool>,
    /// A panel of columns of `b`; a block may lie at any address of `T`s.
    columns: Vec<T>,
    used: Range<usize>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), panel: 0, live: Vec::new(), columns: Vec::new(), used: 0..0 }
    }
}

impl<T: Element> Scratch<T> {
    /// The packed panel of `MR` rows with an index; none if it is 0 and may be passed over.
    #[inline(always)]
    pub(super) fn rows<const MR: usize>(&self, index: usize) -> Option<&[[T; MR]]> {
        let panel = &self.rows[index * self.panel..(index + 1) * self.panel];
        if self.live[index] { Some(panel.as_chunks::<MR>().0) } else { None }
    }

    /// The packed columns.
    #[inline(always)]
    pub(super) fn columns(&self) -> &[T::Block] {
        T::blocks(&self.columns[self.used.clone()]).0
    }

    /// Packs rows of `a` into panels of `width` of them; what is missing of the last is 0.
    #[inline(always)]
    pub(super) fn pack_rows<S: Simd<T>>(
        &mut self,
        simd: S,
        a: Factor<'_, T>,
        rows: Range<usize>,
        depth: Range<usize>,
        width: usize,
    ) {
        self.panel = width * depth.len();
        self.live.clear();
        self.live.resize(rows.len().div_ceil(width), true);
        self.rows.resize(self.live.len() * self.panel, T::ZERO);
        for (index, live) in self.live.iter_mut().enumerate() {
            let first = rows.start + index * width;
            let part = first..rows.end.min(first + width);
            let panel = &mut self.rows[index * self.panel..(index + 1) * self.panel];
            if a.transposed {
                copy(simd, a.matrix, part, depth.clone(), width, panel);
            } else {
                transpose(simd, a.matrix, part, depth.clone(), width, panel);
            }
            *live = !a.sparse || panel.iter().any(|&x| x != T::ZERO);
        }
    }

    /// Packs columns of `b` into a panel `width` wide; what is missing of them is 0.
    #[inline(always)]
    pub(super) fn pack_columns<X: Stored<Wide = T>, S: Simd<T>>(
        &mut self,
        simd: S,
        b: Factor<'_, X>,
        columns: Range<usize>,
        depth: Range<usize>,
        width: usize,
    ) {
        let len = depth.len() * width;
        if self.columns.len() < len + T::LANES {
            self.columns.resize(len + T::LANES, T::ZERO);
        }
        // Vectors that cross a line of the cache take twice as long to load.
        let start = self.columns.as_ptr().align_offset(64).min(T::LANES);
        self.used = start..start + len;
        let panel = &mut self.columns[self.used.clone()];
        if b.transposed {
            transpose(simd, b.matrix, columns, depth, width, panel);
        } else {
            copy(simd, b.matrix, columns, depth, width, panel);
        }
    }
}

/// Packs columns of a matrix, whose rows are the depth.
#[inline(always)]
fn copy<T: Element, X: Stored<Wide = T>, S: Simd<T>>(
    simd: S,
    matrix: Matrix<'_, X>,
    columns: Range<usize>,
    depth: Range<usize>,
    width: usize,
    panel: &mut [T],
) {
    let whole = columns.len() == width;
    for (packed, k) in panel.chunks_exact_mut(width).zip(depth) {
        let row = &matrix.row(k)[columns.clone()];
        if whole {
            // Vectors, and a rest that is known when this is compiled: a call for so few bytes costs more.
            let ((packs, tail), (out, out_tail)) = (X::packs(&row[..width]), T::blocks_mut(packed));
            for (pack, out) in packs.iter().zip(out) {
                simd.store(X::load(simd, pack), out);
            }
            for (x, out) in tail[..width % T::LANES].iter().zip(out_tail) {
                *out = x.widen();
            }
        } else {
            packed.fill(T::ZERO);
            for (x, out) in row.iter().zip(packed) {
                *out = x.widen();
            }
        }
    }
}

/// Packs rows of a matrix, whose columns are the depth.
#[inline(always)]
fn transpose<T: Element, X: Stored<Wide = T>, S: Simd<T>>(
    simd: S,
    matrix: Matrix<'_, X>,
    rows: Range<usize>,
    depth: Range<usize>,
    width: usize,
    panel: &mut [T],
) {
    let nothing = T::block(T::ZERO);
    let mut rooms = [nothing; LANES];
    let mut square = [nothing; LANES];
    let square = &mut square[..T::LANES];
    for offset in (0..width).step_by(T::LANES) {
        let mut whole: [&[X::Pack]; LANES] = [&[]; LANES];
        let mut tails: [&[X]; LANES] = [&[]; LANES];
        let present = rows.len().saturating_sub(offset).min(T::LANES);
        for i in 0..present {
            (whole[i], tails[i]) = X::packs(&matrix.row(rows.start + offset + i)[depth.clone()]);
        }
        let lanes = T::LANES.min(width - offset);
        let (squares, tail) = panel.split_at_mut(depth.len() / T::LANES * T::LANES * width);
        for (index, packed) in squares.chunks_exact_mut(T::LANES * width).enumerate() {
            let mut blocks = [&nothing; LANES];
            for ((block, packs), room) in blocks.iter_mut().zip(&whole).zip(&mut rooms).take(present) {
                *block = X::wide_pack(simd, &packs[index], room);
            }
            simd.transpose(&blocks[..T::LANES], square);
            for (column, packed) in square.iter().zip(packed.chunks_exact_mut(width)) {
                simd.store_partial(simd.load(column), &mut packed[offset..offset + lanes]);
            }
        }
        for (k, packed) in tail.chunks_exact_mut(width).enumerate() {
            for i in 0..lanes {
                packed[offset + i] = if i < present { tails[i][k].widen() } else { T::ZERO };
            }
        }
    }
}
