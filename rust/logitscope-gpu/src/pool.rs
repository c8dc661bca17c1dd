//! Buffers of a device, used again.
//!
//! A buffer that nobody holds any more may still be read by calls that are recorded but not submitted, while an
//! upload into it would go ahead of them: it rests until the next submission.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wgpu::BufferUsages;

/// The smallest buffer, and what sizes of large ones are multiples of.
const SMALL: u64 = 256;
const LARGE: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    bytes: u64,
    usage: BufferUsages,
}

#[derive(Debug, Default)]
struct Shelves {
    free: HashMap<Kind, Vec<wgpu::Buffer>>,
    resting: Vec<(Kind, wgpu::Buffer)>,
    free_bytes: u64,
}

/// The buffers of a device that nobody uses.
#[derive(Debug)]
pub(crate) struct Pool {
    shelves: Mutex<Shelves>,
    /// Free buffers beyond this many bytes are given back to the device.
    keep_bytes: u64,
}

/// A buffer that goes back to its pool.
pub(crate) struct Buffer {
    raw: wgpu::Buffer,
    kind: Kind,
    home: Arc<Pool>,
}

impl Pool {
    pub(crate) fn new(keep_bytes: u64) -> Self {
        Self { shelves: Mutex::default(), keep_bytes }
    }

    /// The size of the buffer for so many bytes: there are few sizes, so that buffers fit again.
    pub(crate) fn size_of(bytes: u64) -> u64 {
        if bytes <= LARGE { bytes.next_power_of_two().max(SMALL) } else { bytes.next_multiple_of(LARGE) }
    }

    /// A free buffer, or a new one from `make`.
    pub(crate) fn take<E>(
        self: &Arc<Self>,
        bytes: u64,
        usage: BufferUsages,
        make: impl FnOnce(u64) -> Result<wgpu::Buffer, E>,
    ) -> Result<Buffer, E> {
        let kind = Kind { bytes, usage };
        let mut shelves = self.shelves();
        let found = shelves.free.get_mut(&kind).and_then(Vec::pop);
        if found.is_some() {
            shelves.free_bytes -= bytes;
        }
        drop(shelves);
        let raw = found.map_or_else(|| make(bytes), Ok)?;
        Ok(Buffer { raw, kind, home: Arc::clone(self) })
    }

    /// Everything recorded so far is submitted: what rested can be used.
    pub(crate) fn submitted(&self) {
        let mut shelves = self.shelves();
        for (kind, buffer) in std::mem::take(&mut shelves.resting) {
            if shelves.free_bytes + kind.bytes <= self.keep_bytes {
                shelves.free_bytes += kind.bytes;
                shelves.free.entry(kind).or_default().push(buffer);
            }
        }
    }

    /// Gives free buffers back to the device.
    pub(crate) fn clear(&self) {
        let mut shelves = self.shelves();
        shelves.free.clear();
        shelves.free_bytes = 0;
    }

    /// Bytes of free buffers.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.shelves().free_bytes
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.shelves().resting.push((self.kind, self.raw.clone()));
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&self.kind).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_buffers_are_few_and_large_enough() {
        assert_eq!(Pool::size_of(0), 256);
        assert_eq!(Pool::size_of(257), 512);
        assert_eq!(Pool::size_of(1 << 20), 1 << 20);
        assert_eq!(Pool::size_of((1 << 20) + 1), 2 << 20);
        assert_eq!(Pool::size_of((128 << 20) - 4), 128 << 20);
    }
}
