//! Rows some of whose products leave the range of float32 where their results do not: computed anew, after all others.

use super::backward::ROW;
use super::forward::{ALONE, Attention, AttentionOutput, Call, Shape, Spares, alone};
use super::part::{Limits, Part};
use super::tiles::far_variant;
use crate::device::Device;
use crate::error::Result;
use crate::tensor::{Format, Tensor};

/// Numbers that such a row needs between parts of the keys.
const FAR: usize = 12;

/// What a call does: it finds the tops of the rows, or makes their sums.
const TOPS: u32 = 1;
const SUMS: u32 = 2;

/// Columns of the output that a thread makes at once.
const COLUMNS: usize = 16;

impl Attention {
    /// Computes the results of such rows; where their keys are in parts, the tops over all of them first.
    pub(super) fn compute_anew(
        &self,
        device: &Device,
        output: &AttentionOutput,
        spares: &Spares,
    ) -> Result<()> {
        let Shape { dim, value_dim, .. } = self.shape;
        let of_key = 2 * (dim + 1) + value_dim.div_ceil(COLUMNS) * (dim + COLUMNS + 1);
        let limits = Limits { keys: (device.most_rounds() / of_key).max(1), ..Limits::default() };
        let parts = self.parts(device, limits)?;
        let variant = far_variant(self.q.format(), output.moments.is_some());
        let is_cut = parts.iter().any(Part::follows);
        let far = if is_cut { Some(device.empty(self.rows() * FAR, Format::F32)?) } else { None };
        for group in Part::by_queries(&parts).filter(|group| group[0].rows() > 0) {
            let passes: &[u32] = if group.len() > 1 { &[TOPS, SUMS] } else { &[TOPS | SUMS] };
            for &pass in passes {
                for part in group {
                    let mut tensors = self.of_part(part, output, spares);
                    tensors
                        .push(far.as_ref().map_or_else(|| spares.far.clone(), |far| part.of_rows(far, FAR)));
                    let groups = (part.rows() as u64).div_ceil(u64::from(ALONE));
                    let call = Call { bins: [pass, 0], ..Call::new(&variant, &tensors, groups) };
                    self.call(device, part, &call.adding(part.follows()), &spares.read)?;
                }
            }
        }
        Ok(())
    }

    /// Finds the tops of such rows, for their gradients.
    pub(super) fn find_tops(&self, device: &Device, rows: &Tensor, spare: &Tensor) -> Result<()> {
        let variant = alone("attention_far_rows", self.q.format(), &[true]);
        let keys = (device.most_rounds() / (self.shape.dim + 1)).max(1);
        let parts = self.parts(device, Limits { keys, ..Limits::default() })?;
        for part in parts.iter().filter(|part| part.rows() > 0) {
            let tensors = [part.of_rows(rows, ROW)];
            let groups = (part.rows() as u64).div_ceil(u64::from(ALONE));
            let call = Call::new(&variant, &tensors, groups).adding(part.follows());
            self.call(device, part, &call, spare)?;
        }
        Ok(())
    }
}
