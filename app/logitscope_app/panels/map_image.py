"""From a matrix to a picture: colours of the theme, exact zeros of an attention map left blank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtGui import QImage

from logitscope_app.models.colour import colorize
from logitscope_app.theme.colormaps import table
from logitscope_app.theme.palette import rgb

if TYPE_CHECKING:
    from logitscope_app.models.colour import Scale
    from logitscope_app.models.states import FloatArray
    from logitscope_app.theme.palette import Palette


def map_image(values: FloatArray, scale: Scale, palette: Palette, *, blank_zeros: bool = False) -> QImage:
    """The picture of a (rows, columns) matrix, one pixel a cell."""
    colours = table(palette.signed if scale.signed else palette.amounts)
    pixels = colorize(values, scale, colours, rgb(palette.nan))
    if blank_zeros:
        pixels[values == 0] = rgb(palette.raised)
    rows, columns = values.shape
    pixels = np.ascontiguousarray(pixels)
    # copy(): QImage borrows the memory, which dies with this function.
    return QImage(pixels.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()
