"""From a panel record and a run's data to the state that is drawn: pure functions, one a kind."""

from __future__ import annotations

import math
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

import numpy as np

from logitscope_app.models import verdict
from logitscope_app.models.guides import guides_of, limits_of
from logitscope_app.models.history import history_of
from logitscope_app.models.pixels import pixels
from logitscope_app.models.plan import HEAD_FIGURES, expand, label_tags, sibling
from logitscope_app.models.series import piled
from logitscope_app.models.states import (
    BarsState,
    Cloud,
    Curve,
    FloatArray,
    HeadsState,
    HeatmapState,
    HistogramState,
    ImageState,
    LinesState,
    PanelState,
    Part,
    ScatterState,
    TableRow,
    TableState,
    TextState,
    VerdictState,
    WhatIfState,
)
from logitscope_app.models.text import bin_labels, sentence, short_labels, token_list
from logitscope_app.models.verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from logitscope.record import Panel, StepArray, StepText
    from logitscope_app.models.series import Points


class Data(Protocol):
    """What the resolvers ask of a run."""

    def names(self) -> Sequence[str]:
        """All tags."""

    def span(self) -> tuple[int, int] | None:
        """The steps that curves are drawn over at least."""

    def points(self, tag: str) -> Points:
        """The scalar points of a tag; empty when it has none."""

    def compared(self, tag: str) -> Sequence[tuple[str, Points]]:
        """Names and points of the runs that this one is compared with; in their order, all of them."""

    def compared_arrays(self, tag: str, step: int | None) -> Sequence[tuple[str, StepArray]]:
        """Names and arrays of the runs that this one is compared with, of those that have one."""

    def array(self, tag: str, step: int | None) -> StepArray | None:
        """The newest array at or before ``step``."""

    def steps(self, tag: str) -> NDArray[np.int64]:
        """Steps at which a tag has arrays, sorted."""

    def text(self, tag: str, step: int | None) -> StepText | None:
        """The newest text at or before ``step``."""


def resolve(panel: Panel, data: Data, step: int | None) -> PanelState:
    """The state of ``panel`` at ``step``; of an unknown kind, a state that says so."""
    resolver = _RESOLVERS.get(panel.kind)
    if resolver is None:
        return PanelState(
            panel,
            message=f"This dashboard cannot draw panels of the kind “{panel.kind}”.\n"
            f"Its values are in the run file under {', '.join(panel.tags) or 'no tag'}.",
        )
    return resolver(panel, data, step)


def _lines(panel: Panel, data: Data, step: int | None) -> LinesState:
    tags = expand(panel.tags, data.names())
    labels = short_labels(tags)
    given = panel.options.get("dashed")
    patterns = given if isinstance(given, list | tuple) else ()
    curves = []
    for tag, label in zip(tags, labels, strict=True):
        points = data.points(tag)
        dashed = any(fnmatchcase(tag, str(pattern)) for pattern in patterns)
        curves.append(Curve(tag, sentence(label), points, points.at(step), dashed=dashed))
    found = [data.compared(tag) for tag in tags]
    for run, runs in enumerate(zip(*found, strict=True), 1):
        for tag, label, (name, points) in zip(tags, labels, runs, strict=True):
            if len(points):
                words = f"{name} · {sentence(label)}" if len(tags) > 1 else name
                curves.append(Curve(tag, words, points, points.at(step), run))
    message = ""
    if not any(len(curve.points) for curve in curves):
        message = _nothing_yet(panel)
    guides = guides_of(panel, data.points, step)
    parts = [curve.points for curve in curves if curve.run == 0] if panel.options.get("stacked") else []
    piles = tuple(piled(parts)) if parts else ()
    # An axis of something else than steps is only as long as its curves.
    span = data.span() if panel.x_label == "step" else None
    return LinesState(panel, step, message, tuple(curves), _is_ordered(labels), guides, piles, span)


def _is_ordered(labels: Sequence[str]) -> bool:
    """Whether the labels are one word with a counting number: ``layer0, layer1 ...``."""
    parts = [re.fullmatch(r"(.*?)(\d+)", label) for label in labels]
    return len(parts) > 2 and all(parts) and len({part[1] for part in parts if part}) == 1


def _bars(panel: Panel, data: Data, step: int | None) -> BarsState:
    tags = expand(panel.tags, data.names())
    found: dict[str, dict[str, tuple[str, float]]] = {}
    names: dict[str, None] = {}
    for tag, label in zip(tags, short_labels(tags), strict=True):
        at = data.points(tag).at(step)
        if at is not None:
            # Of a label without a folder all is the name: its bar has one part.
            name, _, part = label.rpartition("/") if "/" in label else (label, "", "")
            found.setdefault(part, {})[name] = tag, at[1]
            names[name] = None
    parts = []
    for part, bars in found.items():
        cells = [bars.get(name, ("", math.nan)) for name in names]
        parts.append(
            Part(sentence(part), tuple(tag for tag, _ in cells), np.array([height for _, height in cells]))
        )
    message = "" if parts else f"No values yet for {_listed(panel.tags)}."
    stacked = bool(panel.options.get("stacked", False))
    shown = tuple(map(sentence, names))
    return BarsState(panel, step, message, shown, tuple(parts), stacked, guides_of(panel, data.points, step))


def _table(panel: Panel, data: Data, step: int | None) -> TableState:
    tags = expand(panel.tags, data.names())
    rows = []
    for tag, label in zip(tags, short_labels(tags), strict=True):
        points = data.points(tag)
        at = points.at(step)
        finite = points.values[np.isfinite(points.values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
        rows.append(TableRow(sentence(label), tag, at[1] if at else None, low, high, len(points)))
    message = "" if rows else f"No values yet for {_listed(panel.tags)}."
    return TableState(panel, step, message, tuple(rows))


def _heatmap(panel: Panel, data: Data, step: int | None) -> HeatmapState:
    found, message = _first_array(panel, data, step)
    if found is None:
        return HeatmapState(panel, step, message)
    values = np.atleast_2d(found.array)
    if values.ndim != 2:
        wanted = f"A heat map needs a matrix; {panel.tags[0]} has shape {found.array.shape}."
        return HeatmapState(panel, found.step, wanted)
    rows, columns = _labels(panel, data, step, values.shape)
    return HeatmapState(
        panel,
        found.step,
        tag=panel.tags[0],
        values=_floats(values),
        row_labels=rows,
        column_labels=columns,
        limits=limits_of(panel, "limits"),
    )


def _image(panel: Panel, data: Data, step: int | None) -> ImageState:
    found, message = _first_array(panel, data, step)
    if found is None:
        return ImageState(panel, step, message)
    made = pixels(found.array)
    if made is None:
        wanted = (
            f"A picture needs shape (rows, columns, colours); {panel.tags[0]} has shape {found.array.shape}."
        )
        return ImageState(panel, found.step, wanted)
    return ImageState(panel, found.step, tag=panel.tags[0], pixels=made)


def _heads(panel: Panel, data: Data, step: int | None) -> HeadsState:
    found, message = _first_array(panel, data, step)
    if found is None:
        return HeadsState(panel, step, message)
    maps = found.array[None] if found.array.ndim == 3 else found.array
    if maps.ndim != 4 or not maps.size:
        return HeadsState(
            panel,
            found.step,
            f"Attention maps need shape (layers, heads, rows, columns); "
            f"{panel.tags[0]} has {found.array.shape}.",
        )
    figures = []
    for name in HEAD_FIGURES:
        figure = data.array(sibling(panel.tags[0], name), step)
        if figure is not None and figure.array.shape == maps.shape[:2]:
            figures.append((sentence(name), _floats(figure.array)))
    rows, columns = _labels(panel, data, step, maps.shape[2:])
    others = tuple(
        (name, _floats(other.array))
        for name, other in data.compared_arrays(panel.tags[0], step)
        if other.array.shape == maps.shape
    )
    return HeadsState(
        panel,
        found.step,
        tag=panel.tags[0],
        maps=_floats(maps),
        row_labels=rows,
        column_labels=columns,
        figures=tuple(figures),
        others=others,
    )


def _what_if(panel: Panel, data: Data, step: int | None) -> WhatIfState:
    query, message = _first_array(panel, data, step)
    if query is None or len(panel.tags) < 2:
        return WhatIfState(panel, step, message or "This panel needs a tag of queries and one of keys.")
    key = data.array(panel.tags[1], query.step)
    if key is None or key.array.ndim != 4 or query.array.ndim != 4 or not query.array.size * key.array.size:
        wanted = f"Queries and keys of shape (layers, heads, rows, size) are needed in {_listed(panel.tags)}."
        return WhatIfState(panel, query.step, wanted)
    if key.array.shape[::3] != query.array.shape[::3] or query.array.shape[1] % key.array.shape[1]:
        wanted = f"Queries {query.array.shape} and keys {key.array.shape} do not fit each other."
        return WhatIfState(panel, query.step, wanted)
    labels, _ = _labels(panel, data, query.step, query.array.shape[2:])
    causal = bool(panel.options.get("causal", True))
    return WhatIfState(panel, query.step, "", _floats(query.array), _floats(key.array), labels, causal)


def _histogram(panel: Panel, data: Data, step: int | None) -> HistogramState:
    found, message = _first_array(panel, data, step)
    if found is None:
        return HistogramState(panel, step, message)
    if found.array.ndim != 2 or found.array.shape[0] != 2 or found.array.shape[1] < 2:
        wanted = f"A histogram is stored as (2, bins + 1); {panel.tags[0]} has shape {found.array.shape}."
        return HistogramState(panel, found.step, wanted)
    edges, counts = _floats(found.array)
    tag = panel.options.get("curve_tag")
    curve = data.array(tag, step) if isinstance(tag, str) else None
    points = _floats(curve.array) if curve is not None and _is_cloud(curve.array) else np.empty((2, 0))
    guides = guides_of(panel, data.points, step)
    return HistogramState(
        panel,
        found.step,
        "",
        panel.tags[0],
        edges,
        counts[:-1],
        points,
        guides,
        history_of(panel.tags[0], data, step),
    )


def _scatter(panel: Panel, data: Data, step: int | None) -> ScatterState:
    found = _arrays(panel, data, step)
    wrong = next((tag for tag, _, array in found if not _is_cloud(array.array)), None)
    if wrong is not None or not found:
        told = f"Points are stored as (2, n), x and y; those of {wrong} are not."
        return ScatterState(panel, step, told if found else f"Nothing recorded yet: {_listed(panel.tags)}.")
    clouds = tuple(Cloud(tag, label, *_floats(array.array)) for tag, label, array in found)
    joined, log_x, log_y = (bool(panel.options.get(name, False)) for name in ("joined", "log_x", "log_y"))
    last = max(array.step for *_, array in found)
    return ScatterState(panel, last, "", clouds, joined, log_x, log_y, guides_of(panel, data.points, step))


def _spectrum(panel: Panel, data: Data, step: int | None) -> ScatterState:
    found = _arrays(panel, data, step)
    if not found:
        return ScatterState(panel, step, f"No values yet for {_listed(panel.tags)}.")
    clouds = []
    for tag, label, array in found:
        values = np.sort(_floats(array.array).ravel())[::-1]
        clouds.append(Cloud(tag, label, np.arange(1.0, len(values) + 1), values))
    log_x, log_y = (bool(panel.options.get(name, True)) for name in ("log_x", "log_y"))
    last = max(array.step for *_, array in found)
    guides = guides_of(panel, data.points, step)
    return ScatterState(panel, last, "", tuple(clouds), True, log_x, log_y, guides)


def _text(panel: Panel, data: Data, step: int | None) -> TextState | VerdictState:
    found = data.text(verdict.TAG, step) if verdict.TAG in panel.tags else None
    told = data.text(panel.tags[0], step) if found is not None else None
    known = verdict_of(found.text, told.text) if found is not None and told is not None else None
    if known is not None and told is not None:
        return VerdictState(panel, told.step, "", panel.tags[0], told.text, known)
    for tag in expand(panel.tags, data.names()):
        found = data.text(tag, step)
        if found is not None:
            return TextState(panel, found.step, tag=tag, text=found.text)
    if verdict.TAG in panel.tags:
        return TextState(panel, step, "The verdict comes at the end of the run.")
    return TextState(panel, step, _not_there(panel.tags, data, "text"))


_RESOLVERS: dict[str, Callable[[Panel, Data, int | None], PanelState]] = {
    "lines": _lines,
    "bars": _bars,
    "table": _table,
    "heatmap": _heatmap,
    "image": _image,
    "heads": _heads,
    "histogram": _histogram,
    "scatter": _scatter,
    "spectrum": _spectrum,
    "what-if": _what_if,
    "text": _text,
}


def _first_array(panel: Panel, data: Data, step: int | None) -> tuple[StepArray | None, str]:
    if not panel.tags:
        return None, "This panel names no tag."
    found = data.array(panel.tags[0], step)
    if found is None:
        return None, _not_there(panel.tags[:1], data, "picture")
    return found, ""


def _arrays(panel: Panel, data: Data, step: int | None) -> list[tuple[str, str, StepArray]]:
    """Tag, label and array of each tag that has one up to the step."""
    tags = expand(panel.tags, data.names())
    labelled = zip(tags, short_labels(tags), strict=True)
    arrays = ((tag, sentence(label), data.array(tag, step)) for tag, label in labelled)
    return [(tag, label, array) for tag, label, array in arrays if array is not None]


def _is_cloud(array: FloatArray) -> bool:
    return array.ndim == 2 and array.shape[0] == 2 and array.shape[1] > 0


def _labels(
    panel: Panel, data: Data, step: int | None, shape: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    def labels(tag: str | None, cells: int) -> tuple[str, ...]:
        found = data.text(tag, step) if tag else None
        return bin_labels(token_list(found.text), cells) if found else ()

    row_tag, column_tag = label_tags(panel)
    return labels(row_tag, shape[0]), labels(column_tag, shape[1])


def _floats(array: FloatArray) -> FloatArray:
    """``array`` in f32 or f64 (what the drawing code computes in), without a copy where it is so already."""
    wide: FloatArray = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    wide = wide.view()
    wide.setflags(write=False)
    return wide


_FILLED_BY = (
    ("attention/", "scope.watch(model)"),
    ("logits/", "scope.watch(model)"),
    ("grad_norm", "watch.gradients(step)"),
    ("weight_norm", "watch.gradients(step)"),
    ("update_ratio", "watch.gradients(step)"),
    ("activation/", "scope.watch(model)"),
    ("curvature/", "logitscope.dynamics.CurvatureProbe"),
)


def _nothing_yet(panel: Panel) -> str:
    """What a panel of scalars says before it has any, and what would fill it."""
    tag = panel.tags[0] if panel.tags else "…"
    own = f'scope.scalar("{tag.replace("*", "…")}", value, step)'
    source = next((source for start, source in _FILLED_BY if tag.startswith(start)), own)
    return f"Nothing recorded yet.\n{source} fills this panel."


def _not_there(tags: Sequence[str], data: Data, what: str) -> str:
    """What a panel says that has nothing at a step: whether there is something later."""
    if any(len(data.steps(tag)) for tag in tags):
        return f"No {what} of {_listed(tags)} up to this step; the next one is later."
    return f"Nothing recorded yet: {_listed(tags)}."


def _listed(tags: Sequence[str]) -> str:
    return ", ".join(tags) if tags else "this panel: it names no tag"
