"""Arrays from users, as NumPy arrays for the kernels, and results back as the kind that came.

Torch is never imported here: a tensor can only come from somebody who has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._dtypes import BFLOAT16, FLOATS, WIDE, name_of
from logitscope.errors import DeviceError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_gpu(value: Any) -> bool:
    """Whether ``value`` is an array in the memory of a GPU."""
    gpu = sys.modules.get("logitscope.gpu.array")
    return gpu is not None and isinstance(value, gpu.GpuArray)


def needs_autograd(*values: Any) -> bool:
    """Whether one of ``values`` is a tensor that torch records gradients for."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    for value in values:
        if isinstance(value, torch.Tensor) and value.requires_grad:
            return bool(torch.is_grad_enabled())
    return False


def as_floats(operation: str, name: str, value: Any) -> NDArray[Any]:
    """``value`` as a NumPy array of one of ``FLOATS`` in native byte order, without a copy where it is one.

    Raises
    ------
    DTypeError
        For any other element type and for what is no array.
    DeviceError
        For a tensor that is not in the memory of the CPU.
    """
    return _of_types(FLOATS, "float32, float64, float16 or bfloat16", operation, name, value)


def as_wide_floats(operation: str, name: str, value: Any) -> NDArray[Any]:
    """As :func:`as_floats`, for operations that take no 16-bit numbers."""
    return _of_types(WIDE, "float32 or float64", operation, name, value)


def _of_types(
    types: tuple[np.dtype[Any], ...], names: str, operation: str, name: str, value: Any
) -> NDArray[Any]:
    array = as_numpy(operation, name, value)
    if array.dtype in types and array.flags.aligned:
        return array
    if array.dtype.newbyteorder("=") not in types:
        message = f"{operation}: {name} has dtype {name_of(array.dtype)}; use {names}"
        raise DTypeError(message)
    if not (array.flags.aligned and array.dtype.isnative):
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def as_numpy(operation: str, name: str, value: Any) -> NDArray[Any]:
    """``value``, a NumPy array, a tensor or nested lists, as a NumPy array that shares its memory where it can."""
    if is_tensor(value):
        if value.device.type != "cpu":
            message = f"{operation}: {name} is on device '{value.device}'; use a CPU tensor ({name}.cpu())"
            raise DeviceError(message)
        try:
            return array_of(value.detach())
        except TypeError:
            message = f"{operation}: {name} has dtype {value.dtype}; use torch.float32 or torch.float64"
            raise DTypeError(message) from None
    if is_gpu(value):
        message = f"{operation}: {name} is on a GPU; use {name}.numpy()"
        raise DeviceError(message)
    array = np.asarray(value)
    # Its kind first: NumPy puts the name together anew each time.
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":
        array = array.view(BFLOAT16)
    if array.dtype == object:
        message = f"{operation}: {name} is a {type(value).__name__}; use a NumPy array or a torch tensor"
        raise DTypeError(message)
    return array


def same_dtype(operation: str, arrays: Iterable[tuple[str, NDArray[Any]]]) -> np.dtype[Any]:
    """The element type that all named arrays have.

    Raises
    ------
    DTypeError
        When they differ.
    """
    (first_name, first), *rest = arrays
    for name, array in rest:
        if array.dtype != first.dtype:
            message = (
                f"{operation}: {name} has dtype {name_of(array.dtype)}, "
                f"{first_name} has {name_of(first.dtype)}; use one dtype"
            )
            raise DTypeError(message)
    return first.dtype


def like(value: Any, array: NDArray[Any]) -> Any:
    """``array`` as the kind of array that ``value`` is, sharing its memory."""
    if is_tensor(value):
        return tensor_of(array)
    if array.dtype == BFLOAT16 and getattr(value, "dtype", None) != BFLOAT16:
        return array.view(sys.modules["ml_dtypes"].bfloat16)
    return array


def array_of(tensor: Any) -> NDArray[Any]:
    """View a tensor as an array, without a copy if it is a plain CPU tensor."""
    torch = sys.modules["torch"]
    bfloat16 = tensor.dtype == torch.bfloat16
    array: NDArray[Any] = (tensor.view(torch.int16) if bfloat16 else tensor).numpy(force=True)
    return array.view(BFLOAT16) if bfloat16 else array


def tensor_of(array: NDArray[Any]) -> Any:
    """View an array as a tensor."""
    torch = sys.modules["torch"]
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
