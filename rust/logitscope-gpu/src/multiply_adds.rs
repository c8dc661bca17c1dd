//! What a device can compute at the most, to hold operations against.

use crate::device::Device;
use crate::error::Result;
use crate::rows::GROUP;
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Multiplications and additions of a thread in each round.
const EACH: u64 = 32;

/// Enough threads for any device.
const THREADS: usize = 1 << 18;

/// Does at least so many multiplications and additions.
///
/// # Errors
/// Whatever the device says.
pub fn multiply_adds(device: &Device, count: u64) -> Result<Tensor> {
    let threads = THREADS.min(count.div_ceil(EACH).max(1) as usize);
    let y = device.empty(threads, Format::F32)?;
    let rounds = count.div_ceil(EACH * threads as u64);
    let words = [threads as u32, rounds as u32, 0.999_f32.to_bits(), 0.001_f32.to_bits()];
    device.call(&variant(), &[&y], &words, (threads as u64).div_ceil(u64::from(GROUP)))?;
    Ok(y)
}

pub(crate) fn variant() -> Variant {
    Variant {
        shader: "multiply_adds",
        format: Format::F32,
        reduction: Reduction::Tree,
        constants: Vec::new(),
        workgroup_bytes: 0,
        writes: vec![true],
    }
}
