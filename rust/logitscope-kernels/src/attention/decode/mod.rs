//! Attention of the newest tokens over a cache of keys and values.
//!
//! Few queries meet many keys, so the speed of the memory is what counts: keys and values are read once, where they
//! lie, in the order in which they lie, and 16-bit numbers are widened in registers. A chunk of places of one key head
//! has one owner; the states of the chunks are merged in their order (Milakov and Gimelshein, arXiv 1805.02867), so
//! results depend neither on the batch nor on the number of threads.

mod chunk;
mod merge;
mod one_row;
mod problem;
#[cfg(test)]
mod tests;
mod values;

pub use problem::Decoding;

use super::statistics::{Logits, Statistics};
use crate::error::Result;
use crate::threads::{self, Cancel};
use chunk::{Chunks, ChunksKernel, Scratch, State};
use logitscope_simd::{Element, Stored};
use merge::{Row, merge};

/// Places of a cache that are attended to together: between two chunks the caches have to find out anew what to fetch.
pub const CHUNK: usize = 1024;

/// Tokens whose states are kept at the same time.
const TOKENS: usize = 8;

/// A piece of work has several chunks where there are more than so many for each thread.
const PIECES: usize = 4;

/// The most chunks of a piece.
const MOST_CHUNKS: usize = 8;

/// Computes attention over a cache and the statistics of its rows; `out` is (batch, heads, tokens, value dim) in
/// row-major order.
///
/// # Errors
/// What [`Decoding::check`] finds, and [`crate::Error::Interrupted`].
///
/// # Panics
/// If an output has another length than the inputs say.
pub fn decode<X: Stored>(
    problem: &Decoding<'_, X>,
    out: &mut [X],
    statistics: Statistics<'_, X::Wide>,
    cancel: &Cancel,
) -> Result<()> {
    problem.check()?;
    let [batch, heads, tokens, _] = problem.queries.shape();
    let [_, key_heads, _, value_dim] = problem.values.shape();
    let Statistics { max_logit, inv_sum, lse, mut entropy, mut logits, mut variance } = statistics;
    let with_moments = logits.is_some() || variance.is_some();
    let rows = batch * heads * tokens;
    assert_eq!(out.len(), rows * value_dim, "attention_decode: length of out");
    let (group, chunks) = (problem.group(), problem.chunks());
    let value_width = value_dim.div_ceil(X::Wide::LANES);
    for first in (0..tokens).step_by(TOKENS) {
        let slab = first..tokens.min(first + TOKENS);
        let rows_a_chunk = slab.len() * group;
        let parts = batch * key_heads * chunks * rows_a_chunk;
        let mut states = vec![State::empty(); parts];
        let mut sums = vec![X::Wide::block(X::Wide::ZERO); parts * value_width.max(1)];
        // Further tokens find the keys of one chunk in the caches, not those of several.
        let pieces = PIECES * threads::num_threads();
        let several = (batch * key_heads * chunks / pieces).clamp(1, MOST_CHUNKS);
        let step = if slab.len() == 1 { several } else { 1 };
        let of_heads = states.chunks_mut((chunks * rows_a_chunk).max(1));
        let sums_of_heads = sums.chunks_mut((chunks * rows_a_chunk * value_width.max(1)).max(1));
        let mut pieces = Vec::with_capacity(batch * key_heads * chunks.div_ceil(step));
        for (head, (states, sums)) in of_heads.zip(sums_of_heads).enumerate() {
            let of_pieces = states.chunks_mut((step * rows_a_chunk).max(1));
            let sums_of_pieces = sums.chunks_mut((step * rows_a_chunk * value_width.max(1)).max(1));
            for (index, (states, sums)) in of_pieces.zip(sums_of_pieces).enumerate() {
                pieces.push(Chunks {
                    problem,
                    batch: head / key_heads,
                    key_head: head % key_heads,
                    numbers: index * step..chunks.min((index + 1) * step),
                    tokens: slab.clone(),
                    with_moments,
                    states,
                    sums,
                });
            }
        }
        threads::for_each(pieces, problem.work(), cancel, Scratch::default, |scratch, chunks| {
            X::Wide::dispatch(ChunksKernel { chunks, scratch });
        })?;
        for batch in 0..batch {
            for head in 0..heads {
                for token in slab.clone() {
                    let in_chunk = (token - first) * group + head % group;
                    let key_head = batch * key_heads + head / group;
                    let part = |chunk: usize| (key_head * chunks + chunk) * rows_a_chunk + in_chunk;
                    let of_row: Vec<_> = (0..chunks).map(|chunk| states[part(chunk)]).collect();
                    let blocks = |chunk| part(chunk) * value_width..(part(chunk) + 1) * value_width;
                    let sums = |chunk| X::Wide::flatten(&sums[blocks(chunk)]);
                    let row: Row<X::Wide> = merge(problem, [batch, head, token], &of_row, sums);
                    let at = (batch * heads + head) * tokens + token;
                    (max_logit[at], inv_sum[at], lse[at]) = (row.max_logit, row.inv_sum, row.lse);
                    if let Some(entropy) = &mut entropy {
                        entropy[at] = row.entropy;
                    }
                    if let Some(Logits { count, mean, m2 }) = &mut logits {
                        (count[at], mean[at], m2[at]) = row.logits.into();
                    }
                    if let Some(variance) = &mut variance {
                        variance[at] = row.variance;
                    }
                    X::narrow_into(&row.out, &mut out[at * value_dim..(at + 1) * value_dim]);
                }
            }
        }
    }
    Ok(())
}
