"""One run as read so far: what a frame is made of. Used by one thread; its frames are frozen."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from logitscope.errors import LogitscopeError
from logitscope_app.models.alerts import Alert, Watchman
from logitscope_app.models.guides import further_tags
from logitscope_app.models.inspect import Inspected, Inspector
from logitscope_app.models.plan import HEAD_FIGURES, expand, label_tags, plan, sibling
from logitscope_app.models.resolve import resolve
from logitscope_app.models.series import Points, latest_index
from logitscope_app.models.states import Frame, LinesState, PanelState
from logitscope_app.models.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from logitscope.record import Event, KnobInfo, Panel, RunInfo, Series, StepArray, StepText, TagInfo

ARRAY_CACHE_BYTES = 128 << 20
EVENTS_KEPT = 5000
_OUTLINE_TAGS = ("loss/train", "loss/validation", "loss", "train/loss")


class Reader(Protocol):
    """The part of ``logitscope.record.RunReader`` that the dashboard reads through."""

    @property
    def info(self) -> RunInfo:
        """Name, status and so on, as of the last poll."""

    def tags(self) -> list[TagInfo]:
        """All tags."""

    def scalars(self, tag: str, after_row: int = 0) -> Series:
        """Points of a scalar tag written after a row."""

    def steps(self, tag: str) -> NDArray[np.int64]:
        """Steps at which a tag has values."""

    def array(self, tag: str, step: int | None = None) -> StepArray | None:
        """The newest array at or before a step."""

    def text(self, tag: str, step: int | None = None) -> StepText | None:
        """The newest text at or before a step."""

    def panels(self) -> list[Panel]:
        """Declared panels."""

    def events(self, after_row: int = 0) -> list[Event]:
        """Events written after a row."""

    def knobs(self) -> list[KnobInfo]:
        """Knobs with their values."""

    def set_knob(self, name: str, value: float) -> None:
        """Write a knob."""

    def poll(self) -> bool:
        """Whether anything changed since the last poll."""

    def close(self) -> None:
        """Close the file."""


class RunData:
    """Reads what is new in a run and makes frames of it; unchanged panels keep their very state object."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._tags: dict[str, TagInfo] = {}
        self._points: dict[str, Points] = {}
        self._rows: dict[str, int] = {}
        self._steps: dict[str, NDArray[np.int64]] = {}
        self._dimensions: dict[str, int] = {}
        self._arrays: OrderedDict[tuple[str, int, int], StepArray] = OrderedDict()
        self._events: tuple[Event, ...] = ()
        self._knobs: tuple[KnobInfo, ...] = ()
        self._panels: tuple[Panel, ...] = ()
        self._timeline = Timeline()
        self._watchman = Watchman()
        self._inspector = Inspector()
        self._inspection: tuple[tuple[int | None, int, int], tuple[Inspected, ...]] | None = None
        self._alerts: tuple[Alert, ...] = ()
        self._states: dict[int, tuple[tuple[Any, ...], PanelState]] = {}
        self._compared: tuple[RunData, ...] = ()

    def compare_with(self, others: Sequence[RunData]) -> None:
        """Draw the curves of other runs beside those of this one."""
        self._compared = tuple(others)

    @property
    def name(self) -> str:
        """What the run is called."""
        return self._reader.info.name

    def refresh(self) -> None:
        """Read what was written since the last time."""
        new_steps: list[NDArray[np.int64]] = []
        new_pictures: list[NDArray[np.int64]] = []
        for tag in self._reader.tags():
            if self._count(tag.name) == tag.count:
                continue
            self._tags[tag.name] = tag
            fresh = self._read_points(tag.name) if tag.kind == "scalar" else self._read_steps(tag.name)
            new_steps.append(fresh)
            if tag.kind in ("array", "histogram"):
                new_pictures.append(fresh)
        events = self._reader.events(self._events[-1].row if self._events else 0)
        self._events = (*self._events, *events)[-EVENTS_KEPT:]
        self._knobs = tuple(self._reader.knobs())
        self._panels = plan(self._reader.panels(), list(self._tags.values()), self._dimension)
        self._alerts = self._watchman.alerts(self._points, self._events)
        if new_steps:
            self._timeline = self._make_timeline(new_steps, new_pictures)

    def frame(self, step: int | None, *, request: int = 0) -> Frame:
        """The run at ``step`` (the newest for None), with the number of the request that this answers."""
        shown = self._timeline.last if step is None else step
        return Frame(
            info=self._reader.info,
            timeline=self._timeline,
            step=shown,
            live=step is None,
            panels=self._shown(
                [self._state(index, panel, shown) for index, panel in enumerate(self._panels)]
            ),
            events=self._events,
            alerts=self._alerts,
            inspected=self._inspected(shown),
            knobs=self._knobs,
            request=request,
        )

    def _shown(self, states: list[PanelState]) -> tuple[PanelState, ...]:
        """Without the curves that a run had none of, once it is over: waiting for them is in vain."""
        if self._reader.info.status == "running" or not len(self._timeline.steps):
            return tuple(states)
        return tuple(state for state in states if not (isinstance(state, LinesState) and state.message))

    def _inspected(self, step: int | None) -> tuple[Inspected, ...]:
        """Every tag in figures; the same object while nothing has changed."""
        key = (step, sum(tag.count for tag in self._tags.values()), len(self._tags))
        if self._inspection is None or self._inspection[0] != key:
            rows = []
            for tag in self._tags.values():
                if tag.kind == "scalar":
                    rows.append(self._inspector.scalar(tag, self.points(tag.name), step))
                else:
                    rows.append(Inspected(tag.name, tag.kind, tag.count, last=self._picture(tag.name, step)))
            self._inspection = key, tuple(rows)
        return self._inspection[1]

    def names(self) -> Sequence[str]:
        """All tags, in the order in which they appeared."""
        return list(self._tags)

    def points(self, tag: str) -> Points:
        """The scalar points of a tag; empty when it has none."""
        return self._points.get(tag) or Points.empty()

    def compared(self, tag: str) -> Sequence[tuple[str, Points]]:
        """Names and points of the runs that this one is compared with."""
        return [(other.name, other.points(tag)) for other in self._compared]

    def span(self) -> tuple[int, int] | None:
        """The steps that curves are drawn over at least."""
        return self._timeline.span

    def compared_arrays(self, tag: str, step: int | None) -> Sequence[tuple[str, StepArray]]:
        """Names and arrays of the runs that this one is compared with, of those that have one."""
        found = [(other.name, other.array(tag, step)) for other in self._compared]
        return [(name, array) for name, array in found if array is not None]

    def array(self, tag: str, step: int | None) -> StepArray | None:
        """The newest array at or before ``step``, from the cache where it was read before."""
        found = self._picture(tag, step)
        if found is None:
            return None
        key = (tag, found, self._count(tag))
        if key not in self._arrays:
            array = self._reader.array(tag, found)
            if array is None:
                return None
            self._arrays[key] = array
            self._shrink_cache()
        self._arrays.move_to_end(key)
        return self._arrays[key]

    def steps(self, tag: str) -> NDArray[np.int64]:
        """Steps at which a tag has arrays or texts."""
        return self._steps.get(tag, np.empty(0, np.int64))

    def text(self, tag: str, step: int | None) -> StepText | None:
        """The newest text at or before ``step``."""
        found = self._picture(tag, step)
        return None if found is None else self._reader.text(tag, found)

    def _count(self, tag: str) -> int:
        return self._tags[tag].count if tag in self._tags else 0

    def _picture(self, tag: str, step: int | None) -> int | None:
        steps = self._steps.get(tag)
        if steps is None:
            return None
        index = latest_index(steps, step)
        return None if index is None else int(steps[index])

    def _dimension(self, tag: str) -> int:
        if tag not in self._dimensions:
            array = self.array(tag, None)
            if array is None:
                return 0
            self._dimensions[tag] = array.array.ndim
        return self._dimensions[tag]

    def _shrink_cache(self) -> None:
        while (
            len(self._arrays) > 1 and sum(a.array.nbytes for a in self._arrays.values()) > ARRAY_CACHE_BYTES
        ):
            self._arrays.popitem(last=False)

    def _read_points(self, tag: str) -> NDArray[np.int64]:
        series = self._reader.scalars(tag, self._rows.get(tag, 0))
        self._rows[tag] = series.last_row
        self._points[tag] = self.points(tag).extended(series.steps, series.values)
        return series.steps

    def _read_steps(self, tag: str) -> NDArray[np.int64]:
        known = self._steps.get(tag, np.empty(0, np.int64))
        self._steps[tag] = steps = np.unique(self._reader.steps(tag))
        return steps[len(known) :] if np.array_equal(steps[: len(known)], known) else steps

    def _make_timeline(
        self, new_steps: Sequence[NDArray[np.int64]], new_pictures: Sequence[NDArray[np.int64]]
    ) -> Timeline:
        outline = next((tag for tag in _OUTLINE_TAGS if len(self.points(tag))), "")
        if not outline:
            outline = next((tag for tag in self._points if len(self._points[tag])), "")
        return Timeline(
            steps=_union(self._timeline.steps, new_steps),
            pictures=_union(self._timeline.pictures, new_pictures),
            outline=self.points(outline),
            outline_label=outline,
        )

    def _state(self, index: int, panel: Panel, step: int | None) -> PanelState:
        """The state of a panel, the same object as last time when nothing that it shows has changed."""
        follows = panel.kind in ("lines", "bars", "table") or further_tags(panel)
        followed = step if follows else None
        key: tuple[object, ...] = (panel, followed, *self._inputs(panel, step))
        if panel.kind == "lines":
            tags = expand(panel.tags, self.names()) if self._compared else ()
            compared = ((name, len(points)) for tag in tags for name, points in self.compared(tag))
            key = (*key, self.span(), *compared)
        if panel.kind == "heads" and panel.tags:
            key = (*key, *((other.name, other._picture(panel.tags[0], step)) for other in self._compared))
        known = self._states.get(index)
        if known is None or known[0] != key:
            known = (key, self._resolve(panel, step))
            self._states[index] = known
        return known[1]

    def _resolve(self, panel: Panel, step: int | None) -> PanelState:
        """The state of a panel; damage in the file takes away the panels that need it, not the others."""
        try:
            return resolve(panel, self, step)
        except LogitscopeError as error:
            return PanelState(panel, step, str(error))

    def _inputs(self, panel: Panel, step: int | None) -> list[tuple[str, int, int | None]]:
        tags = list(expand(panel.tags, self.names()))
        tags += [tag for tag in label_tags(panel) if tag]
        tags += further_tags(panel)
        if panel.kind == "heads" and panel.tags:
            tags += [sibling(panel.tags[0], name) for name in HEAD_FIGURES]
        return [(tag, self._count(tag), self._picture(tag, step)) for tag in tags]


def _union(known: NDArray[np.int64], parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The sorted steps of all, without repetition; steps that only grow cost what is new alone."""
    if not parts:
        return known
    fresh = np.unique(np.concatenate(parts))
    if not len(known):
        return fresh
    late, new = np.split(fresh, [np.searchsorted(fresh, known[-1], side="right")])
    if np.array_equal(known[np.searchsorted(known, late)], late):
        return np.concatenate([known, new])
    return np.union1d(known, fresh)
