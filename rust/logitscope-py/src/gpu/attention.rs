//! What attention on a device is given, as `logitscope.gpu` puts it together.

use super::GpuTensor;
use logitscope_gpu as gpu;
use pyo3::prelude::*;

/// Attention on a device, its arrays checked by whoever makes one.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[allow(clippy::struct_excessive_bools, reason = "independent options of one operation")]
pub(super) struct AttentionInputs<'py> {
    q: PyRef<'py, GpuTensor>,
    k: PyRef<'py, GpuTensor>,
    v: PyRef<'py, GpuTensor>,
    shape: [usize; 7],
    aside: PyRef<'py, GpuTensor>,
    bias: Option<PyRef<'py, GpuTensor>>,
    bias_strides: [u32; 4],
    scale: f32,
    softcap: f32,
    window: (Option<usize>, Option<usize>),
    bottom_right: bool,
    temperature: bool,
    sinks: bool,
    sigmoid: bool,
    auto_row: bool,
    empty_is_nan: bool,
    dropout: Option<(f64, u64)>,
}

impl AttentionInputs<'_> {
    pub(super) fn for_gpu(&self) -> gpu::Attention {
        let [batch, heads, key_heads, queries, keys, dim, value_dim] = self.shape;
        gpu::Attention {
            q: self.q.0.clone(),
            k: self.k.0.clone(),
            v: self.v.0.clone(),
            shape: gpu::Shape { batch, heads, key_heads, queries, keys, dim, value_dim },
            aside: self.aside.0.clone(),
            bias: self.bias.as_ref().map(|bias| (bias.0.clone(), self.bias_strides)),
            options: gpu::AttentionOptions {
                scale: self.scale,
                softcap: self.softcap,
                window: self.window,
                bottom_right: self.bottom_right,
                temperature: self.temperature,
                sinks: self.sinks,
                sigmoid: self.sigmoid,
                auto_row: self.auto_row,
                empty_is_nan: self.empty_is_nan,
                dropout: self.dropout.map(|(rate, seed)| gpu::Dropout { rate, seed }),
            },
        }
    }
}

/// Statistics of the rows, and the gradients of results.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct AttentionUpstream<'py> {
    max_logit: PyRef<'py, GpuTensor>,
    inv_sum: PyRef<'py, GpuTensor>,
    entropy: Option<PyRef<'py, GpuTensor>>,
    dlse: Option<PyRef<'py, GpuTensor>>,
    dentropy: Option<PyRef<'py, GpuTensor>>,
}

impl AttentionUpstream<'_> {
    pub(super) fn for_gpu(&self) -> gpu::Upstream {
        let optional = |tensor: &Option<PyRef<'_, GpuTensor>>| tensor.as_ref().map(|one| one.0.clone());
        gpu::Upstream {
            max_logit: self.max_logit.0.clone(),
            inv_sum: self.inv_sum.0.clone(),
            entropy: optional(&self.entropy),
            dlse: optional(&self.dlse),
            dentropy: optional(&self.dentropy),
        }
    }
}
