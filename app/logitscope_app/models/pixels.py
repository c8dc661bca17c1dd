"""Pictures of any of the usual forms as pixels of red, green, blue and opacity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pixels(picture: NDArray[Any]) -> NDArray[np.uint8] | None:
    """(rows, columns, 4) bytes of a picture; None where an array is none.

    Grey is (rows, columns) or (rows, columns, 1); there may be 3 colours, and opacity as the last number of 2 or 4.
    Integers are from 0 to 255, other numbers from 0 to 1; what lies beyond is cut off, a NaN is 0.

    Examples
    --------
    >>> pixels(np.array([[0.0, 0.5, 1.0]])).tolist()
    [[[0, 0, 0, 255], [128, 128, 128, 255], [255, 255, 255, 255]]]
    """
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 2, 3, 4) or not picture.size:
        return None
    if picture.dtype != np.uint8:
        numbers = np.nan_to_num(picture.astype(np.float64), nan=0.0)
        picture = np.rint(np.clip(numbers if picture.dtype.kind in "iu" else 255 * numbers, 0, 255))
    made = np.full((*picture.shape[:2], 4), 255, np.uint8)
    has_opacity = picture.shape[2] in (2, 4)
    made[..., :3] = picture[..., : picture.shape[2] - has_opacity]
    if has_opacity:
        made[..., 3] = picture[..., -1]
    return made
