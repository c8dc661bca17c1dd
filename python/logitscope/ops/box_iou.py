"""Intersection over union of boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, like, same_dtype
from logitscope.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def box_iou(a: Any, b: Any, *, offset: int = 0) -> Any:
    """Intersection over union of each box of ``a`` with each of ``b``.

    Parameters
    ----------
    a, b
        (N, 4) and (M, 4), NumPy arrays or torch CPU tensors of float32, float64, float16 or bfloat16: x1, y1, x2, y2
        with x1 <= x2 and y1 <= y2.
    offset
        Added to all widths and heights: 1 where x2 and y2 are pixels that belong to the box, else 0.

    Returns
    -------
    array
        (N, M), of the kind and dtype of ``a``; 0 where the union is 0. 16-bit boxes are computed with in float32.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.detection import box_iou
    >>> box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 1, 2, 3], [5, 5, 6, 6]])).round(3)
    array([[0.333, 0.   ]])
    """
    first, second = read_boxes("box_iou", "a", a), read_boxes("box_iou", "b", b)
    dtype = same_dtype("box_iou", [("a", first), ("b", second)])
    out = np.empty((len(first), len(second)), dtype)
    _native.box_iou(first, second, read_offset("box_iou", offset), out)
    return like(a, out)


def read_boxes(operation: str, name: str, value: Any) -> NDArray[Any]:
    """Read boxes in row-major order."""
    boxes = as_floats(operation, name, value)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        message = f"{operation}: {name} has shape {boxes.shape}; use (N, 4)"
        raise ShapeError(message)
    return np.ascontiguousarray(boxes)


def read_offset(operation: str, offset: int) -> float:
    """Read what is added to the sides of boxes."""
    if offset not in (0, 1):
        message = f"{operation}: offset is {offset!r}; use 0 or 1"
        raise ArgumentError(message)
    return float(offset)
