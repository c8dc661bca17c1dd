//! From the kernels' errors to the classes of `logitscope.errors`.

use logitscope_kernels::Error;
use pyo3::PyErr;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::import_exception;

import_exception!(logitscope.errors, ArgumentError);
import_exception!(logitscope.errors, DTypeError);
import_exception!(logitscope.errors, DeviceError);
import_exception!(logitscope.errors, GpuCompileError);
import_exception!(logitscope.errors, GpuDeviceLostError);
import_exception!(logitscope.errors, GpuOutOfMemoryError);
import_exception!(logitscope.errors, GpuTimeoutError);
import_exception!(logitscope.errors, GpuUnavailableError);
import_exception!(logitscope.errors, NumericalError);
import_exception!(logitscope.errors, ShapeError);
import_exception!(logitscope.errors, TargetError);

/// The Python exception for a kernel's error.
pub(crate) fn to_python(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Shape { .. } => ShapeError::new_err(message),
        Error::Argument { .. } => ArgumentError::new_err(message),
        Error::Target { .. } => TargetError::new_err(message),
        Error::Numerical { .. } => NumericalError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
    }
}
