//! The gradients of attention: rows first, then queries, keys and values, and the bias.

use super::forward::{ALONE, Attention, Call, alone};
use super::part::{Limits, Part};
use super::tiles::{Tiles, rows_variant};
use crate::device::Device;
use crate::error::Result;
use crate::matmul::{Matrix, matmul};
use crate::tensor::{Format, Tensor};

/// Numbers of each row of a backward pass; 6 to 9 are the gradients of temperature, sink, slope and sigmoid bias.
pub const ROW: usize = 12;

/// Columns that the gradient of the bias takes in a round of its loop, and how many rounds a thread may do: a driver stops
/// what takes too long.
const UNROLLED: usize = 8;
const LONG: usize = 1 << 15;

/// Which tensors the shader of the rows writes.
pub(super) const ROWS_WRITES: [bool; 9] = [false, false, false, false, false, false, false, false, true];

/// What a backward pass gives.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct AttentionGradients {
    pub dq: Tensor,
    pub dk: Tensor,
    pub dv: Tensor,
    /// (batch, heads, queries, [`ROW`]).
    pub rows: Tensor,
    /// In the shape that was asked for.
    pub dbias: Option<Tensor>,
}

/// The statistics of a forward pass that its gradients need, and the gradients of its results, each (batch, heads, queries).
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Upstream {
    pub max_logit: Tensor,
    pub inv_sum: Tensor,
    pub entropy: Option<Tensor>,
    pub dlse: Option<Tensor>,
    pub dentropy: Option<Tensor>,
}

impl Attention {
    /// Runs a backward pass; `bias_axes` says of which of batch, heads, queries and keys there is a number of the
    /// bias' gradient for each, if it is wanted.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn backward(
        &self,
        device: &Device,
        out: &Tensor,
        dout: &Tensor,
        upstream: &Upstream,
        bias_axes: Option<[bool; 4]>,
    ) -> Result<AttentionGradients> {
        self.check(device)?;
        let (format, shape) = (self.q.format(), self.shape);
        let strides = bias_axes.map(|axes| strides_of(axes, self));
        let gradients = AttentionGradients {
            dq: device.empty(self.q.len(), format)?,
            dk: device.empty(self.k.len(), format)?,
            dv: device.empty(self.v.len(), format)?,
            rows: device.empty(self.rows() * ROW, Format::F32)?,
            dbias: strides.map(|(_, size)| device.empty(size, Format::F32)).transpose()?,
        };
        let AttentionGradients { dq, dk, dv, rows, .. } = &gradients;
        let spare = device.empty(1, Format::F32)?;
        let tiles = Tiles::backward(self.size(), device.workgroup_bytes());
        let rows_at_once = tiles.most_rows(device.most_rounds(), self.longest());
        let limits = Limits { queries: rows_at_once, keys: rows_at_once, ..Limits::default() };
        let [of_queries, of_keys] = tiles.backward_variants(format);
        let parts = self.parts(device, limits)?;
        for part in parts.iter().filter(|part| part.rows() > 0 && !part.follows()) {
            self.make_rows(device, part, [out, dout, rows], upstream, &spare)?;
        }
        self.find_tops(device, rows, &spare)?;
        for part in &parts {
            let douts = part.of_rows(dout, shape.value_dim);
            let of_rows = part.of_rows(rows, ROW);
            if part.rows() > 0 {
                let tensors = [douts.clone(), of_rows.clone(), part.of_rows(dq, shape.dim)];
                let groups = part.blocks(part.queries.count, tiles.own, part.heads.count);
                let call = Call::new(&of_queries, &tensors, groups).adding(part.follows());
                self.call(device, part, &call, &spare)?;
            }
            if part.key_rows() > 0 {
                let tensors = [
                    douts.clone(),
                    of_rows.clone(),
                    part.of_keys(dk, shape.dim),
                    part.of_keys(dv, shape.value_dim),
                ];
                let groups = part.blocks(part.keys.count, tiles.own, part.key_heads.count);
                let call = Call::new(&of_keys, &tensors, groups).adding(part.adds);
                self.call(device, part, &call, &spare)?;
            }
            if let (Some(axes), Some((strides, _)), Some(dbias)) = (bias_axes, strides, &gradients.dbias) {
                let pieces = if self.rounds(part, axes) > LONG {
                    part.by_heads(self.few(part, axes))
                } else {
                    vec![part.clone()]
                };
                for piece in &pieces {
                    let tensors = [
                        piece.of_rows(dout, shape.value_dim),
                        piece.of_rows(rows, ROW),
                        piece.of_bias(dbias, strides),
                    ];
                    self.add_to_bias(device, piece, (axes, strides), &tensors, &spare)?;
                }
            }
        }
        Ok(gradients)
    }

    fn make_rows(
        &self,
        device: &Device,
        part: &Part,
        [out, dout, rows]: [&Tensor; 3],
        upstream: &Upstream,
        spare: &Tensor,
    ) -> Result<()> {
        let Upstream { max_logit, inv_sum, entropy, dlse, dentropy } = upstream;
        let optional = |tensor: &Option<Tensor>| {
            tensor.as_ref().map_or_else(|| spare.clone(), |one| part.of_rows(one, 1))
        };
        let width = self.shape.value_dim;
        let tensors = [
            self.aside.clone(),
            part.of_rows(out, width),
            part.of_rows(dout, width),
            part.of_rows(max_logit, 1),
            part.of_rows(inv_sum, 1),
            optional(entropy),
            optional(dlse),
            optional(dentropy),
            part.of_rows(rows, ROW),
        ];
        let flags = [self.options.sinks, entropy.is_some(), dlse.is_some(), dentropy.is_some()];
        let flags: usize = (0..).zip(flags).map(|(bit, set)| usize::from(set) << bit).sum();
        let words = [part.rows(), part.heads.count, part.queries.count, width, flags, part.heads.start]
            .map(|n| n as u32);
        let tensors: Vec<_> = tensors.iter().collect();
        let groups = (part.rows() as u64).div_ceil(u64::from(ALONE));
        device.call(&rows_variant(self.q.format()), &tensors, &words, groups)
    }

    /// Rounds of the loops of a thread for a number of the bias' gradient.
    fn rounds(&self, part: &Part, axes: [bool; 4]) -> usize {
        let counts = part.counts();
        let pairs: usize =
            counts.iter().zip(axes).filter(|(_, kept)| !kept).map(|(&count, _)| count).product();
        pairs * (self.shape.dim.max(self.shape.value_dim).div_ceil(UNROLLED) + 1)
    }

    /// How many queries of a head a thread of the bias' gradient may go through.
    fn few(&self, part: &Part, axes: [bool; 4]) -> usize {
        let keys = if axes[3] { 1 } else { part.keys.count.max(1) };
        let each = keys * (self.shape.dim.max(self.shape.value_dim).div_ceil(UNROLLED) + 1);
        if axes[2] { self.shape.queries.max(1) } else { (LONG / each).max(1) }
    }

    fn add_to_bias(
        &self,
        device: &Device,
        part: &Part,
        (axes, dbias): ([bool; 4], [u32; 4]),
        tensors: &[Tensor],
        spare: &Tensor,
    ) -> Result<()> {
        let kept: usize =
            part.counts().iter().zip(axes).map(|(&count, kept)| if kept { count } else { 1 }).product();
        // Numbers that earlier parts have begun are those of axes that the bias does not have.
        let starts = [part.batch.start, part.heads.start, part.queries.start, part.keys.start];
        let adds = starts.iter().zip(axes).any(|(&start, kept)| start > 0 && !kept);
        let mask = (0..).zip(axes).map(|(bit, kept)| u32::from(kept) << bit).sum();
        if kept == 0 {
            return Ok(());
        }
        let variant = alone("attention_backward_bias", self.q.format(), &[false, true, true]);
        let groups = (kept as u64).div_ceil(u64::from(ALONE));
        let call = Call { bins: [mask, 0], dbias, adds, ..Call::new(&variant, tensors, groups) };
        self.call(device, part, &call, spare)
    }
}

/// Sums over batch and queries of one of the numbers of the rows, one for each head.
///
/// # Errors
/// Whatever the device says.
pub fn sums_of_heads(device: &Device, rows: &Tensor, place: usize, shape: [usize; 3]) -> Result<Tensor> {
    let [batch, heads, queries] = shape;
    let sums = device.upload(&vec![0; heads * 4], Format::F32)?;
    let one = device.upload(&1.0_f32.to_le_bytes(), Format::F32)?;
    let usable = device.binding_bytes().saturating_sub(device.alignment()) as usize / (4 * ROW);
    // All heads of a batch element at once, or some queries of one.
    let (together, most) = if heads * queries <= usable { (heads, queries) } else { (1, usable) };
    if rows.len() == 0 {
        return Ok(sums);
    }
    for element in 0..batch {
        for head in (0..heads).step_by(together) {
            for query in (0..queries).step_by(most) {
                let count = most.min(queries - query);
                let first = ((element * heads + head) * queries + query) * ROW;
                let part = rows.slice(first + place, together * count * ROW - place);
                let factors = [
                    Matrix { numbers: &part, steps: [queries * ROW, ROW] },
                    Matrix { numbers: &one, steps: [0, 0] },
                ];
                let of_heads = sums.slice(head, together);
                matmul(device, factors, None, [together, count, 1], &of_heads, true)?;
            }
        }
    }
    Ok(sums)
}

/// Strides of an array that has some of the axes, and how many numbers it has.
fn strides_of(axes: [bool; 4], of: &Attention) -> ([u32; 4], usize) {
    let lengths = [of.shape.batch, of.shape.heads, of.shape.queries, of.shape.keys];
    let mut size = 1;
    let mut strides = [0; 4];
    for axis in (0..4).rev().filter(|&axis| axes[axis]) {
        strides[axis] = size as u32;
        size *= lengths[axis];
    }
    (strides, size)
}
