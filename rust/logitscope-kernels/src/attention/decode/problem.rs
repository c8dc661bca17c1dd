//! What a decoding step is asked to compute.

use super::CHUNK;
use crate::error::{Error, Result};
use crate::view::{Heads, Matrix, Rows};
use logitscope_simd::{Element, Stored};
use std::ops::Range;

/// The last tokens of each sequence and the cache that holds its keys and values.
///
/// A cache has places; its token at position `p` is in place `p % capacity`. Places lie in pages, all of one size:
/// page `i` of a sequence is number `pages[i]` of those that the arrays hold. A cache without pages has one a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Decoding<'a, X: Stored> {
    /// (batch, query heads, tokens, `head_dim`).
    pub queries: Heads<'a, X>,
    /// (pages, key heads, places of a page, `head_dim`).
    pub keys: Heads<'a, X>,
    /// (pages, key heads, places of a page, value dim).
    pub values: Heads<'a, X>,
    /// The pages of each sequence, as many for each.
    pub pages: &'a [usize],
    /// How many tokens each sequence has had, the queries' included.
    pub lengths: &'a [usize],
    /// How many of the places are used.
    pub capacity: usize,
    /// How many keys before its own position a query sees; None is all.
    pub window: Option<usize>,
    /// What dot products are multiplied by.
    pub scale: X::Wide,
    /// A further factor for each query; None is 1.
    pub inv_temperature: Option<Rows<'a, X::Wide>>,
    /// Scores are bent to c tanh(s / c); 0 leaves them straight.
    pub softcap: X::Wide,
    /// What distances are multiplied by and subtracted from the scores, for each query head.
    pub slopes: Option<&'a [X::Wide]>,
    /// One more score without a value for each query head.
    pub sinks: Option<&'a [X::Wide]>,
}

/// Places one after the other in memory, and the position of the first.
pub(super) struct Run<'a, X> {
    pub(super) keys: Matrix<'a, X>,
    pub(super) values: Matrix<'a, X>,
    pub(super) position: usize,
}

impl<X> Run<'_, X> {
    /// What follows the first `count` places.
    pub(super) fn after(&self, count: usize) -> Self {
        let rows = count..self.keys.rows();
        let (keys, values) = (self.keys.part(rows.clone()), self.values.part(rows));
        Self { keys, values, position: self.position + count }
    }
}

impl<'a, X: Stored> Decoding<'a, X> {
    /// Checks the shapes against each other.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Argument`] naming the array that does not fit.
    pub fn check(&self) -> Result<()> {
        let operation = "attention_decode";
        let [batch, heads, _, dim] = self.queries.shape();
        let [pages, key_heads, size, key_dim] = self.keys.shape();
        let [value_pages, value_heads, value_size, _] = self.values.shape();
        if key_dim != dim || key_heads == 0 || heads % key_heads != 0 {
            let got = format!("{:?}", self.keys.shape());
            let expected = format!("heads that divide {heads}, of size {dim} as those of q");
            return Err(Error::Shape { operation, argument: "keys", got, expected });
        }
        if [value_pages, value_heads, value_size] != [pages, key_heads, size] {
            let got = format!("{:?}", self.values.shape());
            let expected = format!("({pages}, {key_heads}, {size}, any) as keys");
            return Err(Error::Shape { operation, argument: "values", got, expected });
        }
        let places = self.pages.len().checked_div(batch).map_or(self.capacity, |pages| pages * size);
        let is_even = self.pages.len().is_multiple_of(batch.max(1));
        if self.lengths.len() != batch || !is_even || self.capacity > places {
            let got = format!("for {} sequences, {} pages", self.lengths.len(), self.pages.len());
            let expected =
                format!("lengths of {batch} sequences, pages of {size} for {} tokens", self.capacity);
            return Err(Error::Shape { operation, argument: "lengths", got, expected });
        }
        if let Some(page) = self.pages.iter().find(|&&page| page >= pages) {
            let (got, expected) = (page.to_string(), format!("pages of 0..{pages}"));
            return Err(Error::Argument { operation, argument: "pages", got, expected });
        }
        for (argument, numbers) in [("sinks", self.sinks), ("alibi_slopes", self.slopes)] {
            if let Some(numbers) = numbers.filter(|numbers| numbers.len() != heads) {
                let (got, expected) = (format!("({})", numbers.len()), format!("({heads})"));
                return Err(Error::Shape { operation, argument, got, expected });
            }
        }
        Ok(())
    }

    /// Query heads that share a key head.
    pub(super) fn group(&self) -> usize {
        self.queries.shape()[1] / self.keys.shape()[1]
    }

    /// `scale * inv_temperature` of one query.
    pub(super) fn factor(&self, batch: usize, head: usize, token: usize) -> X::Wide {
        self.inv_temperature.map_or(self.scale, |rows| self.scale * rows.get(batch, head, token))
    }

    /// The positions that a token sees, its own the last of them.
    pub(super) fn seen(&self, batch: usize, token: usize) -> Range<usize> {
        let (length, tokens) = (self.lengths[batch], self.queries.shape()[2]);
        let end = (length + token + 1).saturating_sub(tokens);
        let held = length.saturating_sub(self.capacity);
        let near = self.window.map_or(0, |window| end.saturating_sub(window.saturating_add(1)));
        held.max(near).min(end)..end
    }

    /// What lies of the positions `seen` in the places of a chunk, in the order of the places.
    pub(super) fn runs(
        &self,
        batch: usize,
        key_head: usize,
        chunk: usize,
        seen: &Range<usize>,
    ) -> impl Iterator<Item = Run<'a, X>> {
        let size = self.keys.shape()[2];
        let pages = self.pages.len() / self.lengths.len();
        let (start, keys, values) = (seen.start % self.capacity, self.keys, self.values);
        let pages = &self.pages[batch * pages..(batch + 1) * pages];
        let first_end = (start + seen.len()).min(self.capacity);
        let wrapped = seen.len() - (first_end - start);
        let pieces = [(0..wrapped, seen.end - wrapped), (start..first_end, seen.start)];
        let are_joined = keys.are_joined() && values.are_joined();
        let of_chunk = chunk * CHUNK..(chunk + 1) * CHUNK;
        pieces.into_iter().flat_map(move |(places, position)| {
            let part = places.start.max(of_chunk.start)..places.end.min(of_chunk.end);
            let numbers = if part.is_empty() { 0..0 } else { part.start / size..(part.end - 1) / size + 1 };
            let mut number = numbers.start;
            // Pages that lie one after the other are read as one.
            pages[numbers].chunk_by(move |page, next| are_joined && *next == page + 1).map(move |joined| {
                let start = number * size;
                number += joined.len();
                let rows = part.start.max(start)..part.end.min(number * size);
                let position = position + rows.start - places.start;
                let rows = rows.start - start..rows.end - start;
                let joined = joined[0]..joined[0] + joined.len();
                let values = values.joined(joined.clone(), key_head).part(rows.clone());
                Run { keys: keys.joined(joined, key_head).part(rows), values, position }
            })
        })
    }

    /// What lies of the positions `seen` in the places of a chunk, if that is one run or none, which is an empty one.
    pub(super) fn only_run(
        &self,
        batch: usize,
        key_head: usize,
        chunk: usize,
        seen: &Range<usize>,
    ) -> Option<Run<'a, X>> {
        let mut runs = self.runs(batch, key_head, chunk, seen);
        let first = runs.next();
        if runs.next().is_some() {
            return None;
        }
        let nothing = |heads: Heads<'a, X>| heads.matrix(0, key_head).part(0..0);
        Some(first.unwrap_or_else(|| Run {
            keys: nothing(self.keys),
            values: nothing(self.values),
            position: 0,
        }))
    }

    /// Chunks of places that one sequence may have.
    pub(super) fn chunks(&self) -> usize {
        self.capacity.div_ceil(CHUNK)
    }

    /// Elementary operations of a step, to judge whether threads are worth it.
    pub fn work(&self) -> usize {
        let [_, heads, tokens, dim] = self.queries.shape();
        let seen: usize = self.lengths.iter().map(|&length| length.min(self.capacity)).sum();
        let all = seen.saturating_mul(heads * tokens);
        all.saturating_mul(dim + self.values.shape()[3] + 8)
    }
}

/// Whether a state came of scores that may have left the range of the type.
pub(super) fn overflows<T: Element>(sum: T, max: T, sees_a_key: bool) -> bool {
    sum.is_nan() || sees_a_key && (sum == T::ZERO || max == T::INFINITY)
}
