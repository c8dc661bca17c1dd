//! The tiles of the attention kernels: how much of a head a workgroup holds at once.

use super::backward::ROWS_WRITES;
use super::forward::alone;
use crate::shader::{Reduction, Variant};
use crate::tensor::Format;

/// Which tensors the shaders of the forward pass write: output, state, moments.
pub(super) const FORWARD_WRITES: [bool; 3] = [true; 3];

/// Which tensors the shader of the top keys writes.
pub(super) const TOP_KEYS_WRITES: [bool; 4] = [false, true, true, true];

/// Head sizes that there are variants for; large ones need a device with more workgroup memory than every one has.
pub(super) const SIZES: [u32; 7] = [16, 32, 64, 128, 256, 512, 1024];

/// The tiles of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    /// Columns, more than the head has.
    size: u32,
    /// Rows that a workgroup owns, and rows that it sees at once.
    pub(super) own: u32,
    seen: u32,
    /// Threads of a row.
    threads: u32,
}

impl Tiles {
    #[cfg(feature = "cooperative-matrix")]
    pub(super) fn new(size: u32, own: u32, seen: u32, threads: u32) -> Self {
        Self { size, own, seen, threads }
    }

    pub(super) fn forward(size: u32, limit: u32) -> Self {
        Self::largest(size, limit, Self::forward_bytes)
    }

    pub(super) fn backward(size: u32, limit: u32) -> Self {
        Self::largest(size, limit, Self::backward_bytes)
    }

    /// The largest heads for which forward and backward pass have workgroup memory.
    pub(super) fn largest_head(limit: u32) -> usize {
        let fits = |size: u32| {
            let (forward, backward) = (Self::forward(size, limit), Self::backward(size, limit));
            forward.forward_bytes().max(backward.backward_bytes()) <= limit
        };
        SIZES.into_iter().rev().find(|&size| fits(size)).unwrap_or(0) as usize
    }

    /// The largest tiles that fit into workgroup memory.
    fn largest(size: u32, limit: u32, bytes: fn(Self) -> u32) -> Self {
        let choices = [(32, 32), (32, 16), (16, 16), (16, 8), (8, 8), (8, 4), (4, 2), (2, 2), (2, 1), (1, 1)];
        let tiles = choices.map(|(own, seen)| Self { size, own, seen, threads: 8 });
        tiles.into_iter().find(|&tiles| bytes(tiles) <= limit).unwrap_or(tiles[tiles.len() - 1])
    }

    pub(super) fn forward_bytes(self) -> u32 {
        4 * (self.seen * self.size
            + self.own * (self.size + 1)
            + self.own * self.seen
            + self.own * self.threads)
    }

    /// How many rows of this many numbers a thread can go through in so many rounds of its loops, a lower bound.
    pub(super) fn most_rows(self, rounds: usize, dim: usize) -> usize {
        let (size, seen, threads) = (self.size as usize, self.seen as usize, self.threads as usize);
        let loads = 2 * (seen * size).div_ceil(self.own as usize * threads);
        // Products of rows beyond the range of float32 are made twice.
        let scores = seen.div_ceil(threads) * 2 * (dim + 3);
        let of_tile = loads + scores + threads + seen + seen * (size / threads + 1);
        // Of dropout ten rounds for each score.
        let of_tile = of_tile + 20 * seen.div_ceil(threads);
        (rounds / of_tile).saturating_mul(seen)
    }

    #[cfg(feature = "cooperative-matrix")]
    pub(super) fn matrices_bytes(self) -> u32 {
        let Self { size, own, seen, threads } = self;
        let halves = seen * size + own * size + own * seen;
        2 * halves + 4 * (own * size.max(seen) + own * seen + own * threads + 1)
    }

    fn backward_bytes(self) -> u32 {
        self.backward_q_bytes().max(self.backward_k_bytes())
    }

    pub(super) fn backward_q_bytes(self) -> u32 {
        4 * (2 * self.seen * self.size + 2 * self.own * (self.size + 1) + self.own * self.seen)
            + 16 * self.own * self.threads
    }

    pub(super) fn backward_k_bytes(self) -> u32 {
        4 * (2 * self.seen * self.size + 2 * self.own * (self.size + 1)) + 8 * self.own * self.seen
    }

    pub(super) fn variant(
        self,
        shader: &'static str,
        format: Format,
        bytes: fn(Self) -> u32,
        writes: &[bool],
    ) -> Variant {
        let constants = vec![("SIZE", self.size), ("BR", self.own), ("BC", self.seen), ("TPR", self.threads)];
        variant(shader, format, constants, bytes(self), writes)
    }

    /// The kernel of the forward pass, with moments of the scores or without.
    pub(super) fn forward_variant(self, format: Format, moments: bool) -> Variant {
        with_moments(self.variant("attention", format, Self::forward_bytes, &FORWARD_WRITES), moments)
    }

    pub(super) fn backward_variants(self, format: Format) -> [Variant; 2] {
        [
            self.variant("attention_backward_q", format, Self::backward_q_bytes, &[false, true, true]),
            self.variant("attention_backward_k", format, Self::backward_k_bytes, &[false, true, true, true]),
        ]
    }
}

pub(super) fn variant(
    shader: &'static str,
    format: Format,
    constants: Vec<(&'static str, u32)>,
    workgroup_bytes: u32,
    writes: &[bool],
) -> Variant {
    let writes = [&[false; 5], writes].concat();
    Variant { shader, format, reduction: Reduction::Tree, constants, workgroup_bytes, writes }
}

/// A kernel that makes moments of the scores, or none.
pub(super) fn with_moments(mut variant: Variant, moments: bool) -> Variant {
    variant.constants.push(("MOMENTS", u32::from(moments)));
    variant
}

/// What computes rows beyond the range of float32 anew.
pub(super) fn far_variant(format: Format, moments: bool) -> Variant {
    with_moments(alone("attention_far", format, &[true; 4]), moments)
}

/// What makes the numbers of the rows; it has no tensors of its own before them.
pub(super) fn rows_variant(format: Format) -> Variant {
    Variant { writes: ROWS_WRITES.to_vec(), ..alone("attention_rows", format, &[]) }
}

/// Every variant that may be asked for, for devices with little and with more workgroup memory.
pub(crate) fn variants(format: Format) -> Vec<Variant> {
    let mut all = vec![
        alone("attention_map", format, &[false, true]),
        far_variant(format, false),
        far_variant(format, true),
        alone("attention_far_rows", format, &[true]),
        alone("attention_backward_bias", format, &[false, true, true]),
        alone("attention_top_keys", format, &TOP_KEYS_WRITES),
        rows_variant(format),
    ];
    all.extend(super::gate::variants(format));
    #[cfg(feature = "cooperative-matrix")]
    if format == Format::F16 {
        all.extend(super::matrices::variants(&SIZES));
    }
    for limit in [16 << 10, 32 << 10] {
        for size in SIZES.into_iter().filter(|&size| size as usize <= Tiles::largest_head(limit)) {
            let forward = Tiles::forward(size, limit);
            all.extend([false, true].map(|moments| forward.forward_variant(format, moments)));
            all.extend(Tiles::backward(size, limit).backward_variants(format));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fit_into_the_memory_that_every_device_has() {
        for size in SIZES {
            for limit in [16 << 10, 32 << 10, 64 << 10] {
                if size as usize <= Tiles::largest_head(limit) {
                    assert!(Tiles::forward(size, limit).forward_bytes() <= limit, "{size} {limit}");
                    assert!(Tiles::backward(size, limit).backward_bytes() <= limit, "{size} {limit}");
                }
            }
        }
        assert_eq!([16 << 10, 32 << 10].map(Tiles::largest_head), [512, 1024]);
    }
}
