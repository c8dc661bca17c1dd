//! Rows so long that one of them is worth all threads.
//!
//! A long row is cut into blocks of [`BLOCK`] elements whatever the number of threads; what the blocks give is
//! merged in one fixed order ([`merge`]).

use crate::error::Result;
use crate::threads::{self, Cancel};
use logitscope_simd::Stored;

/// Elements in a block of a long row.
pub(crate) const BLOCK: usize = 1 << 16;

/// Results of this size leave the last-level cache before anybody reads them, so they are written past it: a
/// twentieth faster at 256 MiB, no difference at 4 MiB (AMD EPYC with 32 MiB of it).
pub(crate) const STREAM_BYTES: usize = 64 << 20;

/// How many numbers of a row come before the first that a pack can be written at past the caches.
pub(crate) fn until_aligned<X: Stored>(row: &[X]) -> usize {
    row.as_ptr().align_offset(size_of::<X::Pack>()).min(row.len())
}

/// Whether rows of `columns` elements are cut.
pub(crate) fn is_long(columns: usize) -> bool {
    columns >= 2 * BLOCK
}

/// Runs a task on each block, on all threads, and returns what each gave; `B` is what a thread reuses from block
/// to block.
pub(crate) fn each_block<P, O, B>(
    blocks: impl Iterator<Item = P>,
    cancel: &Cancel,
    run: impl Fn(&mut B, P) -> O + Sync + Send,
) -> Result<Vec<O>>
where
    P: Send,
    O: Send + Default,
    B: Default,
{
    let blocks: Vec<P> = blocks.collect();
    let work = blocks.len() * BLOCK;
    let mut outputs: Vec<O> = blocks.iter().map(|_| O::default()).collect();
    let pieces: Vec<_> = blocks.into_iter().zip(&mut outputs).collect();
    threads::for_each(pieces, work, cancel, B::default, |buffer, (block, output)| {
        *output = run(buffer, block);
    })?;
    Ok(outputs)
}

/// Merges a list as a binary tree over halves.
pub(crate) fn merge<P: Copy>(parts: &[P], both: &impl Fn(P, P) -> P) -> P {
    if let [part] = parts {
        return *part;
    }
    let (left, right) = parts.split_at(parts.len().div_ceil(2));
    both(merge(left, both), merge(right, both))
}
