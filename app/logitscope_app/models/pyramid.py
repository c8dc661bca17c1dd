"""A matrix at half, quarter ... of its size, so that a map of any size is drawn from as many cells as it has pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from logitscope_app.models.states import FloatArray


class Pyramid:
    """Halves a matrix as often as is asked for; a cell of a level holds the one of four that is farthest from 0.

    So no bright spot vanishes, however small it is drawn, and a NaN stays one.

    Examples
    --------
    >>> Pyramid(np.array([[0.1, 0.2, 0.0], [0.3, -0.9, 0.5]])).level(1)
    array([[-0.9,  0.5]])
    """

    def __init__(self, values: FloatArray) -> None:
        self._levels = [values]
        self._is_signed: bool | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix itself."""
        rows, columns = self._levels[0].shape
        return rows, columns

    def level(self, number: int) -> FloatArray:
        """The matrix halved so many times."""
        if number and self._is_signed is None:
            self._is_signed = bool((self._levels[0] < 0).any())
        while len(self._levels) <= number:
            self._levels.append(_quartered(self._levels[-1], signed=bool(self._is_signed)))
        return self._levels[number]

    def build(self) -> None:
        """Halve the matrix until it is a single cell: what takes long of a large one, for another thread."""
        while not self.is_built:
            self.level(len(self._levels))

    @property
    def is_built(self) -> bool:
        """Whether there are all levels."""
        return bool(max(self._levels[-1].shape) <= 1)

    def is_ready(self, rows: int, columns: int, pixels: tuple[float, float]) -> bool:
        """Whether the level that a window of this size is drawn from is there already."""
        return _level_for(rows, columns, pixels) < len(self._levels)

    def window(
        self,
        top: int,
        left: int,
        rows: int,
        columns: int,
        pixels: tuple[float, float],
        *,
        rough: bool = False,
    ) -> tuple[FloatArray, tuple[float, float, float, float]]:
        """Cells that cover a window of the matrix, of the coarsest level that is not coarser than the pixels.

        ``rough`` takes one cell for each of the level instead, at once: for a first look while the level is made.

        Returns
        -------
        cells, (top, left, rows, columns)
            The cells, and what they cover, in cells of the matrix: the window and up to a cell of the level beyond.
        """
        number = _level_for(rows, columns, pixels)
        size = 1 << number
        level = self._levels[0][::size, ::size] if rough else self.level(number)
        first_row, first_column = top // size, left // size
        last_row, last_column = -(-(top + rows) // size), -(-(left + columns) // size)
        cells = level[first_row:last_row, first_column:last_column]
        return cells, (
            float(first_row * size),
            float(first_column * size),
            float(cells.shape[0] * size),
            float(cells.shape[1] * size),
        )


def sketch(values: FloatArray, most: int = 1 << 20) -> FloatArray:
    """Every cell of a small matrix; of a large one evenly spaced cells, some ``most`` at the most.

    Examples
    --------
    >>> sketch(np.arange(36.0).reshape(6, 6), most=9)
    array([[ 0.,  2.,  4.],
           [12., 14., 16.],
           [24., 26., 28.]])
    """
    every = max(1, int(np.ceil(np.sqrt(values.size / most))))
    return values[::every, ::every]


def _level_for(rows: int, columns: int, pixels: tuple[float, float]) -> int:
    share = min(rows / max(pixels[0], 1.0), columns / max(pixels[1], 1.0))
    return max(0, int(np.floor(np.log2(max(share, 1.0)))))


def _quartered(values: FloatArray, *, signed: bool) -> FloatArray:
    """Of each two by two entries the one that is farthest from 0, of equal ones the positive."""
    top = _reduced(values, np.maximum)
    if not signed:
        return top
    low = _reduced(values, np.minimum)
    farthest: FloatArray = np.where(top >= -low, top, low)  # a NaN is in both
    return farthest


def _reduced(values: FloatArray, better: np.ufunc) -> FloatArray:
    """Of each two by two entries the better; both ufuncs hand a NaN on. Rows first: they lie together in memory."""
    for _ in range(2):
        even, odd = values[0::2], values[1::2]
        halved: FloatArray = better(even[: len(odd)], odd)
        values = (np.concatenate([halved, even[len(odd) :]]) if len(even) > len(odd) else halved).T
    return values
