//! Arrays as the kernels see them: slices with shapes and strides, checked once when they are made.

use logitscope_simd::{Element, Stored};
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

    /// Some of its rows.
    ///
    /// # Panics
    /// If there are not as many.
    #[inline(always)]
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let data =
            if rows.is_empty() || self.columns == 0 { &[] } else { &self.data[rows.start * self.stride..] };
        Self { data, rows: rows.len(), columns: self.columns, stride: self.stride }
    }

    /// The same numbers where they are what is computed with.
    pub(crate) fn as_wide(&self) -> Option<Matrix<'a, T::Wide>>
    where
        T: Stored,
    {
        let Self { rows, columns, stride, .. } = *self;
        Some(Matrix { data: T::as_wide(self.data)?, rows, columns, stride })
    }

    /// All of it, where one row follows the other.
    pub(crate) fn without_gaps(&self) -> Option<&'a [T]> {
        let len = self.rows * self.columns;
        (len == 0 || self.stride == self.columns).then(|| &self.data[..len])
    }

    /// Its rows, where each is `W` whole packs and follows the one before: of these no index has to be checked.
    #[inline(always)]
    pub(crate) fn rows_of_packs<const W: usize>(&self) -> Option<&'a [[T::Pack; W]]>
    where
        T: Stored,
    {
        let data = self.without_gaps().filter(|_| self.columns == W * T::Wide::LANES)?;
        Some(T::packs(data).0.as_chunks().0)
    }

    /// How many rows there are.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How far apart rows begin.
    #[inline(always)]
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// What lies in memory from the beginning of a row on.
    #[inline(always)]
    pub(crate) fn onwards(&self, index: usize) -> &'a [T] {
        &self.data[index * self.stride..]
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

    /// The same numbers where they are what is computed with.
    pub(crate) fn as_wide(&self) -> Option<Heads<'a, T::Wide>>
    where
        T: Stored,
    {
        Some(Heads { data: T::as_wide(self.data)?, shape: self.shape, strides: self.strides })
    }

    /// Batch, heads, length, `head_dim`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Some of the positions of all heads.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn positions(&self, range: Range<usize>) -> Self {
        let [batch, heads, length, dim] = self.shape;
        assert!(range.end <= length, "positions {range:?} of {length}");
        let shape = [batch, heads, range.len(), dim];
        let data = if shape.contains(&0) { &[] } else { &self.data[range.start * self.strides[2]..] };
        Self { data, shape, strides: self.strides }
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

    /// Whether a head's rows of one batch element follow those of the batch element before.
    pub(crate) fn are_joined(&self) -> bool {
        self.strides[0] == self.shape[2] * self.strides[2]
    }

    /// The rows of one head of several batch elements, which are joined.
    ///
    /// # Panics
    /// If they are not.
    pub(crate) fn joined(&self, batches: Range<usize>, head: usize) -> Matrix<'a, T> {
        assert!(batches.len() <= 1 || self.are_joined(), "rows of {batches:?}, which lie apart");
        let matrix = self.matrix(batches.start, head);
        Matrix { rows: batches.len() * matrix.rows, ..matrix }
    }
}

/// Which axis of [`HeadsMut`] is the outer one in memory, within a batch element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// (batch, heads, length, `head_dim`), row-major.
    HeadsFirst,
    /// (batch, length, heads, `head_dim`), as a projection writes it.
    PositionsFirst,
}

/// As [`Heads`], to be filled, without gaps.
#[derive(Debug)]
pub struct HeadsMut<'a, T> {
    data: &'a mut [T],
    shape: [usize; 4],
    order: Order,
}

/// Rows that are owned by one piece of work.
#[derive(Debug)]
pub(crate) enum RowsMut<'a, T> {
    /// One after the other, all as long.
    Together(&'a mut [T], usize),
    /// Anywhere.
    Apart(Vec<&'a mut [T]>),
}

impl<T> Default for RowsMut<'_, T> {
    fn default() -> Self {
        Self::Apart(Vec::new())
    }
}

impl<T: Stored> RowsMut<'_, T> {
    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Together(data, columns) => data.len().checked_div(*columns).unwrap_or(0),
            Self::Apart(rows) => rows.len(),
        }
    }

    /// The rows themselves, where they are whole vectors one after the other of what is computed with.
    pub(crate) fn as_blocks(&mut self) -> Option<&mut [<T::Wide as Element>::Block]> {
        match self {
            Self::Together(data, columns) if columns.is_multiple_of(T::Wide::LANES) => {
                Some(T::Wide::blocks_mut(T::as_wide_mut(data)?).0)
            }
            _ => None,
        }
    }

    /// Rounds into each row what it has of `wide`, whose rows are `stride` apart.
    pub(crate) fn store(self, wide: &[T::Wide], stride: usize) {
        match self {
            Self::Together(data, columns) if columns == stride => T::narrow_into(&wide[..data.len()], data),
            Self::Together(data, columns) => {
                for (row, wide) in data.chunks_exact_mut(columns).zip(wide.chunks_exact(stride)) {
                    T::narrow_into(&wide[..columns], row);
                }
            }
            Self::Apart(rows) => {
                for (row, wide) in rows.into_iter().zip(wide.chunks_exact(stride.max(1))) {
                    T::narrow_into(&wide[..row.len()], row);
                }
            }
        }
    }
}

impl<'a, T> HeadsMut<'a, T> {
    /// A view of all of `data`; the shape is (batch, heads, length, `head_dim`) in either order.
    ///
    /// # Panics
    /// If the shape has another number of elements.
    pub fn new(data: &'a mut [T], shape: [usize; 4], order: Order) -> Self {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements of shape {shape:?}");
        Self { data, shape, order }
    }

    /// Batch, heads, length, `head_dim`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Hands out all rows in runs of up to `run` positions of one head, ordered by batch, head and position.
    pub(crate) fn runs(self, run: usize) -> Vec<RowsMut<'a, T>> {
        let [batch, heads, length, dim] = self.shape;
        let runs_a_head = length.div_ceil(run);
        if self.order == Order::HeadsFirst && dim > 0 {
            let of_heads = self.data.chunks_exact_mut((length * dim).max(1));
            return of_heads
                .flat_map(|of_head| of_head.chunks_mut(run * dim))
                .map(|rows| RowsMut::Together(rows, dim))
                .collect();
        }
        let mut runs: Vec<_> =
            (0..batch * heads * runs_a_head).map(|_| Vec::with_capacity(run.min(length))).collect();
        let mut rest = self.data;
        for batch in 0..batch {
            for position in 0..length {
                let first = batch * heads * runs_a_head + position / run;
                for head in 0..heads {
                    let (row, after) = rest.split_at_mut(dim);
                    rest = after;
                    runs[first + head * runs_a_head].push(row);
                }
            }
        }
        runs.into_iter().map(RowsMut::Apart).collect()
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

    /// The numbers from one query on.
    #[must_use]
    pub fn from(&self, query: usize) -> Self {
        Self { data: self.data.get(query * self.strides[2]..).unwrap_or(&[]), strides: self.strides }
    }

    /// The number of one query.
    #[inline(always)]
    pub fn get(&self, batch: usize, head: usize, query: usize) -> T {
        self.data[batch * self.strides[0] + head * self.strides[1] + query * self.strides[2]]
    }
}

/// One value a score: shape (batch, heads, queries, keys), any strides.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a, T> {
    data: &'a [T],
    shape: [usize; 4],
    strides: [usize; 4],
}

/// Which scores count: not 0 where a query may see a key.
pub type Mask<'a> = Scores<'a, u8>;

impl<'a, T> Scores<'a, T> {
    /// A view of `data` with strides in elements, which may be 0.
    ///
    /// # Panics
    /// If an element of the shape lies outside of `data`.
    pub fn new(data: &'a [T], shape: [usize; 4], strides: [usize; 4]) -> Self {
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
    pub fn head(&self, batch: usize, head: usize) -> HeadScores<'a, T> {
        let data = if self.shape.contains(&0) {
            &[]
        } else {
            &self.data[batch * self.strides[0] + head * self.strides[1]..]
        };
        HeadScores { data, query_stride: self.strides[2], key_stride: self.strides[3] }
    }
}

/// One value a score of one head.
#[derive(Clone, Copy, Debug)]
pub struct HeadScores<'a, T> {
    data: &'a [T],
    query_stride: usize,
    key_stride: usize,
}

impl<T: Copy> HeadScores<'_, T> {
    /// The value of one score.
    #[inline(always)]
    pub fn get(&self, query: usize, key: usize) -> T {
        self.data[query * self.query_stride + key * self.key_stride]
    }

    /// The values of some keys of a query, where they lie one after the other.
    pub(crate) fn row(&self, query: usize, keys: Range<usize>) -> Option<&[T]> {
        let first = query * self.query_stride;
        (self.key_stride == 1).then(|| &self.data[first + keys.start..first + keys.end])
    }

    /// Whether all queries have the same values, as with a mask of padding.
    #[inline(always)]
    pub fn is_shared(&self) -> bool {
        self.query_stride == 0
    }

    /// Whether any, and whether every one, of the values of these queries and keys passes `test`.
    pub fn any_and_all(
        &self,
        queries: Range<usize>,
        keys: Range<usize>,
        test: impl Fn(T) -> bool,
    ) -> (bool, bool) {
        let (mut any, mut all) = (false, true);
        // Without a stride all queries have the row of the first.
        let rows =
            if self.query_stride == 0 { queries.start..queries.end.min(queries.start + 1) } else { queries };
        for query in rows {
            let first = query * self.query_stride + keys.start * self.key_stride;
            if self.key_stride == 1 {
                for &cell in &self.data[first..first + keys.len()] {
                    any |= test(cell);
                    all &= test(cell);
                }
            } else {
                for key in keys.clone() {
                    any |= test(self.get(query, key));
                    all &= test(self.get(query, key));
                }
            }
        }
        (any, all)
    }
}
