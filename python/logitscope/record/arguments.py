"""Checks of what a training hands to the recorder: a mistake is told, by name and with what would work."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError, DTypeError
from logitscope.record import codec

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_step(operation: str, step: Any) -> int:
    """Make sure that a step is a whole number that a file can hold."""
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 63:
        message = f"{operation}: step is {step!r}; give a whole number, 0 or more"
        raise ArgumentError(message)
    return number


def to_number(operation: str, name: str, value: Any) -> float:
    """Make a float of a Python, NumPy or torch number."""
    if not isinstance(value, (str, bytes, bytearray)):
        try:
            return float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    message = f"{operation}: the value of {name!r} is a {type(value).__name__}{shape}; give one real number"
    raise DTypeError(message)


def to_numpy(operation: str, tag: str, value: Any) -> NDArray[Any]:
    """Any array as NumPy; of torch, bfloat16 becomes float32, which holds it exactly."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = np.asarray(value)
    if array.dtype.newbyteorder("<").str not in codec.DTYPES:
        wanted = "booleans, integers or float16, float32, float64"
        message = f"{operation}: {tag!r} has dtype {array.dtype}; give {wanted}"
        raise DTypeError(message)
    if array.nbytes > codec.MAX_ARRAY_BYTES or array.ndim > codec.MAX_DIMENSIONS:
        limit = f"{codec.MAX_ARRAY_BYTES >> 20} MiB and {codec.MAX_DIMENSIONS} axes"
        message = f"{operation}: {tag!r} has shape {array.shape} of {array.dtype}; give at most {limit}"
        raise ArgumentError(message)
    return array


def check_text(operation: str, argument: str, text: Any, limit: int, *, empty: bool = False) -> None:
    """Make sure that a text is one, and of a length that a reader accepts."""
    if not isinstance(text, str):
        message = f"{operation}: {argument} is a {type(text).__name__}; give a string"
        raise DTypeError(message)
    if len(text) > limit or not (text or empty):
        message = f"{operation}: {argument} has {len(text)} characters; give {0 if empty else 1}..{limit}"
        raise ArgumentError(message)


def plain(text: str) -> str:
    """A text without lone surrogates, which no UTF-8 file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
