//! The keys with the largest scores of each row.

use super::forward::{ALONE, Attention, Call, STATE, alone};
use super::part::Limits;
use super::tiles::TOP_KEYS_WRITES;
use crate::device::Device;
use crate::error::Result;
use crate::tensor::{Format, Tensor};

impl Attention {
    /// The `count` keys with the largest scores of each row, (batch, heads, queries, count) of 32-bit integers, all ones for
    /// none, and their weights.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn top_keys(&self, device: &Device, state: &Tensor, count: usize) -> Result<[Tensor; 2]> {
        self.check(device)?;
        let new = |each: usize| device.empty(self.rows() * each, Format::F32);
        let (ranks, keys, weights) = (new(2 * count)?, new(count)?, new(count)?);
        let variant = alone("attention_top_keys", self.q.format(), &TOP_KEYS_WRITES);
        let spare = device.empty(1, Format::F32)?;
        // Of each key its product and its way through the list.
        let at_once = device.most_rounds() / (self.shape.dim + 2 * count + 1);
        let limits = Limits { row: 2 * count, keys: at_once.max(1), ..Limits::default() };
        for part in self.parts(device, limits)?.iter().filter(|part| part.rows() > 0) {
            let tensors = [
                part.of_rows(state, STATE),
                part.of_rows(&ranks, 2 * count),
                part.of_rows(&keys, count),
                part.of_rows(&weights, count),
            ];
            let groups = (part.rows() as u64).div_ceil(u64::from(ALONE));
            let call = Call { bins: [0, count as u32], ..Call::new(&variant, &tensors, groups) };
            self.call(device, part, &call.adding(part.follows()), &spare)?;
        }
        Ok([keys, weights])
    }
}
