//! A product of matrices of pairs in tiles: as many rows as a vector has lanes, and as wide.

use crate::element::Element;
use crate::simd::Simd;

/// `c = a b` or `c += a b` of up to two by two tiles; the numbers of `a` and `b` are pairs of half the bits (see
/// [`Element::halves`]), whose products are added up.
pub struct TileProduct<'a, T: Element> {
    /// Rows of pairs along the depth, which begin `a_stride` numbers apart.
    pub a: &'a [T],
    /// See `a`.
    pub a_stride: usize,
    /// For each pair of the depth a row of vectors; they begin `b_width` vectors apart.
    pub b: &'a [T::Block],
    /// See `b`.
    pub b_width: usize,
    /// Rows of vectors, which begin `c_width` vectors apart.
    pub c: &'a mut [T::Block],
    /// See `c`.
    pub c_width: usize,
    /// Tiles of rows, 1 or 2.
    pub row_tiles: usize,
    /// Vectors of columns, 1 or 2.
    pub column_tiles: usize,
    /// Tiles of the depth, at least 1: each `T::LANES` pairs.
    pub depth: usize,
    /// Whether the product is added to what is in `c`.
    pub adds: bool,
}

impl<T: Element> TileProduct<'_, T> {
    /// # Panics
    /// If a tile reaches beyond its matrix, or there are more or fewer of them than can be.
    #[inline(always)]
    pub(crate) fn check(&self) {
        let (rows, depth) = (self.row_tiles * T::LANES, self.depth * T::LANES);
        let is_count = |n: usize| n == 1 || n == 2;
        assert!(is_count(self.row_tiles) && is_count(self.column_tiles) && depth > 0, "tiles of a product");
        assert!((rows - 1) * self.a_stride + depth <= self.a.len(), "tiles of a");
        assert!((depth - 1) * self.b_width + self.column_tiles <= self.b.len(), "tiles of b");
        assert!((rows - 1) * self.c_width + self.column_tiles <= self.c.len(), "tiles of c");
    }

    /// The product by vectors.
    #[inline(always)]
    pub(crate) fn by_vectors<S: Simd<T>>(self, simd: S) {
        self.check();
        for row in 0..self.row_tiles * T::LANES {
            let pairs = &self.a[row * self.a_stride..][..self.depth * T::LANES];
            for column in 0..self.column_tiles {
                let cell = &mut self.c[row * self.c_width + column];
                let mut sum = if self.adds { simd.load(cell) } else { simd.splat(T::ZERO) };
                for (&pair, b) in pairs.iter().zip(self.b.chunks(self.b_width)) {
                    sum = simd.add_pairs(simd.splat(pair), simd.load(&b[column]), sum);
                }
                simd.store(sum, cell);
            }
        }
    }
}
