"""Arrays from users, as NumPy arrays for the kernels, and results back as the kind that came.

Torch is never imported here: a tensor can only come from somebody who has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import DeviceError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def needs_autograd(*values: Any) -> bool:
    """Whether one of ``values`` is a tensor that torch records gradients for."""
    tensors = [value for value in values if is_tensor(value)]
    return any(tensor.requires_grad for tensor in tensors) and bool(sys.modules["torch"].is_grad_enabled())


def as_floats(operation: str, name: str, value: Any) -> NDArray[Any]:
    """``value`` as a NumPy array of float32 or float64 in native byte order, without a copy where it is one.

    Raises
    ------
    DTypeError
        For any other element type and for what is no array.
    DeviceError
        For a tensor that is not in the memory of the CPU.
    """
    array = as_numpy(operation, name, value)
    if array.dtype.newbyteorder("=") not in FLOATS:
        message = f"{operation}: {name} has dtype {array.dtype}; use float32 or float64"
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
            array: NDArray[Any] = value.detach().numpy()
        except TypeError:
            message = f"{operation}: {name} has dtype {value.dtype}; use torch.float32 or torch.float64"
            raise DTypeError(message) from None
        return array
    array = np.asarray(value)
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
                f"{operation}: {name} has dtype {array.dtype}, {first_name} has {first.dtype}; use one dtype"
            )
            raise DTypeError(message)
    return first.dtype


def like(value: Any, array: NDArray[Any]) -> Any:
    """``array`` as the kind of array that ``value`` is, sharing its memory."""
    return sys.modules["torch"].from_numpy(array) if is_tensor(value) else array
