"""Colour maps as (256, 3) byte tables: viridis on dark, ink on light, one for signed values. No Qt."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from logitscope_app.theme.palette import rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Sixteen evenly spaced colours of viridis (Smith and van der Walt, CC0): perceptually uniform, also for
# colour-blind people.
_VIRIDIS = (
    "#440154 #481a6c #472f7d #414487 #39568c #31688e #2a788e #23888e "
    "#1f988b #22a884 #35b779 #54c568 #7ad151 #a5db36 #d2e21b #fde725"
)
# From paper to deep blue: on a light page a small amount is pale, as viridis' is dark on a dark one.
_INK = "#f0f4f9 #dbe6f2 #bcd3e9 #93bbdc #659fcb #3f80b7 #25609c #174379 #0d2a55 #061634"
# Blue for negative, orange for positive, pale between: lightness falls evenly to both sides.
_SIGNED = "#123a6d #2a5f9e #5a8cc0 #95b8d8 #cfdde8 #f3f1ee #f0d9bf #e3b27d #cd8643 #a85c1c #783a08"
# The same two hues on a dark page: dark at 0, lighter to both sides.
_SIGNED_DARK = "#a8d4ff #7bb4ee #5191d3 #346aa6 #244668 #20262f #5c3f22 #985e22 #cf8432 #f0ad5c #ffd7a3"

MAPS = {"viridis": _VIRIDIS, "ink": _INK, "signed": _SIGNED, "signed_dark": _SIGNED_DARK}


@lru_cache(maxsize=len(MAPS))
def table(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a map, read-only."""
    anchors = np.array([rgb(colour) for colour in MAPS[name].split()], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    colours: NDArray[np.uint8] = np.stack(channels, axis=1).round().astype(np.uint8)
    colours.setflags(write=False)
    return colours


def sample(name: str, position: float) -> str:
    """The colour at ``position`` (0 to 1) of a map, as ``#rrggbb``."""
    red, green, blue = table(name)[round(min(max(position, 0.0), 1.0) * 255)]
    return f"#{red:02x}{green:02x}{blue:02x}"


def ordered(count: int, span: tuple[float, float]) -> tuple[str, ...]:
    """``count`` line colours in order (layers, heads ...), spread over ``span`` of viridis."""
    low, high = span
    step = (high - low) / max(count - 1, 1)
    return tuple(sample("viridis", low + step * index) for index in range(count))
