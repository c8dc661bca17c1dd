"""Arrays in the memory of a GPU."""

from __future__ import annotations

import operator
import warnings
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats, is_tensor
from logitscope._dtypes import name_of, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.gpu.device import Device, default_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from logitscope import _native

_FLOAT32, _FLOAT16 = np.dtype(np.float32), np.dtype(np.float16)


class GpuArray:
    """An array of float32 or float16 in the memory of a GPU.

    Parameters
    ----------
    values
        NumPy array, torch tensor, nested lists, or anything with ``__dlpack__`` in the memory of the CPU. float64 and
        bfloat16 become float32, and so does float16 where the device does not store it. A CUDA tensor is copied
        through the memory of the CPU.
    device
        Where it goes; :func:`default_device` if none is given.
    dtype
        float32 or float16; by default that of ``values``, as far as it can be.

    Raises
    ------
    DTypeError, GpuUnavailableError, GpuOutOfMemoryError, GpuDeviceLostError
        Saying what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope import gpu
    >>> device = gpu.Device(allow_software=True)
    >>> x = gpu.GpuArray(np.arange(6.0).reshape(3, 2), device)
    >>> x.shape, x.dtype, len(x)
    ((3, 2), dtype('float32'), 3)
    >>> x[1:].numpy()
    array([[2., 3.],
           [4., 5.]], dtype=float32)
    """

    __slots__ = ("_tensor", "device", "dtype", "shape")

    device: Device
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __init__(self, values: Any, device: Device | None = None, *, dtype: Any = None) -> None:
        self.device = default_device() if device is None else device
        array = _on_cpu(values)
        self.dtype = _stored_dtype(array.dtype if dtype is None else np.dtype(dtype), self.device, dtype)
        self.shape = array.shape
        array = np.ascontiguousarray(widen(array), self.dtype)
        self._tensor = self.device.native.upload(array.reshape(-1).view(np.uint8), str(self.dtype))

    @classmethod
    def of(cls, tensor: _native.GpuTensor, like: GpuArray, shape: Sequence[int]) -> GpuArray:
        """Make an array of a tensor of the compiled module, on the device and of the dtype of another."""
        self = cls.__new__(cls)
        self.device, self.dtype, self.shape, self._tensor = like.device, like.dtype, tuple(shape), tensor
        return self

    @classmethod
    def of_float32(cls, tensor: _native.GpuTensor, device: Device, shape: Sequence[int]) -> GpuArray:
        """Make an array of float32 of a tensor of the compiled module."""
        self = cls.__new__(cls)
        self.device, self.dtype, self.shape, self._tensor = device, _FLOAT32, tuple(shape), tensor
        return self

    @property
    def tensor(self) -> _native.GpuTensor:
        """The tensor of the compiled module; for the package itself."""
        return self._tensor

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self.size * self.dtype.itemsize

    def numpy(self) -> NDArray[Any]:
        """Copy it into a NumPy array, after what it depends on has run.

        Raises
        ------
        GpuDeviceLostError, GpuOutOfMemoryError, GpuTimeoutError
            For what went wrong on the way here.
        """
        array = np.empty(self.shape, self.dtype)
        if not array.size:
            self.device.check()
            return array
        self.device.native.download(self._tensor, array.reshape(-1).view(np.uint8))
        return array

    def reshape(self, *shape: int) -> GpuArray:
        """Return the same numbers in another shape, not copied; one length may be -1."""
        lengths = [operator.index(length) for length in shape]
        if lengths.count(-1) == 1:
            rest = prod(length for length in lengths if length != -1)
            lengths[lengths.index(-1)] = self.size // rest if rest else 0
        if any(length < 0 for length in lengths) or prod(lengths) != self.size:
            message = f"reshape: shape is {tuple(shape)}; use one of {self.size} elements"
            raise ShapeError(message)
        return GpuArray.of(self._tensor, self, lengths)

    def __getitem__(self, index: int | slice) -> GpuArray:
        """Return a row, or some that follow each other, not copied."""
        if not self.shape:
            message = "GpuArray: it has no axes; use one with rows"
            raise ShapeError(message)
        rows, width = self.shape[0], prod(self.shape[1:])
        if isinstance(index, slice):
            start, stop, step = index.indices(rows)
            if step != 1:
                message = f"GpuArray: the step of a slice is {step}; use 1"
                raise ArgumentError(message)
            count = max(0, stop - start)
            return GpuArray.of(
                self._tensor.slice(start * width, count * width), self, (count, *self.shape[1:])
            )
        try:
            row = operator.index(index)
        except TypeError:
            message = f"GpuArray: the index is {index!r}; use an integer or a slice of rows"
            raise ArgumentError(message) from None
        if not -rows <= row < rows:
            message = f"GpuArray: row {row} of {rows}; use {-rows}..{rows - 1}"
            raise IndexError(message)
        return GpuArray.of(self._tensor.slice(row % rows * width, width), self, self.shape[1:])

    def __len__(self) -> int:
        if not self.shape:
            message = "GpuArray: it has no axes and so no length"
            raise TypeError(message)
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[row] for row in range(len(self)))

    def __dlpack__(self, **options: Any) -> Any:
        """Give a copy in the memory of the CPU, for ``np.from_dlpack`` and ``torch.from_dlpack``."""
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __repr__(self) -> str:
        return f"<GpuArray {self.shape} {self.dtype} on {self.device.info.name}>"


def _on_cpu(values: Any) -> NDArray[Any]:
    if is_tensor(values) and values.device.type != "cpu":
        warnings.warn(
            f"GpuArray: a tensor on '{values.device}' is copied through the memory of the CPU", stacklevel=3
        )
        values = values.cpu()
    elif not isinstance(values, np.ndarray) and not is_tensor(values) and hasattr(values, "__dlpack__"):
        values = np.from_dlpack(values)
    return as_floats("GpuArray", "values", values)


def _stored_dtype(dtype: np.dtype[Any], device: Device, asked: Any) -> np.dtype[Any]:
    if dtype == _FLOAT16 and (device.has_f16 or asked is not None):
        return _FLOAT16
    if asked is None or dtype == _FLOAT32:
        return _FLOAT32
    message = f"GpuArray: dtype is {name_of(dtype)}; use float32 or float16"
    raise DTypeError(message)
