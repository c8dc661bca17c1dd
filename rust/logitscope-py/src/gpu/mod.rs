//! Devices and tensors of `logitscope-gpu`; `logitscope.gpu` wraps them.
#![allow(clippy::needless_pass_by_value, reason = "PyO3 extracts values")]

mod attention;
mod loss;

use crate::arrays::{Filled, Input, contiguous, filled};
use crate::call;
use crate::errors::{
    ArgumentError, GpuCompileError, GpuDeviceLostError, GpuOutOfMemoryError, GpuTimeoutError,
    GpuUnavailableError, ShapeError,
};
use attention::{AttentionInputs, AttentionUpstream};
use logitscope_gpu::{
    self as gpu, Device, Error, Format, Reduction, RowOperation, RowOptions, Settings, Tensor,
};
use loss::{LinearInputs, LossOptions};
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
        backends: Option<Vec<String>>,
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
        let settings = Settings { adapter, backends, allow_software, reduction, binding_bytes, timeout };
        let device = py.detach(|| Device::open(&settings)).map_err(|error| to_python(&error))?;
        Ok(Self(device))
    }

    fn facts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        facts(py, self.0.facts())
    }

    fn pool_bytes(&self) -> u64 {
        self.0.pool_bytes()
    }

    fn submissions(&self) -> u64 {
        self.0.submissions()
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

    /// Output and state of the rows, and their moments if they are wanted.
    fn attention(
        &self,
        py: Python<'_>,
        inputs: AttentionInputs<'_>,
        moments: bool,
    ) -> PyResult<(GpuTensor, GpuTensor, Option<GpuTensor>)> {
        let inputs = inputs.for_gpu();
        note("attention", &inputs.q);
        let output = py.detach(|| inputs.forward(&self.0, moments)).map_err(|error| to_python(&error))?;
        Ok((GpuTensor(output.out), GpuTensor(output.state), output.moments.map(GpuTensor)))
    }

    fn attention_map(
        &self,
        py: Python<'_>,
        inputs: AttentionInputs<'_>,
        state: &GpuTensor,
        bins: [usize; 2],
        max_pooling: bool,
    ) -> PyResult<GpuTensor> {
        let inputs = inputs.for_gpu();
        tensor(py, || inputs.map(&self.0, &state.0, bins, max_pooling))
    }

    /// The keys with the largest scores of each row, as 32-bit integers, and their weights.
    fn attention_top_keys(
        &self,
        py: Python<'_>,
        inputs: AttentionInputs<'_>,
        state: &GpuTensor,
        count: usize,
    ) -> PyResult<(GpuTensor, GpuTensor)> {
        let inputs = inputs.for_gpu();
        let found = py.detach(|| inputs.top_keys(&self.0, &state.0, count));
        let [keys, weights] = found.map_err(|error| to_python(&error))?;
        Ok((GpuTensor(keys), GpuTensor(weights)))
    }

    /// Values times the gates of their keys; with the gradient of that product, the gradients of values and gates.
    #[allow(clippy::too_many_arguments, reason = "the parts of one product")]
    fn value_gate(
        &self,
        py: Python<'_>,
        v: &GpuTensor,
        gate: &GpuTensor,
        lengths: &GpuTensor,
        shape: [usize; 4],
        dgated: Option<&GpuTensor>,
    ) -> PyResult<(GpuTensor, Option<GpuTensor>)> {
        let gate = gpu::ValueGate { v: v.0.clone(), gate: gate.0.clone(), lengths: lengths.0.clone(), shape };
        let call = || match dgated {
            None => Ok((gate.gated(&self.0)?, None)),
            Some(GpuTensor(dgated)) => {
                let of_values = gpu::ValueGate { v: dgated.clone(), ..gate.clone() };
                Ok((of_values.gated(&self.0)?, Some(gate.gradient(&self.0, dgated)?)))
            }
        };
        let (values, gates) = py.detach(call).map_err(|error| to_python(&error))?;
        Ok((GpuTensor(values), gates.map(GpuTensor)))
    }

    /// Gradients of q, k and v, the numbers of each row, and the gradient of the bias.
    #[allow(clippy::too_many_arguments, reason = "the parts of one gradient")]
    fn attention_backward(
        &self,
        py: Python<'_>,
        inputs: AttentionInputs<'_>,
        out: &GpuTensor,
        dout: &GpuTensor,
        upstream: AttentionUpstream<'_>,
        bias_axes: Option<[bool; 4]>,
    ) -> PyResult<AttentionGradients> {
        let (inputs, upstream) = (inputs.for_gpu(), upstream.for_gpu());
        note("attention_backward", &inputs.q);
        let found = py.detach(|| inputs.backward(&self.0, &out.0, &dout.0, &upstream, bias_axes));
        let found = found.map_err(|error| to_python(&error))?;
        let rows = GpuTensor(found.rows);
        let [dq, dk, dv] = [found.dq, found.dk, found.dv].map(GpuTensor);
        Ok((dq, dk, dv, rows, found.dbias.map(GpuTensor)))
    }

    /// Sums of a number of the rows of a backward pass, one for each head.
    fn attention_of_heads(
        &self,
        py: Python<'_>,
        rows: &GpuTensor,
        place: usize,
        shape: [usize; 3],
    ) -> PyResult<GpuTensor> {
        if place >= gpu::ROW || rows.0.len() != shape.iter().product::<usize>() * gpu::ROW {
            let message = format!("attention: number {place} of rows of {}", rows.0.len());
            return Err(ShapeError::new_err(message));
        }
        tensor(py, || gpu::sums_of_heads(&self.0, &rows.0, place, shape))
    }

    /// The numbers of each row, and the gradients of input, weight and bias that are wanted, in float32.
    fn linear_cross_entropy(
        &self,
        py: Python<'_>,
        inputs: LinearInputs<'_>,
        wanted: [bool; 3],
    ) -> PyResult<LinearGradients> {
        let inputs = inputs.for_gpu(wanted.contains(&true))?;
        note("linear_cross_entropy", &inputs.weight);
        let (numbers, found) =
            py.detach(|| inputs.run(&self.0, wanted)).map_err(|error| to_python(&error))?;
        let [input, weight, bias] = [found.input, found.weight, found.bias].map(|one| one.map(GpuTensor));
        Ok((GpuTensor(numbers), input, weight, bias))
    }

    /// The rows that an index picks, in float32; zeros for those below 0.
    fn gather(
        &self,
        py: Python<'_>,
        x: &GpuTensor,
        width: usize,
        index: Input<'_, i64>,
    ) -> PyResult<GpuTensor> {
        let index = contiguous("index", &index)?;
        let index: Vec<u32> = index.iter().map(|&row| u32::try_from(row).unwrap_or(gpu::ABSENT)).collect();
        tensor(py, || gpu::gather(&self.0, &x.0, width, &index))
    }

    fn convert(&self, py: Python<'_>, x: &GpuTensor, format: &str) -> PyResult<GpuTensor> {
        let format = self::format(format)?;
        tensor(py, || gpu::convert(&self.0, &x.0, format))
    }

    /// A copy in the memory of the device, and so many multiplications and additions: what operations are held against.
    fn copy(&self, py: Python<'_>, x: &GpuTensor) -> PyResult<GpuTensor> {
        tensor(py, || self.0.copy(&x.0))
    }

    fn multiply_adds(&self, py: Python<'_>, count: u64) -> PyResult<GpuTensor> {
        tensor(py, || gpu::multiply_adds(&self.0, count))
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

type AttentionGradients = (GpuTensor, GpuTensor, GpuTensor, GpuTensor, Option<GpuTensor>);
type LinearGradients = (GpuTensor, Option<GpuTensor>, Option<GpuTensor>, Option<GpuTensor>);

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
