//! Memory of a device with numbers in it.

use crate::pool::Buffer;
use std::sync::Arc;

/// How numbers are stored. They are computed with in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32 bits.
    F32,
    /// 16 bits, where the device has them.
    F16,
}

impl Format {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 => 2,
        }
    }

    /// Its name as a dtype's.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "float32",
            Format::F16 => "float16",
        }
    }
}

/// Numbers in the memory of a device, one after the other; a clone or slice shares them.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) buffer: Arc<Buffer>,
    /// Of the first, in numbers.
    pub(crate) start: usize,
    len: usize,
    format: Format,
}

impl Tensor {
    pub(crate) fn new(buffer: Buffer, len: usize, format: Format) -> Self {
        Self { buffer: Arc::new(buffer), start: 0, len, format }
    }

    /// How many numbers there are.
    #[allow(clippy::len_without_is_empty, reason = "a count of numbers, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How they are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Some of the numbers.
    ///
    /// # Panics
    /// If there are not as many.
    #[must_use]
    pub fn slice(&self, start: usize, len: usize) -> Self {
        assert!(start + len <= self.len, "a slice of {start}+{len} numbers of {}", self.len);
        Self { start: self.start + start, len, ..self.clone() }
    }

    /// Bytes that the numbers take.
    pub(crate) fn bytes(&self) -> u64 {
        (self.len * self.format.bytes()) as u64
    }
}
