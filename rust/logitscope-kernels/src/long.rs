//! Rows so long that one of them is worth all threads.
//!
//! A long row is cut into blocks of [`BLOCK`] elements whatever the number of threads; what the blocks give is
//! merged in one fixed order ([`merge`]).

use crate::error::Result;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel};

/// Elements in a block of a long row.
pub(crate) const BLOCK: usize = 1 << 16;

/// Whether rows of `columns` elements are cut.
pub(crate) fn is_long(columns: usize) -> bool {
    columns >= 2 * BLOCK
}

/// Runs one kernel a block, on all threads, and returns what each gave.
pub(crate) fn each_block<T, K>(kernels: impl Iterator<Item = K>, cancel: &Cancel) -> Result<Vec<K::Output>>
where
    T: Element,
    K: Kernel<T> + Send,
    K::Output: Send + Default,
{
    let kernels: Vec<K> = kernels.collect();
    let work = kernels.len() * BLOCK;
    let mut outputs: Vec<K::Output> = kernels.iter().map(|_| K::Output::default()).collect();
    let pieces: Vec<_> = kernels.into_iter().zip(&mut outputs).collect();
    threads::for_each(pieces, work, cancel, || (), |(), (kernel, output)| *output = T::dispatch(kernel))?;
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
