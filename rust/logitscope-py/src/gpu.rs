//! Devices and tensors of `logitscope-gpu`; `logitscope.gpu` wraps them.
#![allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]

use crate::arrays::{Filled, Input, contiguous, filled};
use crate::call;
use crate::errors::{
    ArgumentError, GpuCompileError, GpuDeviceLostError, GpuOutOfMemoryError, GpuTimeoutError,
    GpuUnavailableError, ShapeError,
};
use logitscope_gpu::{
    self as gpu, Device, Error, Format, Reduction, RowOperation, RowOptions, Settings, Tensor,
};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::time::Duration;

/// The Python exception for an error of a device.
fn to_python(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Unavailable(_) => GpuUnavailableError::new_err(message),
        Error::OutOfMemory(_) => GpuOutOfMemoryError::new_err(message),
        Error::Lost(_) => GpuDeviceLostError::new_err(message),
        Error::Compile { .. } | Error::Validation(_) => GpuCompileError::new_err(message),
        Error::Timeout(_) => GpuTimeoutError::new_err(message),
        Error::Shape(_) => ShapeError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}

/// Numbers in the memory of a device, one after the other.
#[pyclass(frozen, module = "logitscope._native")]
struct GpuTensor(Tensor);

#[pymethods]
impl GpuTensor {
    fn slice(&self, start: usize, len: usize) -> PyResult<Self> {
        if start.checked_add(len).is_none_or(|end| end > self.0.len()) {
            let message = format!("gpu: a slice of {start}+{len} numbers of {}", self.0.len());
            return Err(ShapeError::new_err(message));
        }
        Ok(Self(self.0.slice(start, len)))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// A GPU.
#[pyclass(frozen, module = "logitscope._native")]
struct GpuDevice(Device);

#[pymethods]
impl GpuDevice {
    #[new]
    fn open(
        py: Python<'_>,
        adapter: Option<String>,
        allow_software: bool,
        reduction: &str,
        binding_bytes: Option<u64>,
        timeout: f64,
    ) -> PyResult<Self> {
        let reduction = match reduction {
            "auto" => None,
            "tree" => Some(Reduction::Tree),
            "subgroup" => Some(Reduction::Subgroup),
            other => {
                let message = format!("Device: reduction is '{other}'; use 'auto', 'tree' or 'subgroup'");
                return Err(ArgumentError::new_err(message));
            }
        };
        let timeout = Duration::try_from_secs_f64(timeout).map_err(|_| {
            ArgumentError::new_err(format!("Device: timeout is {timeout}; use seconds, at least 0"))
        })?;
        let settings = Settings { adapter, allow_software, reduction, binding_bytes, timeout };
        let device = py.detach(|| Device::open(&settings)).map_err(|error| to_python(&error))?;
        Ok(Self(device))
    }

    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        facts(py, self.0.facts())
    }

    fn pool_bytes(&self) -> u64 {
        self.0.pool_bytes()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }

    fn check(&self) -> PyResult<()> {
        self.0.check().map_err(|error| to_python(&error))
    }

    fn upload(&self, py: Python<'_>, bytes: Input<'_, u8>, format: &str) -> PyResult<GpuTensor> {
        let (bytes, format) = (contiguous("array", &bytes)?, self::format(format)?);
        tensor(py, || self.0.upload(bytes, format))
    }

    fn download(&self, py: Python<'_>, tensor: &GpuTensor, mut out: Filled<'_, u8>) -> PyResult<()> {
        let count = out.shape().iter().product();
        let out = filled("out", &mut out, count)?;
        waited(py, |go_on| self.0.download(&tensor.0, out, go_on))
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.flush()).map_err(|error| to_python(&error))
    }

    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        waited(py, |go_on| self.0.finish(go_on))
    }

    fn try_compile(&self, py: Python<'_>, name: &str, text: &str) -> PyResult<()> {
        py.detach(|| self.0.try_compile(name, text)).map_err(|error| to_python(&error))
    }

    fn transpose(&self, py: Python<'_>, x: &GpuTensor, shape: [usize; 3]) -> PyResult<GpuTensor> {
        tensor(py, || gpu::transpose(&self.0, &x.0, shape))
    }

    fn rows(
        &self,
        py: Python<'_>,
        operation: &str,
        inputs: Vec<PyRef<'_, GpuTensor>>,
        columns: usize,
        temperature: f32,
        empty: &str,
    ) -> PyResult<GpuTensor> {
        let Some(operation) = RowOperation::named(operation) else {
            let message = format!("{operation}: it does not run on a GPU; use x.numpy()");
            return Err(ArgumentError::new_err(message));
        };
        if !(temperature > 0.0 && temperature.is_finite() && (1.0 / temperature).is_finite()) {
            let (name, got) = (operation.name, temperature);
            let message = format!("{name}: temperature is {got:?}; use a positive finite number");
            return Err(ArgumentError::new_err(message));
        }
        let empty_is_zero = crate::softmax::empty(operation.name, empty)? == logitscope_kernels::Empty::Zero;
        let options = RowOptions { temperature, empty_is_zero };
        if inputs.is_empty() {
            return Err(ArgumentError::new_err(format!("{}: no inputs", operation.name)));
        }
        let inputs: Vec<Tensor> = inputs.iter().map(|tensor| tensor.0.clone()).collect();
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        note(operation.name, inputs[0]);
        tensor(py, || operation.run(&self.0, &inputs, columns, options))
    }

    #[allow(clippy::too_many_arguments, reason = "inputs and options of one operation")]
    fn cross_entropy(
        &self,
        py: Python<'_>,
        logits: &GpuTensor,
        columns: usize,
        targets: &GpuTensor,
        soft: bool,
        weight: Option<&GpuTensor>,
        factors: &GpuTensor,
        options: LossOptions,
        gradient: bool,
    ) -> PyResult<(GpuTensor, Option<GpuTensor>)> {
        let options = options.for_gpu(gradient)?;
        let targets = if soft { gpu::Targets::Masses(&targets.0) } else { gpu::Targets::Classes(&targets.0) };
        note("cross_entropy", &logits.0);
        let weight = weight.map(|weight| &weight.0);
        let call = || gpu::cross_entropy(&self.0, &logits.0, columns, targets, weight, &factors.0, options);
        let (numbers, gradient) = py.detach(call).map_err(|error| to_python(&error))?;
        Ok((GpuTensor(numbers), gradient.map(GpuTensor)))
    }

    fn attention(&self, py: Python<'_>, inputs: AttentionInputs<'_>) -> PyResult<(GpuTensor, GpuTensor)> {
        let inputs = inputs.for_gpu();
        note("attention", &inputs.q);
        let output = py.detach(|| inputs.forward(&self.0)).map_err(|error| to_python(&error))?;
        Ok((GpuTensor(output.out), GpuTensor(output.state)))
    }

    fn attention_map(
        &self,
        py: Python<'_>,
        inputs: AttentionInputs<'_>,
        state: &GpuTensor,
        bins: [usize; 2],
    ) -> PyResult<GpuTensor> {
        let inputs = inputs.for_gpu();
        tensor(py, || inputs.map(&self.0, &state.0, bins))
    }

    /// Gradients of q, k and v, and the numbers of each row.
    #[allow(clippy::too_many_arguments, reason = "the parts of one gradient")]
    fn attention_backward(
        &self,
        py: Python<'_>,
        inputs: AttentionInputs<'_>,
        out: &GpuTensor,
        state: &GpuTensor,
        dout: &GpuTensor,
        upstream: Option<&GpuTensor>,
        has: (bool, bool),
    ) -> PyResult<(GpuTensor, GpuTensor, GpuTensor, GpuTensor)> {
        let inputs = inputs.for_gpu();
        note("attention_backward", &inputs.q);
        let forward = gpu::AttentionOutput { out: out.0.clone(), state: state.0.clone() };
        let upstream = upstream.map(|upstream| &upstream.0);
        let found = py.detach(|| inputs.backward(&self.0, &forward, &dout.0, upstream, has));
        let found = found.map_err(|error| to_python(&error))?;
        Ok((GpuTensor(found.dq), GpuTensor(found.dk), GpuTensor(found.dv), GpuTensor(found.rows)))
    }

    fn losses(
        &self,
        py: Python<'_>,
        numbers: &GpuTensor,
        factors: &GpuTensor,
        sum: bool,
    ) -> PyResult<GpuTensor> {
        tensor(py, || gpu::losses(&self.0, &numbers.0, &factors.0, sum))
    }
}

/// Attention on a device, its arrays checked by whoever makes one.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[allow(clippy::struct_excessive_bools, reason = "independent options of one operation")]
struct AttentionInputs<'py> {
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
}

impl AttentionInputs<'_> {
    fn for_gpu(&self) -> gpu::Attention {
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
            },
        }
    }
}

/// The options of a loss, checked by the CPU's kernel before they come here.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct LossOptions {
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
    fn for_gpu(&self, gradient: bool) -> PyResult<gpu::LossOptions> {
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

/// A tensor from a call that does not wait for the device.
fn tensor(py: Python<'_>, call: impl FnOnce() -> gpu::Result<Tensor> + Send) -> PyResult<GpuTensor> {
    py.detach(call).map(GpuTensor).map_err(|error| to_python(&error))
}

/// A call that waits for the device, and ends when a signal handler raises.
fn waited(
    py: Python<'_>,
    call: impl FnOnce(&mut dyn FnMut() -> bool) -> gpu::Result<()> + Send,
) -> PyResult<()> {
    let mut raised = None;
    let answer = py.detach(|| {
        call(&mut || {
            raised = Python::attach(|py| py.check_signals().err());
            raised.is_none()
        })
    });
    match raised {
        Some(error) => Err(error),
        None => answer.map_err(|error| to_python(&error)),
    }
}

#[pyfunction]
fn gpu_adapters(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let found = py.detach(gpu::adapters);
    found.iter().map(|adapter| facts(py, adapter)).collect()
}

fn facts<'py>(py: Python<'py>, adapter: &gpu::AdapterFacts) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("index", adapter.index)?;
    dict.set_item("name", &adapter.name)?;
    dict.set_item("backend", &adapter.backend)?;
    dict.set_item("kind", adapter.kind)?;
    dict.set_item("driver", &adapter.driver)?;
    dict.set_item("features", adapter.features.clone())?;
    let limits = PyDict::new(py);
    for (name, limit) in &adapter.limits {
        limits.set_item(name, limit)?;
    }
    dict.set_item("limits", limits)?;
    Ok(dict)
}

/// Notes what runs, such as `softmax-f32-gpu`.
fn note(name: &str, tensor: &Tensor) {
    let format = match tensor.format() {
        Format::F32 => "f32",
        Format::F16 => "f16",
    };
    call::note(format!("{name}-{format}-gpu"));
}

fn format(name: &str) -> PyResult<Format> {
    [Format::F32, Format::F16]
        .into_iter()
        .find(|format| format.name() == name)
        .ok_or_else(|| ArgumentError::new_err(format!("gpu: dtype is '{name}'; use 'float32' or 'float16'")))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<GpuDevice>()?;
    module.add_class::<GpuTensor>()?;
    module.add_function(wrap_pyfunction!(gpu_adapters, module)?)
}
