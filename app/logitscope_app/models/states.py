"""The frozen states that panels draw: everything a panel shows, nothing about how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from logitscope.record import Event, KnobInfo, Panel, RunInfo
    from logitscope_app.models.alerts import Alert
    from logitscope_app.models.inspect import Inspected
    from logitscope_app.models.series import Points
    from logitscope_app.models.timeline import Timeline
    from logitscope_app.models.verdict import Verdict

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class PanelState:
    """What every panel state has; ``message`` is shown when there is nothing to draw."""

    panel: Panel
    step: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across a plot at a figure that matters: upright at an x, otherwise level at a y."""

    label: str
    value: float
    upright: bool


@dataclass(frozen=True, slots=True)
class Guides:
    """What a plot shows beside its values: marks, and a stretch of heights that is shaded."""

    marks: tuple[Mark, ...] = ()
    band: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One line of a plot and its value at the cursor."""

    tag: str
    label: str
    points: Points
    at: tuple[int, float] | None
    run: int = 0
    """0 is the run that is shown; from 1 on those that it is compared with."""
    dashed: bool = False
    """Whether it is what the others are held against, such as what theory says."""


@dataclass(frozen=True, slots=True, eq=False)
class LinesState(PanelState):
    """Curves over the step, those of compared runs last.

    ``ordered`` when they are a row (layers, heads) and colours should say so.
    """

    curves: tuple[Curve, ...] = ()
    ordered: bool = False
    guides: Guides = field(default_factory=Guides)
    piles: tuple[Points, ...] = ()
    """Where the curves are parts of a whole: each on top of those before it."""
    span: tuple[int, int] | None = None
    """The steps that are drawn at least, so that the curves of a run lie below each other."""


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """Points (n,) of the plane that belong together."""

    tag: str
    label: str
    x: FloatArray
    y: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class ScatterState(PanelState):
    """Clouds of points; those of a spectrum are its values from the largest down, over their number."""

    clouds: tuple[Cloud, ...] = ()
    joined: bool = False
    """Whether a line goes through the points of a cloud."""
    log_x: bool = False
    log_y: bool = False
    guides: Guides = field(default_factory=Guides)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of each bar, all in one colour."""

    label: str
    tags: tuple[str, ...]
    """Of each bar; empty for one that has no such part."""
    heights: FloatArray
    """Of each bar; NaN for one that has no such part."""


@dataclass(frozen=True, slots=True, eq=False)
class BarsState(PanelState):
    """Bars and their parts at one step."""

    names: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    stacked: bool = False
    """Whether the parts of a bar lie on each other, as those of a whole, or beside each other."""
    guides: Guides = field(default_factory=Guides)


@dataclass(frozen=True, slots=True, eq=False)
class HeatmapState(PanelState):
    """One matrix; its colours reach over ``limits`` if there are any, otherwise over what is in it."""

    tag: str = ""
    values: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageState(PanelState):
    """A picture."""

    tag: str = ""
    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 4), np.uint8))
    """(rows, columns, red, green, blue and opacity)."""


@dataclass(frozen=True, slots=True, eq=False)
class HeadsState(PanelState):
    """Attention maps of all layers and heads, with the figures known for each head."""

    tag: str = ""
    maps: FloatArray = field(default_factory=lambda: np.empty((0, 0, 0, 0)))
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    figures: tuple[tuple[str, FloatArray], ...] = ()
    """Name and (layers, heads) array of each figure, such as entropy."""
    others: tuple[tuple[str, FloatArray], ...] = ()
    """Name and maps of each run that this one is compared with, those of the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """How a distribution has moved: shares of the values by bin, the highest bin first, and moment."""

    shares: FloatArray = field(default_factory=lambda: np.empty((0, 0)))  # (bins, moments)
    edges: FloatArray = field(default_factory=lambda: np.empty(0))  # (bins + 1,), from the highest down
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class HistogramState(PanelState):
    """Counts between edges."""

    tag: str = ""
    edges: FloatArray = field(default_factory=lambda: np.empty(0))
    counts: FloatArray = field(default_factory=lambda: np.empty(0))
    curve: FloatArray = field(default_factory=lambda: np.empty((2, 0)))
    """(2, n) points of a curve that is drawn over the counts, in a scale of its own."""
    guides: Guides = field(default_factory=Guides)
    history: History = field(default_factory=History)


@dataclass(frozen=True, slots=True, eq=False)
class WhatIfState(PanelState):
    """Queries (layers, heads, rows, size) and keys of a moment, to compute attention from anew."""

    query: FloatArray = field(default_factory=lambda: np.empty((0, 0, 0, 0)))
    key: FloatArray = field(default_factory=lambda: np.empty((0, 0, 0, 0)))
    labels: tuple[str, ...] = ()
    causal: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class TextState(PanelState):
    """A text."""

    tag: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class VerdictState(PanelState):
    """What an experiment found; ``tag`` is that of the verdict in words."""

    tag: str = ""
    words: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """One tag in figures."""

    label: str
    tag: str
    at: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class TableState(PanelState):
    """Tags in figures, one a row."""

    rows: tuple[TableRow, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """All that the window shows of one run at one moment; the follower makes it, the panels draw it."""

    info: RunInfo
    timeline: Timeline
    step: int | None
    """The step shown; None while nothing has been recorded."""
    live: bool
    """Whether the newest step is followed."""
    panels: tuple[PanelState, ...]
    events: tuple[Event, ...]
    knobs: tuple[KnobInfo, ...]
    alerts: tuple[Alert, ...] = ()
    """What the figures show to go wrong, in the order of the steps."""
    inspected: tuple[Inspected, ...] = ()
    """Every tag in figures at the step."""
    notice: str = ""
    """A problem to show without taking the picture away, such as a deleted file."""
    request: int = 0
    """The number of the last request that this frame answers."""
