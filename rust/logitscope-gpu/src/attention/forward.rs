//! Attention with the statistics of its rows, and its map.

use super::part::Part;
use super::tiles::{SIZES, Tiles};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shader::Variant;
use crate::tensor::{Format, Tensor};

/// Numbers of each row of a forward pass: lse, largest score, 1 / sum, entropy.
pub const STATE: usize = 4;

/// Threads of a workgroup whose threads work alone.
pub(super) const ALONE: u32 = 64;

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
    /// Whether the bias of the sigmoid is minus the logarithm of the number of keys that a row sees.
    pub auto_row: bool,
    /// Whether rows without keys are NaN, not zeros.
    pub empty_is_nan: bool,
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct AttentionOutput {
    /// (batch, heads, queries, value dim).
    pub out: Tensor,
    /// (batch, heads, queries, [`STATE`]).
    pub state: Tensor,
}

impl Attention {
    /// Runs a forward pass.
    ///
    /// # Errors
    /// [`Error::Shape`] where tensors do not fit, [`Error::OutOfMemory`] for what the device cannot bind, and whatever it says.
    pub fn forward(&self, device: &Device) -> Result<AttentionOutput> {
        self.check(device)?;
        let format = self.q.format();
        let out = device.empty(self.rows() * self.shape.value_dim, format)?;
        let state = device.empty(self.rows() * STATE, Format::F32)?;
        let tiles = Tiles::forward(self.size(), device.workgroup_bytes());
        let longest = self.shape.dim.max(self.shape.value_dim);
        device.check_rounds("attention", tiles.rounds(self.shape.keys, longest))?;
        let variant = tiles.variant("attention", format, Tiles::forward_bytes, &[true, true]);
        let far = alone("attention_far", format, &[true, true]);
        let spare = device.empty(1, Format::F32)?;
        for part in self.parts(device, 0)?.iter().filter(|part| part.rows() > 0) {
            let outputs = [part.of_rows(&out, self.shape.value_dim), part.of_rows(&state, STATE)];
            let groups = part.blocks(part.queries.count, tiles.own, part.heads.count);
            self.call(device, &variant, part, &outputs, &spare, [0, 0], groups)?;
            let groups = (part.rows() as u64).div_ceil(u64::from(ALONE));
            self.call(device, &far, part, &outputs, &spare, [0, 0], groups)?;
        }
        Ok(AttentionOutput { out, state })
    }

    /// The map of a forward pass in bins of queries and keys, (batch, heads, bins, bins).
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn map(&self, device: &Device, state: &Tensor, bins: [usize; 2]) -> Result<Tensor> {
        self.check(device)?;
        let size = bins[0] * bins[1];
        let map = device.empty(self.shape.batch * self.shape.heads * size, Format::F32)?;
        let pairs = self.shape.queries.div_ceil(bins[0]) * self.shape.keys.div_ceil(bins[1]);
        device.check_rounds("attention", pairs * (self.shape.dim + 1))?;
        let variant = alone("attention_map", self.q.format(), &[false, true]);
        let spare = device.empty(1, Format::F32)?;
        for part in self.parts(device, size)?.iter().filter(|part| part.pairs() * size > 0) {
            let tensors = [part.of_rows(state, STATE), part.of_pairs(&map, size)];
            let groups = ((part.pairs() * size) as u64).div_ceil(u64::from(ALONE));
            self.call(device, &variant, part, &tensors, &spare, bins.map(|bins| bins as u32), groups)?;
        }
        Ok(map)
    }

    /// Calls a shader for a part; what it writes is added to what earlier parts of the queries have left.
    #[allow(clippy::too_many_arguments, reason = "the parts of one call")]
    pub(super) fn call(
        &self,
        device: &Device,
        variant: &Variant,
        part: &Part,
        rest: &[Tensor],
        spare: &Tensor,
        bins: [u32; 2],
        groups: u64,
    ) -> Result<()> {
        let Shape { dim, value_dim, .. } = self.shape;
        let bias = self.bias.as_ref().map(|(bias, strides)| part.of_bias(bias, *strides));
        let inputs = [
            &part.of_rows(&self.q, dim),
            &part.of_keys(&self.k, dim),
            &part.of_keys(&self.v, value_dim),
            &self.aside,
            bias.as_ref().unwrap_or(spare),
        ];
        let tensors: Vec<_> = inputs.into_iter().chain(rest).collect();
        device.call(variant, &tensors, &self.words(part, bins), groups)
    }

    /// The parts that a binding can hold; `extra` numbers are there for each head besides.
    pub(super) fn parts(&self, device: &Device, extra: usize) -> Result<Vec<Part>> {
        Part::all(
            device,
            &self.shape,
            self.q.format(),
            self.bias.as_ref().map(|(_, strides)| *strides),
            extra,
        )
    }

    pub(super) fn rows(&self) -> usize {
        self.shape.batch * self.shape.heads * self.shape.queries
    }

    pub(super) fn size(&self) -> u32 {
        let longest = self.shape.dim.max(self.shape.value_dim) as u32;
        SIZES.into_iter().find(|&size| size >= longest).unwrap_or(SIZES[SIZES.len() - 1])
    }

    fn words(&self, part: &Part, bins: [u32; 2]) -> Vec<u32> {
        let (shape, options) = (&self.shape, &self.options);
        let flags = [
            options.temperature,
            self.bias.is_some(),
            options.softcap > 0.0,
            options.bottom_right,
            options.sinks,
            options.sigmoid,
            part.adds,
            options.empty_is_nan,
            options.auto_row,
        ];
        let flags = (0..).zip(flags).map(|(bit, set)| u32::from(set) << bit).sum();
        let bound =
            |reach: Option<usize>| reach.map_or(UNBOUNDED, |reach| reach.min(UNBOUNDED as usize) as u32);
        let lengths = [
            part.batch.count,
            part.heads.count,
            part.heads.count / part.key_heads.count.max(1),
            part.queries.count,
            shape.keys,
            shape.dim,
            shape.value_dim,
        ];
        let mut words: Vec<u32> = lengths.into_iter().map(|length| length as u32).collect();
        words.extend([flags, bound(options.window.0), bound(options.window.1)]);
        words.extend([options.scale.to_bits(), options.softcap.max(f32::MIN_POSITIVE).to_bits()]);
        words.extend(self.bias.as_ref().map_or([0; 4], |(_, strides)| *strides));
        words.extend(bins);
        let places = [part.batch.start, part.heads.start, part.queries.start];
        words.extend(places.into_iter().chain([shape.batch, shape.heads, shape.queries]).map(|n| n as u32));
        words
    }

    pub(super) fn check(&self, device: &Device) -> Result<()> {
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
        let most = Tiles::largest_head(device.workgroup_bytes());
        let got = dim.max(value_dim);
        if got > most {
            let name = &device.facts().name;
            return Err(Error::Shape(format!(
                "attention: heads of {got} numbers; use at most {most} on {name}, or the CPU"
            )));
        }
        Ok(())
    }
}

pub(super) fn alone(shader: &'static str, format: Format, writes: &[bool]) -> Variant {
    super::tiles::variant(shader, format, Vec::new(), 0, writes)
}
