"""Attention of the layers of a model at one step, gathered and then recorded together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitscope.record.statistics import HeadSummary, sink_mass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.record.recorder import Recorder

_FIGURES = ("entropy", "max_logit", "lse", "logit_std")


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """What one layer has shown."""

    summary: HeadSummary
    map: NDArray[np.float32] | None = None  # (H, R, C)
    pair: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None  # queries and keys, (H, L, D)


class LayerBoard:
    """Takes layers in any order and writes the standard tags ``attention/...``."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._seen: dict[int, Layer] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, index: int, layer: Layer) -> None:
        """Keep what a layer has shown."""
        self._seen[index] = layer

    def flush(self, step: int, count: int) -> None:
        """Record what ``count`` layers have shown, as far as they have."""
        seen, self._seen = dict(sorted(self._seen.items())), {}
        if not seen:
            return
        scalars = {}
        for index, layer in seen.items():
            summary = layer.summary
            scalars[f"attention/max_logit/layer{index}"] = float(summary.max_logit.max())
            scalars[f"attention/entropy/layer{index}"] = float(summary.entropy.mean())
            scalars[f"attention/entropy_min/layer{index}"] = float(summary.entropy.min())
            scalars[f"attention/entropy_max/layer{index}"] = float(summary.entropy.max())
            scalars[f"attention/lse_mean/layer{index}"] = summary.lse_mean
            if summary.logit_std is not None:
                scalars[f"attention/logit_std/layer{index}"] = float(summary.logit_std.mean())
        maps = {index: layer.map for index, layer in seen.items() if layer.map is not None}
        sinks = {index: sink_mass(map_) for index, map_ in maps.items()}
        scalars.update({f"attention/sink/layer{index}": float(mass.mean()) for index, mass in sinks.items()})
        self._recorder.scalars(scalars, step)
        parts: dict[str, dict[int, NDArray[np.float32]]] = {}
        if maps:
            for name in _FIGURES:
                figures = {index: getattr(layer.summary, name) for index, layer in seen.items()}
                parts[name] = {i: figure for i, figure in figures.items() if figure is not None}
            parts |= {"sink_mass": sinks, "map": maps}
        pairs = {index: layer.pair for index, layer in seen.items() if layer.pair is not None}
        for place, name in enumerate(("query", "key")):
            parts[name] = {index: pair[place] for index, pair in pairs.items()}
        arrays = {f"attention/{name}": _stack(part, count) for name, part in parts.items() if part}
        if arrays:
            self._recorder.arrays(arrays, step)


def _stack(parts: dict[int, NDArray[np.float32]], count: int) -> NDArray[np.float32]:
    """Arrays of layers one above the other; NaN where a layer has none or is smaller than another."""
    shape = tuple(np.max([part.shape for part in parts.values()], axis=0))
    stacked = np.full((count, *shape), np.nan, np.float32)
    for index, part in parts.items():
        stacked[index][tuple(map(slice, part.shape))] = part
    return stacked
