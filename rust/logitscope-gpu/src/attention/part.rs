//! Parts of attention that a binding can hold: some batch elements, else some heads of one, else some queries and keys of
//! one head.

use super::backward::ROW;
use super::forward::{STATE, Shape};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::tensor::{Format, Tensor};

/// Some of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) count: usize,
}

/// A part of attention.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) batch: Span,
    pub(super) heads: Span,
    pub(super) key_heads: Span,
    pub(super) queries: Span,
    pub(super) keys: Span,
    /// Whether an earlier part has the same keys.
    pub(super) adds: bool,
    shape: Shape,
}

/// What a call needs beside, and how much of a head a part may have where a driver ends long loops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most numbers that further tensors have for each row, and for each head.
    pub(super) row: usize,
    pub(super) head: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { row: 0, head: 0, queries: usize::MAX, keys: usize::MAX }
    }
}

/// How many bytes of a binding a part needs.
struct Need {
    shape: Shape,
    /// Bytes of a query's and of a key's row, the longest that there are, and of what a head has besides.
    row: usize,
    key: usize,
    head: usize,
    bias: Option<[u32; 4]>,
    usable: u64,
}

impl Part {
    /// All parts, in the order of the queries.
    pub(super) fn all(
        device: &Device,
        shape: &Shape,
        format: Format,
        bias: Option<[u32; 4]>,
        limits: Limits,
    ) -> Result<Vec<Self>> {
        let longest = shape.dim.max(shape.value_dim) * format.bytes();
        let row = longest.max(4 * ROW.max(STATE).max(limits.row));
        // A part may begin in the middle of a binding, by less than its alignment.
        let usable = device.binding_bytes().saturating_sub(device.alignment());
        let need = Need { shape: *shape, row, key: longest, head: 4 * limits.head, bias, usable };
        let share = shape.heads / shape.key_heads.max(1);
        let most = |limit: usize, fits: &dyn Fn(usize) -> bool| (1..=limit).rev().find(|&count| fits(count));
        let whole = |count| Span { start: 0, count };
        let part = |batch, heads, key_heads, queries| Self {
            batch,
            heads,
            key_heads,
            queries,
            keys: whole(shape.keys),
            adds: false,
            shape: *shape,
        };
        let is_short = shape.keys <= limits.keys && share * shape.queries <= limits.queries;
        let fits = |batch, heads| is_short && need.fits([batch, heads, shape.queries, shape.keys]);
        let batches = most(shape.batch, &|count| fits(count, shape.heads));
        if let Some(count) = batches.or((shape.batch == 0).then_some(1)) {
            let (heads, key_heads, queries) =
                (whole(shape.heads), whole(shape.key_heads), whole(shape.queries));
            let parts = spans(shape.batch, count).map(|batch| part(batch, heads, key_heads, queries));
            return Ok(parts.collect());
        }
        let mut all = Vec::new();
        let groups = most(shape.key_heads, &|count| fits(1, count * share));
        let queries = most(shape.queries.max(1).min(limits.queries), &|count| need.fits([1, 1, count, 0]));
        let keys = (usable as usize / longest.max(1)).min(limits.keys);
        for batch in spans(shape.batch, 1) {
            if let Some(count) = groups {
                for keys in spans(shape.key_heads, count) {
                    let heads = Span { start: keys.start * share, count: keys.count * share };
                    all.push(part(batch, heads, keys, whole(shape.queries)));
                }
                continue;
            }
            let (Some(count), 1..) = (queries, keys) else {
                let (name, bytes) = (&device.facts().name, need.bytes([1; 4]));
                return Err(Error::OutOfMemory(format!(
                    "attention: a row takes {bytes} bytes; {name} can bind {usable}, so use shorter rows or the CPU"
                )));
            };
            for head in 0..shape.heads {
                for queries in spans(shape.queries, count) {
                    let adds = head % share > 0 || queries.start > 0;
                    let (heads, key_heads) =
                        (Span { start: head, count: 1 }, Span { start: head / share, count: 1 });
                    let one = Self { adds, ..part(batch, heads, key_heads, queries) };
                    // Without keys there is one part of none.
                    if shape.keys <= keys {
                        all.push(one);
                    } else {
                        all.extend(spans(shape.keys, keys).map(|keys| Self { keys, ..one.clone() }));
                    }
                }
            }
        }
        Ok(all)
    }

    /// Parts in groups that have the same queries.
    pub(super) fn by_queries(parts: &[Self]) -> impl Iterator<Item = &[Self]> {
        parts.chunk_by(|_, next| next.follows())
    }

    /// Whether an earlier part has the same queries, with other keys.
    pub(super) fn follows(&self) -> bool {
        self.keys.start > 0
    }

    /// Whether a later part has the same queries, with other keys.
    pub(super) fn is_open(&self) -> bool {
        self.keys.start + self.keys.count < self.shape.keys
    }

    /// Whether an earlier part has the same heads.
    pub(super) fn is_of_begun_head(&self) -> bool {
        self.queries.start > 0 || self.follows()
    }

    /// The same in parts of one head each and of at most so many queries.
    pub(super) fn by_heads(&self, most: usize) -> Vec<Self> {
        let share = self.heads.count / self.key_heads.count.max(1);
        let mut all = Vec::new();
        for batch in spans(self.batch.count, 1) {
            for head in 0..self.heads.count {
                for queries in spans(self.queries.count, most) {
                    all.push(Self {
                        batch: Span { start: self.batch.start + batch.start, count: 1 },
                        heads: Span { start: self.heads.start + head, count: 1 },
                        key_heads: Span { start: self.key_heads.start + head / share.max(1), count: 1 },
                        queries: Span { start: self.queries.start + queries.start, ..queries },
                        ..self.clone()
                    });
                }
            }
        }
        all
    }

    /// Lengths of its axes: batch, heads, queries, keys.
    pub(super) fn counts(&self) -> [usize; 4] {
        [self.batch.count, self.heads.count, self.queries.count, self.keys.count]
    }

    pub(super) fn pairs(&self) -> usize {
        self.batch.count * self.heads.count
    }

    pub(super) fn rows(&self) -> usize {
        self.pairs() * self.queries.count
    }

    pub(super) fn key_rows(&self) -> usize {
        self.batch.count * self.key_heads.count * self.keys.count
    }

    /// Workgroups for rows in blocks of `own`.
    pub(super) fn blocks(&self, rows: usize, own: u32, heads: usize) -> u64 {
        (self.batch.count * heads * rows.div_ceil(own as usize)) as u64
    }

    /// Its part of (batch, heads, queries, width).
    pub(super) fn of_rows(&self, tensor: &Tensor, width: usize) -> Tensor {
        let first = (self.batch.start * self.shape.heads + self.heads.start) * self.shape.queries;
        tensor.slice((first + self.queries.start) * width, self.rows() * width)
    }

    /// Its part of (batch, heads, size).
    pub(super) fn of_pairs(&self, tensor: &Tensor, size: usize) -> Tensor {
        let first = self.batch.start * self.shape.heads + self.heads.start;
        tensor.slice(first * size, self.pairs() * size)
    }

    /// Its part of (batch, key heads, keys, width).
    pub(super) fn of_keys(&self, tensor: &Tensor, width: usize) -> Tensor {
        let first = (self.batch.start * self.shape.key_heads + self.key_heads.start) * self.shape.keys;
        tensor.slice((first + self.keys.start) * width, self.key_rows() * width)
    }

    /// Its part of a bias, whose strides along batch, heads, queries and keys are given: that of all keys.
    pub(super) fn of_bias(&self, bias: &Tensor, strides: [u32; 4]) -> Tensor {
        let [of_batch, of_heads, of_queries, _] = strides.map(|stride| stride as usize);
        let start =
            self.batch.start * of_batch + self.heads.start * of_heads + self.queries.start * of_queries;
        let counts = [self.batch.count, self.heads.count, self.queries.count, self.shape.keys];
        bias.slice(start, extent(counts, strides).min(bias.len() - start))
    }
}

impl Need {
    /// The largest of what a part of so many batch elements, heads, queries and keys needs.
    fn bytes(&self, [batch, heads, queries, keys]: [usize; 4]) -> u64 {
        let share = self.shape.heads / self.shape.key_heads.max(1);
        let of_keys = batch * heads.div_ceil(share.max(1)) * keys * self.key;
        // A part has the bias of all keys.
        let bias = self.bias.map_or(0, |strides| extent([batch, heads, queries, self.shape.keys], strides));
        let all = [batch * heads * queries * self.row, of_keys, 4 * bias, batch * heads * self.head];
        all.into_iter().max().unwrap_or(0) as u64
    }

    fn fits(&self, counts: [usize; 4]) -> bool {
        self.bytes(counts) <= self.usable
    }
}

/// Numbers from the first to the last of a strided array.
fn extent(counts: [usize; 4], strides: [u32; 4]) -> usize {
    let steps = counts.iter().zip(strides).map(|(&count, stride)| count.saturating_sub(1) * stride as usize);
    if counts.contains(&0) { 0 } else { 1 + steps.sum::<usize>() }
}

fn spans(length: usize, step: usize) -> impl Iterator<Item = Span> {
    (0..length).step_by(step).map(move |start| Span { start, count: step.min(length - start) })
}
