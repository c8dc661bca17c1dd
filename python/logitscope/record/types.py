"""What a run file holds, as plain frozen values: the words that recorder, readers and dashboard share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

TagKind = Literal["scalar", "array", "histogram", "text"]
PanelKind = Literal[
    "lines",
    "bars",
    "heatmap",
    "heads",
    "histogram",
    "spectrum",
    "scatter",
    "image",
    "table",
    "text",
    "what-if",
]
RunStatus = Literal["running", "finished", "failed", "stopped"]
"""``stopped``: the writing process is gone without having said how it ended (killed, power cut)."""
EventLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as a whole."""

    path: Path
    run_id: str
    name: str
    status: RunStatus
    created: float
    """Seconds since the epoch."""
    updated: float
    """When the file was last written, in seconds since the epoch."""
    last_step: int | None
    """The highest step recorded; None while there is none."""
    message: str = ""
    """How it ended, when it did not end well."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """What the training said of itself: model, data, versions."""


@dataclass(frozen=True, slots=True)
class TagInfo:
    """One recorded quantity; ``loss/train`` lies in the folder ``loss``."""

    name: str
    kind: TagKind
    count: int
    """Values recorded so far."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Points of a scalar tag in the order in which they were written."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]
    """Seconds since the epoch."""
    last_row: int
    """Pass it as ``after_row`` to read only what was written since."""


@dataclass(frozen=True, slots=True, eq=False)
class StepArray:
    """An array and the step at which it was recorded."""

    step: int
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class StepText:
    """A text and the step at which it was recorded."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """How tags are drawn, as data in the run file, so that a viewer needs none of the run's code.

    ``tags`` may hold patterns (``grad_norm/*``). A ``heads`` panel shows an array of shape (layers, heads, rows,
    columns); ``entropy`` and ``max_logit`` beside it, shape (layers, heads), are written on its tiles and ``tokens``
    beside it labels its axes. A ``scatter`` panel shows arrays (2, n) of points, x above y, a colour a tag; a
    ``spectrum`` panel arrays of any shape, their values from the largest down over 1, 2, 3 ... A ``bars`` panel shows
    scalars at one step: of the tag ``time/two_pass/sum`` the bar ``two_pass`` and its part ``sum``, a colour a part.
    An ``image`` panel shows an array (rows, columns) or (rows, columns, colours), colours 1 to 4, the second or fourth
    being opacity: integers from 0 to 255, other numbers from 0 to 1.

    Options by kind:

    - lines, scatter, spectrum: ``log_x``, ``log_y`` (both true for a spectrum unless they say otherwise)
    - bars: ``stacked`` for parts of a whole
    - lines: ``dashed``, patterns of tags that others are held against; ``stacked`` for parts of a whole, as areas on
      each other
    - scatter: ``joined``, to draw a line through the points of a tag
    - heatmap and heads: ``log``, ``row_labels_tag`` and ``col_labels_tag`` (text tags with a JSON list of strings);
      heatmap: ``limits``, the two values at the ends of the colours
    - histogram: ``curve_tag``, an array (2, n) that is drawn over it in a scale of its own
    - lines, bars, scatter, spectrum, histogram: ``x_marks`` and ``y_marks``, dotted lines: a label and a number, or a
      label and a scalar tag whose value at the step shown is taken; ``y_band``, two heights between which is shaded
    """

    title: str
    kind: PanelKind
    tags: tuple[str, ...]
    group: str = ""
    """The view it belongs to: ``Attention``, ``Logit scaling``, ``Training``, ``Text`` or one of its own."""
    x_label: str = "step"
    y_label: str = ""
    notes: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a message at a step."""

    row: int
    step: int | None
    time: float
    level: EventLevel
    message: str


@dataclass(frozen=True, slots=True)
class KnobInfo:
    """A value that the viewer sets and the training reads at its next step."""

    name: str
    default: float
    low: float
    high: float
    value: float
    """What the viewer asks for now."""
    applied: float
    """What the training last read; differs from ``value`` until its next step."""
    log: bool = False
    """Whether a slider over it should be logarithmic."""
    notes: str = ""
