//! What losses on a device are given, as `logitscope.gpu` puts it together.

use super::GpuTensor;
use logitscope_gpu as gpu;
use pyo3::prelude::*;

/// The options of a loss, checked by the CPU's kernel before they come here.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct LossOptions {
    temperature: f32,
    softcap: Option<f32>,
    label_smoothing: f32,
    smooth_over: String,
    lse_square_scale: f32,
    entropy_weight: f32,
    link: String,
    link_params: Vec<(String, f64)>,
    complement: bool,
}

impl LossOptions {
    pub(super) fn for_gpu(&self, gradient: bool) -> PyResult<gpu::LossOptions> {
        use logitscope_kernels::cross_entropy::Link;
        let named = Link::named("cross_entropy", &self.link, &self.link_params);
        let link = match named.map_err(|error| crate::errors::to_python(&error))? {
            Link::CrossEntropy => gpu::Link::CrossEntropy,
            Link::CompSum { tau } => gpu::Link::CompSum { power: (1.0 - tau) as f32 },
            Link::Focal { gamma } => gpu::Link::Focal { gamma: gamma as f32 },
            Link::Poly { epsilon } => gpu::Link::Poly { epsilon: epsilon as f32 },
            Link::Symmetric { a, b, log_zero } => {
                gpu::Link::Symmetric { a: a as f32, b: (b * log_zero) as f32 }
            }
            Link::Truncated { q, k } => gpu::Link::Truncated { q: q as f32, turn: -k.ln() as f32 },
        };
        Ok(gpu::LossOptions {
            link,
            temperature: self.temperature,
            softcap: self.softcap,
            label_smoothing: self.label_smoothing,
            smooth_over_finite: self.smooth_over == "finite",
            lse_square_scale: self.lse_square_scale,
            entropy_weight: self.entropy_weight,
            complement: self.complement,
            gradient,
        })
    }
}

/// A linear layer and its losses, the arrays checked by whoever makes one.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct LinearInputs<'py> {
    input: PyRef<'py, GpuTensor>,
    weight: PyRef<'py, GpuTensor>,
    bias: Option<PyRef<'py, GpuTensor>>,
    shape: [usize; 3],
    classes: PyRef<'py, GpuTensor>,
    masses: Option<PyRef<'py, GpuTensor>>,
    class_weight: Option<PyRef<'py, GpuTensor>>,
    factors: PyRef<'py, GpuTensor>,
    options: LossOptions,
    chunk: Option<usize>,
    filter: Option<f32>,
}

impl LinearInputs<'_> {
    pub(super) fn for_gpu(&self, gradient: bool) -> PyResult<gpu::LinearCrossEntropy> {
        let optional = |tensor: &Option<PyRef<'_, GpuTensor>>| tensor.as_ref().map(|one| one.0.clone());
        Ok(gpu::LinearCrossEntropy {
            input: self.input.0.clone(),
            weight: self.weight.0.clone(),
            bias: optional(&self.bias),
            shape: self.shape,
            classes: self.classes.0.clone(),
            masses: optional(&self.masses),
            class_weight: optional(&self.class_weight),
            factors: self.factors.0.clone(),
            options: self.options.for_gpu(gradient)?,
            chunk: self.chunk,
            filter: self.filter,
        })
    }
}
