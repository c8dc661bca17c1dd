//! The packed matrix product `c = start + a b` of large matrices.
//!
//! A tile of `c` walks the depth in blocks. Of each block its rows of `a` are packed once, into panels of as many
//! rows as a micro-tile has, and the columns of `b` one narrow panel after the other, each used by all rows while it
//! is in the nearest cache. A micro-tile keeps its part of `c` in registers for the whole block.
//!
//! The right factor may hold 16-bit numbers: they are widened as they are packed, a narrow panel at a time.
//!
//! Every number of `c` is one sum in the order of the depth, cut at fixed places: neither the shape of the tiles nor
//! who computes them changes a bit, so tiles may be made for the number of threads.

mod ahead;
mod micro;
mod pack;

use crate::error::{Error, Result};
use crate::threads::{self, Cancel};
use crate::view::Matrix;
use ahead::Ahead;
use logitscope_simd::{Element, Kernel, Simd, Stored};
use pack::Scratch;

/// How far a micro-tile walks before its sums are added to `c`.
const DEPTH: usize = 512;

/// Rows of every micro-tile.
pub(crate) const MICRO_ROWS: usize = 6;

/// Rows of a tile at most: whole micro-tiles; with [`DEPTH`] half a megabyte of `a`.
pub(crate) const TILE_ROWS: usize = 44 * MICRO_ROWS;

/// Columns of a tile at most: so many that packing `a` costs little.
const TILE_COLUMNS: usize = 1024;

/// A factor of a product.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a, T> {
    matrix: Matrix<'a, T>,
    transposed: bool,
    sparse: bool,
}

impl<'a, T> Factor<'a, T> {
    /// A matrix as it is.
    pub fn plain(matrix: Matrix<'a, T>) -> Self {
        Self { matrix, transposed: false, sparse: false }
    }

    /// A matrix whose columns are read as rows.
    pub fn transposed(matrix: Matrix<'a, T>) -> Self {
        Self { matrix, transposed: true, sparse: false }
    }

    /// The same as the left factor, with parts that are 0 passed over: what they would be multiplied by is not looked
    /// at, so infinities and NaN there do not count.
    #[must_use]
    pub fn sparse(self) -> Self {
        Self { sparse: true, ..self }
    }

    /// The numbers of rows and columns, as they are read.
    fn size(&self) -> (usize, usize) {
        let (rows, columns) = (self.matrix.rows(), self.matrix.columns());
        if self.transposed { (columns, rows) } else { (rows, columns) }
    }
}

/// What the product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a, T> {
    /// Nothing: what `c` held is overwritten.
    Zero,
    /// What `c` holds.
    Kept,
    /// The same row everywhere.
    Row(&'a [T]),
}

/// `c = start + a b`, `c` with rows of `stride` elements of which the first ones are used.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit each other; [`Error::Interrupted`] when cancelled.
pub fn product<X: Stored>(
    a: Factor<'_, X::Wide>,
    b: Factor<'_, X>,
    start: Start<'_, X::Wide>,
    c: &mut [X::Wide],
    stride: usize,
    cancel: &Cancel,
) -> Result<()> {
    let ((rows, depth), (b_rows, columns)) = (a.size(), b.size());
    let row_fits = !matches!(start, Start::Row(row) if row.len() != columns);
    let needed = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
    if depth != b_rows || columns > stride || c.len() < needed || !row_fits {
        return Err(Error::Shape {
            operation: "product",
            argument: "c",
            got: format!("({rows}, {depth}) times ({b_rows}, {columns}) into {} elements", c.len()),
            expected: "matrices that fit each other".to_owned(),
        });
    }
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let (tile_rows, tile_columns) = tile_shape(rows, columns, threads::num_threads());
    let bands = columns.div_ceil(tile_columns);
    let mut tiles = Vec::with_capacity(rows.div_ceil(tile_rows) * bands);
    for (index, c) in c.chunks_mut(tile_rows * stride).take(rows.div_ceil(tile_rows)).enumerate() {
        let first = index * tile_rows;
        let height = tile_rows.min(rows - first);
        let mut cut: Vec<_> = (0..bands)
            .map(|band| Tile {
                a,
                b,
                start,
                row: first,
                column: band * tile_columns,
                c: Vec::with_capacity(height),
            })
            .collect();
        for row in c.chunks_mut(stride).take(height) {
            for (part, tile) in row[..columns].chunks_mut(tile_columns).zip(&mut cut) {
                tile.c.push(part);
            }
        }
        tiles.append(&mut cut);
    }
    let work = rows.saturating_mul(columns).saturating_mul(depth);
    threads::for_each(tiles, work, cancel, Scratch::default, |scratch, tile| {
        X::Wide::dispatch(TileKernel { tile, scratch });
    })
}

/// Rows and columns of the tiles: large, unless that leaves threads without work.
fn tile_shape(rows: usize, columns: usize, threads: usize) -> (usize, usize) {
    let (mut height, mut width) = (TILE_ROWS, TILE_COLUMNS);
    let wanted = if threads > 1 { 2 * threads } else { 1 };
    while rows.div_ceil(height) * columns.div_ceil(width) < wanted && (width > 128 || height > 66) {
        if width > 128 {
            width /= 2;
        } else {
            height /= 2;
        }
    }
    (height, width)
}

/// A part of `c` and where it lies.
struct Tile<'a, X: Stored> {
    a: Factor<'a, X::Wide>,
    b: Factor<'a, X>,
    start: Start<'a, X::Wide>,
    row: usize,
    column: usize,
    c: Vec<&'a mut [X::Wide]>,
}

struct TileKernel<'a, 's, X: Stored> {
    tile: Tile<'a, X>,
    scratch: &'s mut Scratch<X::Wide>,
}

impl<X: Stored> Kernel<X::Wide> for TileKernel<'_, '_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) {
        let vectors = self.tile.c[0].len().div_ceil(X::Wide::LANES);
        match (S::REGISTERS >= 32, vectors) {
            (true, 3..) => walk::<X, S, MICRO_ROWS, 4>(simd, self.tile, self.scratch),
            (true, _) => walk::<X, S, MICRO_ROWS, 2>(simd, self.tile, self.scratch),
            (false, _) => walk::<X, S, MICRO_ROWS, 1>(simd, self.tile, self.scratch),
        }
    }
}

/// Computes a tile, block of the depth after block.
#[inline(always)]
fn walk<X: Stored, S: Simd<X::Wide>, const MR: usize, const NR: usize>(
    simd: S,
    tile: Tile<'_, X>,
    scratch: &mut Scratch<X::Wide>,
) {
    let Tile { a, b, start, row, column, mut c } = tile;
    let (depth, width) = (a.size().1, c[0].len());
    let mut from = 0;
    loop {
        let k = from..depth.min(from + DEPTH);
        scratch.pack_rows(simd, a, row..row + c.len(), k.clone(), MR);
        let panel = NR * X::Wide::LANES;
        for first in (0..width).step_by(panel) {
            let columns = first..width.min(first + panel);
            let part = column + columns.start..column + columns.end;
            scratch.pack_columns(simd, b, part, k.clone(), panel);
            let (next, depths) = if columns.end < width {
                (columns.end, k.clone())
            } else {
                (0, k.end..depth.min(k.end + DEPTH))
            };
            let times = c.len().div_ceil(MR) * k.len().div_ceil(micro::STEP);
            let ahead = Ahead::columns_of(b, column + next..column + width.min(next + panel), depths, times);
            let start = match start {
                _ if from > 0 => Start::Kept,
                Start::Row(row) => Start::Row(&row[column + columns.start..column + columns.end]),
                other => other,
            };
            micro::multiply::<X, S, MR, NR>(simd, scratch, ahead, start, columns, &mut c);
        }
        from = k.end;
        if from == depth {
            break;
        }
    }
}
