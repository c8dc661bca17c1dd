//! Packing: parts of the factors in the order in which micro-tiles read them.
//!
//! A panel of columns of `b` has the depth outside: all of them at one depth lie side by side. So do the rows of `a` where
//! they are the columns of what was given; else each row stays whole.

use super::Factor;
use super::ahead::{fetch, line};
use crate::view::Matrix;
use logitscope_simd::{Element, Simd, Stored};
use std::ops::Range;

/// The most lanes that a vector has.
const LANES: usize = 16;

/// How many rows before it is packed a row is fetched: they lie far apart, so the caches do not fetch it themselves.
const ROWS_AHEAD: usize = 3;

/// What a thread reuses from tile to tile.
pub(super) struct Scratch<T> {
    /// Panels of rows of `a`.
    rows: Vec<T>,
    /// From one to the next.
    panel: usize,
    /// The length of one.
    used_of_panel: usize,
    /// Whether they have the depth outside.
    turned: bool,
    /// Which of them count.
    live: Vec<bool>,
    /// A panel of columns of `b`; a block may lie at any address of `T`s.
    columns: Vec<T>,
    used: Range<usize>,
}

/// Packed rows of `a`.
#[derive(Clone, Copy)]
pub(super) enum Panel<'a, T, const MR: usize> {
    /// One row after the other.
    OfRows([&'a [T]; MR]),
    /// All rows at one depth side by side.
    OfDepths(&'a [[T; MR]]),
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            panel: 0,
            used_of_panel: 0,
            turned: false,
            live: Vec::new(),
            columns: Vec::new(),
            used: 0..0,
        }
    }
}

impl<T: Element> Scratch<T> {
    /// The packed panel of `MR` rows with an index; none if it is 0 and may be passed over.
    #[inline(always)]
    pub(super) fn rows<const MR: usize>(&self, index: usize) -> Option<Panel<'_, T, MR>> {
        if !self.live[index] {
            return None;
        }
        let panel = &self.rows[index * self.panel..][..self.used_of_panel];
        if self.turned {
            return Some(Panel::OfDepths(panel.as_chunks::<MR>().0));
        }
        let depth = self.used_of_panel / MR;
        let mut rows: [&[T]; MR] = [&[]; MR];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = &panel[i * depth..(i + 1) * depth];
        }
        Some(Panel::OfRows(rows))
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
        let panels = rows.len().div_ceil(width);
        self.turned = a.transposed;
        self.used_of_panel = width * depth.len();
        // One line more, so that not all panels lie in the same sets of a cache.
        self.panel = self.used_of_panel + line::<T>();
        self.rows.resize(panels * self.panel, T::ZERO);
        if a.transposed {
            self.put_side_by_side(simd, a.matrix, &rows, depth, width);
        } else {
            self.put_in_sequence(simd, a.matrix, &rows, &depth, width);
        }
        self.live.clear();
        for panel in self.rows.chunks_exact(self.panel) {
            self.live.push(!a.sparse || panel[..self.used_of_panel].iter().any(|&x| x != T::ZERO));
        }
    }

    /// Packs columns of a matrix, whose rows are the depth, with all of a panel at one depth side by side.
    #[inline(always)]
    fn put_side_by_side<S: Simd<T>>(
        &mut self,
        simd: S,
        matrix: Matrix<'_, T>,
        columns: &Range<usize>,
        depth: Range<usize>,
        width: usize,
    ) {
        let end = depth.end;
        for (place, k) in depth.enumerate() {
            if k + ROWS_AHEAD < end {
                fetch(simd, &matrix.row(k + ROWS_AHEAD)[columns.clone()]);
            }
            let row = &matrix.row(k)[columns.clone()];
            for (numbers, panel) in row.chunks(width).zip(self.rows.chunks_exact_mut(self.panel)) {
                let packed = &mut panel[place * width..(place + 1) * width];
                simd.store_partial(simd.load_partial(numbers, T::ZERO), packed);
            }
        }
    }

    /// Packs rows of a matrix, whose columns are the depth, one after the other.
    #[inline(always)]
    fn put_in_sequence<S: Simd<T>>(
        &mut self,
        simd: S,
        matrix: Matrix<'_, T>,
        rows: &Range<usize>,
        depth: &Range<usize>,
        width: usize,
    ) {
        let mut row = rows.start;
        for panel in self.rows.chunks_exact_mut(self.panel) {
            for packed in panel[..self.used_of_panel].chunks_exact_mut(depth.len().max(1)).take(width) {
                if row + ROWS_AHEAD < rows.end {
                    fetch(simd, &matrix.row(row + ROWS_AHEAD)[depth.clone()]);
                }
                if row < rows.end {
                    packed.copy_from_slice(&matrix.row(row)[depth.clone()]);
                } else {
                    packed.fill(T::ZERO);
                }
                row += 1;
            }
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
            let ((packs, tail), (out, out_tail)) = (X::packs(&row[..width]), T::blocks_mut(packed));
            for (pack, out) in packs.iter().zip(out) {
                simd.store(X::load(simd, pack), out);
            }
            if !width.is_multiple_of(T::LANES) {
                simd.store_partial(X::load_partial(simd, tail, T::ZERO), out_tail);
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
