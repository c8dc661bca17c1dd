"""The types of numbers that operations take, and 16-bit numbers as the wider ones that are computed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# NumPy has no bfloat16. Inside the package its bits stand in a field of that name, so that an array still says
# what it holds; users see the type of ``ml_dtypes`` or torch's.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])

WIDE = (np.dtype(np.float32), np.dtype(np.float64))
FLOATS = (*WIDE, np.dtype(np.float16), BFLOAT16)


def name_of(dtype: Any) -> str:
    """Name of a type of numbers, for errors."""
    return "bfloat16" if dtype == BFLOAT16 else str(dtype)


def wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type that numbers of ``dtype`` are computed with."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def widen(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` as what is computed with; itself if it is that already."""
    if array.dtype == BFLOAT16:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(wide(array.dtype), copy=False)


def narrow(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """``array`` as numbers of ``dtype``, rounded to the nearest, ties to even; itself if it has them already."""
    if dtype != BFLOAT16:
        with np.errstate(over="ignore"):  # beyond the range of float16 lies its infinity
            return array.astype(dtype, copy=False)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    upper = np.where(np.isnan(array), (bits >> 16) | 0x40, rounded).astype(np.uint16)
    return upper.reshape(array.shape).view(BFLOAT16)
