//! Attention with the statistics of its rows, and its map.

use super::dropout::Dropout;
use super::part::{Limits, Part};
use super::tiles::{SIZES, Tiles};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shader::Variant;
use crate::tensor::{Format, Tensor};

/// Numbers of each row of a forward pass: lse, largest score, 1 / sum, entropy; of a row beyond the range of float32 its top.
pub const STATE: usize = 5;

/// Numbers of each row's moments: count, mean and sum of squared deviations of its scores, one of the passes' own, and the
/// variance of the scores under their weights.
pub const MOMENTS: usize = 5;

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
    /// Whether weights are dropped.
    pub dropout: Option<Dropout>,
}

/// A call of a shader for a part.
pub(super) struct Call<'a> {
    pub(super) variant: &'a Variant,
    /// What the shader sees beside q, k, v and what belongs to them.
    pub(super) tensors: &'a [Tensor],
    /// Bins of the map, or which axes the gradient of the bias has, or what is done.
    pub(super) bins: [u32; 2],
    /// Whether a bin of the map is its largest weight.
    pub(super) max_pooling: bool,
    /// Strides of the gradient of the bias.
    pub(super) dbias: [u32; 4],
    /// Whether it goes on from what earlier parts have left.
    pub(super) adds: bool,
    pub(super) groups: u64,
}

impl<'a> Call<'a> {
    pub(super) fn new(variant: &'a Variant, tensors: &'a [Tensor], groups: u64) -> Self {
        Self { variant, tensors, bins: [0, 0], max_pooling: false, dbias: [0; 4], adds: false, groups }
    }

    pub(super) fn adding(self, adds: bool) -> Self {
        Self { adds, ..self }
    }
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub struct AttentionOutput {
    /// (batch, heads, queries, value dim).
    pub out: Tensor,
    /// (batch, heads, queries, [`STATE`]).
    pub state: Tensor,
    /// (batch, heads, queries, [`MOMENTS`]), if they are wanted.
    pub moments: Option<Tensor>,
}

/// What is bound in place of tensors that there are not; those that are written cannot be the same.
pub(super) struct Spares {
    pub(super) read: Tensor,
    moments: Tensor,
    pub(super) far: Tensor,
}

impl Spares {
    fn new(device: &Device) -> Result<Self> {
        let new = || device.empty(1, Format::F32);
        Ok(Self { read: new()?, moments: new()?, far: new()? })
    }
}

impl Attention {
    /// Runs a forward pass, with the moments of its scores if they are wanted.
    ///
    /// # Errors
    /// [`Error::Shape`] where tensors do not fit, [`Error::OutOfMemory`] for what the device cannot bind, and whatever it says.
    pub fn forward(&self, device: &Device, with_moments: bool) -> Result<AttentionOutput> {
        self.check(device)?;
        let out = device.empty(self.rows() * self.shape.value_dim, self.q.format())?;
        let state = device.empty(self.rows() * STATE, Format::F32)?;
        let moments = with_moments.then(|| device.empty(self.rows() * MOMENTS, Format::F32)).transpose()?;
        let output = AttentionOutput { out, state, moments };
        let (tiles, variant) = self.forward_kernel(device, with_moments);
        let keys = tiles.most_rows(device.most_rounds(), self.longest());
        let spares = Spares::new(device)?;
        for part in
            self.parts(device, Limits { keys, ..Limits::default() })?.iter().filter(|part| part.rows() > 0)
        {
            let outputs = self.of_part(part, &output, &spares);
            let groups = part.blocks(part.queries.count, tiles.own, part.heads.count);
            let call = Call::new(&variant, &outputs, groups).adding(part.follows());
            self.call(device, part, &call, &spares.read)?;
        }
        self.compute_anew(device, &output, &spares)?;
        Ok(output)
    }

    /// What the shaders of the forward pass write of a part.
    pub(super) fn of_part(&self, part: &Part, output: &AttentionOutput, spares: &Spares) -> Vec<Tensor> {
        let moments = output.moments.as_ref();
        vec![
            part.of_rows(&output.out, self.shape.value_dim),
            part.of_rows(&output.state, STATE),
            moments.map_or_else(|| spares.moments.clone(), |moments| part.of_rows(moments, MOMENTS)),
        ]
    }

    fn forward_kernel(&self, device: &Device, moments: bool) -> (Tiles, Variant) {
        let (size, limit, format) = (self.size(), device.workgroup_bytes(), self.q.format());
        #[cfg(feature = "cooperative-matrix")]
        if let (Format::F16, Some(matrices)) = (format, device.matrices())
            && let Some(kernel) = matrices.kernel(size, limit, moments)
        {
            return kernel;
        }
        let tiles = Tiles::forward(size, limit);
        (tiles, tiles.forward_variant(format, moments))
    }

    /// The map of a forward pass in bins of queries and keys, (batch, heads, bins, bins): the mean of their weights, or with
    /// `max_pooling` the largest.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn map(
        &self,
        device: &Device,
        state: &Tensor,
        bins: [usize; 2],
        max_pooling: bool,
    ) -> Result<Tensor> {
        self.check(device)?;
        let size = bins[0] * bins[1];
        let map = device.empty(self.shape.batch * self.shape.heads * size, Format::F32)?;
        let pairs = self.shape.queries.div_ceil(bins[0]) * self.shape.keys.div_ceil(bins[1]);
        device.check_rounds("attention", pairs * (self.shape.dim + 1))?;
        let variant = alone("attention_map", self.q.format(), &[false, true]);
        let spare = device.empty(1, Format::F32)?;
        let limits = Limits { head: size, ..Limits::default() };
        for part in self.parts(device, limits)?.iter().filter(|part| part.pairs() * size > 0) {
            let tensors = [part.of_rows(state, STATE), part.of_pairs(&map, size)];
            let groups = ((part.pairs() * size) as u64).div_ceil(u64::from(ALONE));
            let bins = bins.map(|bins| bins as u32);
            let call = Call { bins, max_pooling, ..Call::new(&variant, &tensors, groups) };
            self.call(device, part, &call.adding(part.is_of_begun_head()), &spare)?;
        }
        Ok(map)
    }

    /// Calls a shader for a part.
    pub(super) fn call(&self, device: &Device, part: &Part, call: &Call<'_>, spare: &Tensor) -> Result<()> {
        let Shape { dim, value_dim, .. } = self.shape;
        let bias = self.bias.as_ref().map(|(bias, strides)| part.of_bias(bias, *strides));
        let inputs = [
            &part.of_rows(&self.q, dim),
            &part.of_keys(&self.k, dim),
            &part.of_keys(&self.v, value_dim),
            &self.aside,
            bias.as_ref().unwrap_or(spare),
        ];
        let tensors: Vec<_> = inputs.into_iter().chain(call.tensors).collect();
        device.call(call.variant, &tensors, &self.words(part, call), call.groups)
    }

    /// The parts that a binding can hold, within limits.
    pub(super) fn parts(&self, device: &Device, limits: Limits) -> Result<Vec<Part>> {
        let bias = self.bias.as_ref().map(|(_, strides)| *strides);
        Part::all(device, &self.shape, self.q.format(), bias, limits)
    }

    /// Numbers of the longest row.
    pub(super) fn longest(&self) -> usize {
        self.shape.dim.max(self.shape.value_dim)
    }

    pub(super) fn rows(&self) -> usize {
        self.shape.batch * self.shape.heads * self.shape.queries
    }

    pub(super) fn size(&self) -> u32 {
        let longest = self.longest() as u32;
        SIZES.into_iter().find(|&size| size >= longest).unwrap_or(SIZES[SIZES.len() - 1])
    }

    fn words(&self, part: &Part, call: &Call<'_>) -> Vec<u32> {
        let (shape, options) = (&self.shape, &self.options);
        let flags = [
            options.temperature,
            self.bias.is_some(),
            options.softcap > 0.0,
            options.bottom_right,
            options.sinks,
            options.sigmoid,
            call.adds,
            options.empty_is_nan,
            options.auto_row,
            options.dropout.is_some(),
            part.is_open(),
            call.max_pooling,
        ];
        let flags = (0..).zip(flags).map(|(bit, set)| u32::from(set) << bit).sum();
        let bound =
            |reach: Option<usize>| reach.map_or(UNBOUNDED, |reach| reach.min(UNBOUNDED as usize) as u32);
        let lengths = [
            part.batch.count,
            part.heads.count,
            part.heads.count / part.key_heads.count.max(1),
            part.queries.count,
            part.keys.count,
            shape.dim,
            shape.value_dim,
        ];
        let mut words: Vec<u32> = lengths.into_iter().map(|length| length as u32).collect();
        words.extend([flags, bound(options.window.0), bound(options.window.1)]);
        words.extend([options.scale.to_bits(), options.softcap.max(f32::MIN_POSITIVE).to_bits()]);
        words.extend(self.bias.as_ref().map_or([0; 4], |(_, strides)| *strides));
        words.extend(call.bins);
        let places = [part.batch.start, part.heads.start, part.queries.start, part.keys.start];
        let all = [shape.batch, shape.heads, shape.queries, shape.keys];
        words.extend(places.into_iter().chain(all).map(|n| n as u32));
        words.extend(call.dbias);
        words.extend(options.dropout.map_or([0; 4], Dropout::words));
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
