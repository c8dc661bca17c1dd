//! Arrays as the kernels see them: slices with shapes and strides, checked once when they are made.

use std::ops::Range;

/// A matrix whose rows are contiguous, any distance apart.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A view of `data` with rows `stride` elements apart.
    ///
    /// # Panics
    /// If a row reaches beyond `data`; the check is made when the row is asked for.
    #[inline(always)]
    pub fn new(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, stride }
    }

    /// How many rows there are.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How long a row is.
    #[inline(always)]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    #[inline(always)]
    pub fn row(&self, index: usize) -> &'a [T] {
        if self.columns == 0 {
            return &[];
        }
        let start = index * self.stride;
        &self.data[start..start + self.columns]
    }
}

/// Queries, keys, values or a gradient of them: shape (batch, heads, length, `head_dim`), the last axis contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, T> {
    data: &'a [T],
    shape: [usize; 4],
    strides: [usize; 3],
}

impl<'a, T> Heads<'a, T> {
    /// A view of `data`; `strides` are those of the first three axes, in elements, and may be 0.
    ///
    /// # Panics
    /// If an element of the shape lies outside of `data`.
    pub fn new(data: &'a [T], shape: [usize; 4], strides: [usize; 3]) -> Self {
        let needed = if shape.contains(&0) {
            0
        } else {
            shape[3] + shape.iter().zip(strides).map(|(&n, stride)| (n - 1) * stride).sum::<usize>()
        };
        assert!(needed <= data.len(), "a view of {needed} elements over {}", data.len());
        Self { data, shape, strides }
    }

    /// A view of an array in row-major order.
    ///
    /// # Panics
    /// If `data` is shorter than the shape says.
    pub fn contiguous(data: &'a [T], shape: [usize; 4]) -> Self {
        let [_, heads, length, dim] = shape;
        Self::new(data, shape, [heads * length * dim, length * dim, dim])
    }

    /// Batch, heads, length, `head_dim`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The (length, `head_dim`) matrix of one head.
    #[inline(always)]
    pub fn matrix(&self, batch: usize, head: usize) -> Matrix<'a, T> {
        let [_, _, rows, columns] = self.shape;
        let data = if rows == 0 || columns == 0 {
            &[]
        } else {
            &self.data[batch * self.strides[0] + head * self.strides[1]..]
        };
        Matrix { data, rows, columns, stride: self.strides[2] }
    }
}

/// One number a query: shape (batch, heads, length), any strides.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    strides: [usize; 3],
}

impl<'a, T: Copy> Rows<'a, T> {
    /// A view of `data` with strides in elements, which may be 0.
    ///
    /// # Panics
    /// If an element of the shape lies outside of `data`.
    pub fn new(data: &'a [T], shape: [usize; 3], strides: [usize; 3]) -> Self {
        let needed = if shape.contains(&0) {
            0
        } else {
            1 + shape.iter().zip(strides).map(|(&n, stride)| (n - 1) * stride).sum::<usize>()
        };
        assert!(needed <= data.len(), "a view of {needed} elements over {}", data.len());
        Self { data, strides }
    }

    /// The number of one query.
    #[inline(always)]
    pub fn get(&self, batch: usize, head: usize, query: usize) -> T {
        self.data[batch * self.strides[0] + head * self.strides[1] + query * self.strides[2]]
    }
}

/// Which scores count: shape (batch, heads, queries, keys), not 0 where a query may see a key; any strides.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    data: &'a [u8],
    shape: [usize; 4],
    strides: [usize; 4],
}

impl<'a> Mask<'a> {
    /// A view of `data` with strides in elements, which may be 0.
    ///
    /// # Panics
    /// If an element of the shape lies outside of `data`.
    pub fn new(data: &'a [u8], shape: [usize; 4], strides: [usize; 4]) -> Self {
        let needed = if shape.contains(&0) {
            0
        } else {
            1 + shape.iter().zip(strides).map(|(&n, stride)| (n - 1) * stride).sum::<usize>()
        };
        assert!(needed <= data.len(), "a view of {needed} elements over {}", data.len());
        Self { data, shape, strides }
    }

    /// Batch, heads, queries, keys.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The part of one head.
    #[inline(always)]
    pub fn head(&self, batch: usize, head: usize) -> HeadMask<'a> {
        let data = if self.shape.contains(&0) {
            &[]
        } else {
            &self.data[batch * self.strides[0] + head * self.strides[1]..]
        };
        HeadMask { data, query_stride: self.strides[2], key_stride: self.strides[3] }
    }
}

/// Which scores of one head count.
#[derive(Clone, Copy, Debug)]
pub struct HeadMask<'a> {
    data: &'a [u8],
    query_stride: usize,
    key_stride: usize,
}

impl HeadMask<'_> {
    /// Whether a query may see a key.
    #[inline(always)]
    pub fn get(&self, query: usize, key: usize) -> bool {
        self.data[query * self.query_stride + key * self.key_stride] != 0
    }

    /// Whether all queries may see the same keys, as with a mask of padding.
    #[inline(always)]
    pub fn is_shared(&self) -> bool {
        self.query_stride == 0
    }

    /// Whether any, and whether every one, of the queries may see any, and every one, of the keys.
    pub fn any_and_all(&self, queries: Range<usize>, keys: Range<usize>) -> (bool, bool) {
        let (mut any, mut all) = (false, true);
        // Without a stride all queries have the row of the first.
        let rows =
            if self.query_stride == 0 { queries.start..queries.end.min(queries.start + 1) } else { queries };
        for query in rows {
            let first = query * self.query_stride + keys.start * self.key_stride;
            if self.key_stride == 1 {
                for &cell in &self.data[first..first + keys.len()] {
                    any |= cell != 0;
                    all &= cell != 0;
                }
            } else {
                for key in keys.clone() {
                    any |= self.get(query, key);
                    all &= self.get(query, key);
                }
            }
        }
        (any, all)
    }
}
