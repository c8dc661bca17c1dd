//! Attention with the statistics of its rows, and its gradients.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::shader::{Reduction, Variant};
use crate::tensor::{Format, Tensor};

/// Numbers of each row of a forward pass: lse, largest score, 1 / sum, entropy.
pub const STATE: usize = 4;

/// Numbers of each row of a backward pass; 6 to 9 are the gradients of temperature, sink, slope and sigmoid bias.
pub const ROW: usize = 12;

/// Threads of a workgroup whose threads work alone.
const ALONE: u32 = 64;

/// Stands for a window without a bound.
const UNBOUNDED: u32 = 1 << 30;

/// The inputs of attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// (batch, heads, queries, dim).
    pub q: Tensor,
    /// (batch, key heads, keys, dim).
    pub k: Tensor,
    /// (batch, key heads, keys, value dim).
    pub v: Tensor,
    /// Lengths of the axes.
    pub shape: Shape,
    /// For each head slope, sink and sigmoid bias; for each batch element how many queries and keys are real; then
    /// inverse temperatures, if there are some.
    pub aside: Tensor,
    /// Added to the scores, with its strides along batch, heads, queries and keys.
    pub bias: Option<(Tensor, [u32; 4])>,
    /// Everything else.
    pub options: AttentionOptions,
}

/// Lengths of the axes of attention.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Shape {
    pub batch: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub dim: usize,
    pub value_dim: usize,
}

/// Options of attention.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent options of one operation")]
pub struct AttentionOptions {
    /// What dot products are multiplied by.
    pub scale: f32,
    /// c of c tanh(s / c); 0 leaves scores straight.
    pub softcap: f32,
    /// Keys before and after its own position that a query sees.
    pub window: (Option<usize>, Option<usize>),
    /// Whether the last query stands at the last key; else the first at the first.
    pub bottom_right: bool,
    /// Whether there are inverse temperatures.
    pub temperature: bool,
    /// Whether there are sinks.
    pub sinks: bool,
    /// Whether each key is weighted for itself.
    pub sigmoid: bool,
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct AttentionOutput {
    /// (batch, heads, queries, value dim).
    pub out: Tensor,
    /// (batch, heads, queries, [`STATE`]).
    pub state: Tensor,
}

/// What a backward pass gives.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct AttentionGradients {
    pub dq: Tensor,
    pub dk: Tensor,
    pub dv: Tensor,
    /// (batch, heads, queries, [`ROW`]).
    pub rows: Tensor,
}

/// The tiles of a kernel.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    /// Columns, more than the head has.
    size: u32,
    /// Rows that a workgroup owns, and rows that it sees at once.
    own: u32,
    seen: u32,
    /// Threads of a row.
    threads: u32,
}

/// Head sizes that there are variants for.
const SIZES: [u32; 5] = [16, 32, 64, 128, 256];

impl Attention {
    /// Runs a forward pass.
    ///
    /// # Errors
    /// [`Error::Shape`] where tensors do not fit, [`Error::OutOfMemory`] for what the device cannot bind, and whatever it says.
    pub fn forward(&self, device: &Device) -> Result<AttentionOutput> {
        self.check()?;
        let Shape { value_dim, .. } = self.shape;
        let out = device.empty(self.rows() * value_dim, self.q.format())?;
        let state = device.empty(self.rows() * STATE, Format::F32)?;
        if self.rows() > 0 {
            let tiles = Tiles::forward(self.size(), device.workgroup_bytes());
            let variant = tiles.variant("attention", self.q.format(), Tiles::forward_bytes, &[true, true]);
            let spare = device.empty(1, Format::F32)?;
            let tensors = [self.inputs(&spare).as_slice(), &[&out, &state]].concat();
            device.call(
                &variant,
                &tensors,
                &self.words([0, 0]),
                self.blocks(self.shape.queries, tiles, self.shape.heads),
            )?;
        }
        Ok(AttentionOutput { out, state })
    }

    /// The map of a forward pass in bins of queries and keys, (batch, heads, bins, bins).
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn map(&self, device: &Device, state: &Tensor, bins: [usize; 2]) -> Result<Tensor> {
        self.check()?;
        let count = self.shape.batch * self.shape.heads * bins[0] * bins[1];
        let map = device.empty(count, Format::F32)?;
        if count > 0 {
            let variant = alone("attention_map", self.q.format(), &[false, true]);
            let spare = device.empty(1, Format::F32)?;
            let tensors = [self.inputs(&spare).as_slice(), &[state, &map]].concat();
            let words = self.words(bins.map(|bins| bins as u32));
            device.call(&variant, &tensors, &words, (count as u64).div_ceil(u64::from(ALONE)))?;
        }
        Ok(map)
    }

    /// Runs a backward pass; `upstream` holds the gradients of lse and entropy of each row, for those that are flagged.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn backward(
        &self,
        device: &Device,
        forward: &AttentionOutput,
        dout: &Tensor,
        upstream: Option<&Tensor>,
        has: (bool, bool),
    ) -> Result<AttentionGradients> {
        self.check()?;
        let format = self.q.format();
        let dq = device.empty(self.q.len(), format)?;
        let dk = device.empty(self.k.len(), format)?;
        let dv = device.empty(self.v.len(), format)?;
        let rows = device.empty(self.rows() * ROW, Format::F32)?;
        let gradients = AttentionGradients { dq, dk, dv, rows };
        let AttentionGradients { dq, dk, dv, rows } = &gradients;
        let spare = device.empty(1, Format::F32)?;
        let inputs = self.inputs(&spare);
        let mut words = self.words([0, 0]);
        words[FLAGS] |= u32::from(has.0) << 6 | u32::from(has.1) << 7;
        let tiles = Tiles::backward(self.size(), device.workgroup_bytes());
        if self.rows() > 0 {
            let variant = alone("attention_rows", format, &[false, false, false, false, true]);
            let tensors =
                [inputs.as_slice(), &[&forward.out, dout, &forward.state, upstream.unwrap_or(&spare), rows]]
                    .concat();
            device.call(&variant, &tensors, &words, (self.rows() as u64).div_ceil(u64::from(ALONE)))?;
            let variant =
                tiles.variant("attention_backward_q", format, Tiles::backward_q_bytes, &[false, true, true]);
            let tensors = [inputs.as_slice(), &[dout, rows, dq]].concat();
            device.call(
                &variant,
                &tensors,
                &words,
                self.blocks(self.shape.queries, tiles, self.shape.heads),
            )?;
        }
        if self.k.len() + self.v.len() > 0 {
            let variant = tiles.variant(
                "attention_backward_k",
                format,
                Tiles::backward_k_bytes,
                &[false, true, true, true],
            );
            let tensors = [inputs.as_slice(), &[dout, rows, dk, dv]].concat();
            device.call(
                &variant,
                &tensors,
                &words,
                self.blocks(self.shape.keys, tiles, self.shape.key_heads),
            )?;
        }
        Ok(gradients)
    }

    fn rows(&self) -> usize {
        self.shape.batch * self.shape.heads * self.shape.queries
    }

    fn size(&self) -> u32 {
        let longest = self.shape.dim.max(self.shape.value_dim) as u32;
        SIZES.into_iter().find(|&size| size >= longest).unwrap_or(SIZES[SIZES.len() - 1])
    }

    fn blocks(&self, rows: usize, tiles: Tiles, heads: usize) -> u64 {
        (self.shape.batch * heads * rows.div_ceil(tiles.own as usize)) as u64
    }

    fn inputs<'a>(&'a self, spare: &'a Tensor) -> [&'a Tensor; 5] {
        [&self.q, &self.k, &self.v, &self.aside, self.bias.as_ref().map_or(spare, |(bias, _)| bias)]
    }

    fn words(&self, bins: [u32; 2]) -> Vec<u32> {
        let (shape, options) = (&self.shape, &self.options);
        let flags = [
            options.temperature,
            self.bias.is_some(),
            options.softcap > 0.0,
            options.bottom_right,
            options.sinks,
            options.sigmoid,
        ];
        let flags = (0..).zip(flags).map(|(bit, set)| u32::from(set) << bit).sum();
        let bound =
            |reach: Option<usize>| reach.map_or(UNBOUNDED, |reach| reach.min(UNBOUNDED as usize) as u32);
        let lengths = [
            shape.batch,
            shape.heads,
            shape.heads / shape.key_heads.max(1),
            shape.queries,
            shape.keys,
            shape.dim,
            shape.value_dim,
        ];
        let mut words: Vec<u32> = lengths.into_iter().map(|length| length as u32).collect();
        words.extend([flags, bound(options.window.0), bound(options.window.1)]);
        words.extend([options.scale.to_bits(), options.softcap.max(f32::MIN_POSITIVE).to_bits()]);
        words.extend(self.bias.as_ref().map_or([0; 4], |(_, strides)| *strides));
        words.extend(bins);
        words
    }

    fn check(&self) -> Result<()> {
        let Shape { batch, heads, key_heads, queries, keys, dim, value_dim } = self.shape;
        let expected = [
            ("q", self.q.len(), batch * heads * queries * dim),
            ("k", self.k.len(), batch * key_heads * keys * dim),
            ("v", self.v.len(), batch * key_heads * keys * value_dim),
        ];
        for (name, got, expected) in expected {
            if got != expected {
                return Err(Error::Shape(format!("attention: {name} has {got} numbers; use {expected}")));
            }
        }
        if heads > 0 && (key_heads == 0 || !heads.is_multiple_of(key_heads)) {
            return Err(Error::Shape(format!(
                "attention: {key_heads} key heads for {heads} heads; use a divisor"
            )));
        }
        let most = SIZES[SIZES.len() - 1] as usize;
        if dim > most || value_dim > most {
            let got = dim.max(value_dim);
            return Err(Error::OutOfMemory(format!(
                "attention: heads of {got} numbers; use at most {most} on a GPU"
            )));
        }
        Ok(())
    }
}

/// Place of the flags among the words.
const FLAGS: usize = 7;

impl Tiles {
    fn forward(size: u32, limit: u32) -> Self {
        Self::largest(size, limit, Self::forward_bytes)
    }

    fn backward(size: u32, limit: u32) -> Self {
        Self::largest(size, limit, |tiles| tiles.backward_q_bytes().max(tiles.backward_k_bytes()))
    }

    /// The largest tiles that fit into workgroup memory.
    fn largest(size: u32, limit: u32, bytes: fn(Self) -> u32) -> Self {
        let choices = [(32, 32), (32, 16), (16, 16), (16, 8), (8, 8), (8, 4), (4, 2)];
        let tiles = choices.map(|(own, seen)| Self { size, own, seen, threads: 8 });
        tiles.into_iter().find(|&tiles| bytes(tiles) <= limit).unwrap_or(tiles[tiles.len() - 1])
    }

    fn forward_bytes(self) -> u32 {
        4 * (self.seen * self.size
            + self.own * (self.size + 1)
            + self.own * self.seen
            + self.own * self.threads)
    }

    fn backward_q_bytes(self) -> u32 {
        4 * (2 * self.seen * self.size + 2 * self.own * (self.size + 1) + self.own * self.seen)
            + 16 * self.own * self.threads
    }

    fn backward_k_bytes(self) -> u32 {
        4 * (2 * self.seen * self.size + 2 * self.own * (self.size + 1)) + 8 * self.own * self.seen
    }

    fn variant(
        self,
        shader: &'static str,
        format: Format,
        bytes: fn(Self) -> u32,
        writes: &[bool],
    ) -> Variant {
        let constants = vec![("SIZE", self.size), ("BR", self.own), ("BC", self.seen), ("TPR", self.threads)];
        variant(shader, format, constants, bytes(self), writes)
    }
}

fn alone(shader: &'static str, format: Format, writes: &[bool]) -> Variant {
    variant(shader, format, Vec::new(), 0, writes)
}

fn variant(
    shader: &'static str,
    format: Format,
    constants: Vec<(&'static str, u32)>,
    workgroup_bytes: u32,
    writes: &[bool],
) -> Variant {
    let writes = [&[false; 5], writes].concat();
    Variant { shader, format, reduction: Reduction::Tree, constants, workgroup_bytes, writes }
}

/// Every variant that may be asked for, for devices with little and with more workgroup memory.
pub(crate) fn variants(format: Format) -> Vec<Variant> {
    let mut all = vec![
        alone("attention_map", format, &[false, true]),
        alone("attention_rows", format, &[false, false, false, false, true]),
    ];
    for limit in [16 << 10, 32 << 10] {
        for size in SIZES {
            let (forward, backward) = (Tiles::forward(size, limit), Tiles::backward(size, limit));
            all.push(forward.variant("attention", format, Tiles::forward_bytes, &[true, true]));
            all.push(backward.variant(
                "attention_backward_q",
                format,
                Tiles::backward_q_bytes,
                &[false, true, true],
            ));
            all.push(backward.variant(
                "attention_backward_k",
                format,
                Tiles::backward_k_bytes,
                &[false, true, true, true],
            ));
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
                assert!(Tiles::forward(size, limit).forward_bytes() <= limit, "{size} {limit}");
                let backward = Tiles::backward(size, limit);
                assert!(
                    backward.backward_q_bytes().max(backward.backward_k_bytes()) <= limit,
                    "{size} {limit}"
                );
            }
        }
    }
}
