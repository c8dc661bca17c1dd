"""Which path a call takes, and the way from tensors to arrays and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from logitscope._arrays import array_of
from logitscope._arrays import tensor_of as _tensor_of
from logitscope.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_WIDE = (torch.float32, torch.float64)
_DTYPES = (*_WIDE, torch.float16, torch.bfloat16)


def needs_composite(*tensors: Tensor | None) -> bool:
    """Whether these tensors, here and now, are beyond the operators."""
    return why_composite(*tensors) is not None


def why_composite(*tensors: Tensor | None) -> str | None:
    """Why these tensors, here and now, are beyond the operators; None when they are not.

    An operator under ``torch.func.jvp`` or with a dual tensor would not fail but return a derivative of zero.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    for tensor in given:
        if tensor.device.type not in ("cpu", "meta"):
            return f"a tensor is on device '{tensor.device}', the kernels work in the memory of the CPU"
    if torch.compiler.is_compiling():
        return None
    # Not public, but what torch.autograd.Function itself asks.
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func is active"
    for tensor in given:
        if forward_ad.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
            return "a tensor carries a forward-mode derivative"
    return None


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are tensors of torch's own and nothing traces, fakes or counts what is done with them."""
    # Not public; what torch's own modes stand on.
    if torch.compiler.is_compiling():
        return False
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return False
    own = (torch.Tensor, torch.nn.Parameter, type(None))
    return all(type(tensor) in own and (tensor is None or tensor.device.type == "cpu") for tensor in tensors)


def check_dtype(operation: str, **tensors: Tensor | None) -> None:
    """Raise ``DTypeError`` for a tensor that the kernels have no type for."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype not in _DTYPES:
            names = "torch.float32, torch.float64, torch.float16 or torch.bfloat16"
            message = f"{operation}: {name} is {tensor.dtype}; use {names}"
            raise DTypeError(message)


def check_wide_dtype(operation: str, **tensors: Tensor | None) -> None:
    """Raise ``DTypeError`` for a tensor that is not of the types that are computed with."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype not in _WIDE:
            message = f"{operation}: {name} is {tensor.dtype}; use torch.float32 or torch.float64"
            raise DTypeError(message)


def array(tensor: Tensor) -> NDArray[Any]:
    """View a tensor as an array, without a copy if it is a plain CPU tensor."""
    return array_of(tensor)


def tensor_of(array: NDArray[Any]) -> Tensor:
    """View an array as a tensor."""
    tensor: Tensor = _tensor_of(array)
    return tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """Type that numbers of ``dtype`` are computed with."""
    return dtype if dtype in _WIDE else torch.float32


def normal_dim(operation: str, dim: int, tensor: Tensor) -> int:
    """``dim`` counted from the front."""
    rank = max(tensor.dim(), 1)
    if not -rank <= dim < rank:
        shape = tuple(tensor.shape)
        message = f"{operation}: dim {dim} is out of range for shape {shape}; use {-rank}..{rank - 1}"
        raise ShapeError(message)
    return dim % rank
