"""The runs of all ranks of a job as one: means, and which rank holds the extremes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from logitscope.errors import RunFileError
from logitscope.record.ranks import Rank, rank_of
from logitscope.record.reader import RunReader
from logitscope.record.types import Event, KnobInfo, Panel, RunInfo, Series, StepArray, StepText, TagInfo

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from logitscope.record.types import RunStatus

_LOOK_EVERY = 5.0
FOLDER = "ranks"
FIGURES = ("min", "max", "spread", "rank_of_max")
"""Beside the mean, in the folder ``ranks/<tag>``; the spread is the standard deviation over the ranks."""
_MESSAGE = "no run file of rank {}: it has not begun, or writes elsewhere"


def open_run(path: str | os.PathLike[str]) -> RunReader | MergedReader:
    """Open a run; when it is one rank's, all ranks of its job whose files lie beside it, as one.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> scope = record.start("example", path=tempfile.mkdtemp() + "/example.scope")
    >>> with record.open_run(scope.path) as run:
    ...     type(run).__name__
    'RunReader'
    >>> scope.finish()
    """
    run = RunReader(path)
    rank = rank_of(run.info.meta)
    if rank is None:
        return run
    return MergedReader(run)


def _others(first: RunReader, known: Iterable[Path]) -> Iterator[RunReader]:
    """Readers of the files of the same job that lie beside one."""
    for path in sorted(set(first.path.absolute().parent.glob("*.scope")) - set(known)):
        with contextlib.suppress(RunFileError):
            candidate = RunReader(path)
            if _job(candidate.info) == _job(first.info):
                yield candidate
            else:
                candidate.close()


def leaders(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Runs without those of other ranks than the lowest of each job, and of its segments the first."""
    best: dict[tuple[str, ...], RunInfo] = {}
    for info in runs:
        key = _job(info)
        if key is not None and (key not in best or _order(info) < _order(best[key])):
            best[key] = info
    return [info for info in runs if (key := _job(info)) is None or best[key] is info]


def _job(info: RunInfo) -> tuple[str, ...] | None:
    rank = rank_of(info.meta)
    return None if rank is None else (info.name, rank.job, str(rank.world_size))


def _order(info: RunInfo) -> tuple[int, int, float]:
    rank = _rank(info)
    return rank.rank, rank.restart, info.created


def _rank(info: RunInfo) -> Rank:
    return rank_of(info.meta) or Rank(0, 1, "")


@dataclass(slots=True)
class _Merged:
    """What has been merged of a scalar tag: only steps that every living rank has passed, so it only grows."""

    steps: list[NDArray[np.int64]] = field(default_factory=list)
    figures: list[NDArray[np.float64]] = field(default_factory=list)  # (1 + len(FIGURES), n) each
    times: list[NDArray[np.float64]] = field(default_factory=list)
    done: int = -1
    count: int = 0


class MergedReader:
    """All ranks of a job; made by `open_run`, read like a `RunReader`.

    A scalar tag is the mean over the ranks that have it; ``ranks/<tag>/min``, ``max``, ``spread`` and ``rank_of_max``
    lie beside it. A NaN of one rank is a NaN of the mean. A step is merged once every rank that still runs has passed
    it; of segments of one rank (elastic restarts) the later one counts. Arrays and texts are those of the lowest rank.
    A rank without a file is named in an event and in ``info.meta``.

    Examples
    --------
    >>> import os, tempfile
    >>> from logitscope import record
    >>> os.environ.update(RANK="0", WORLD_SIZE="2", MASTER_ADDR="here")
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     scope.scalar("loss/train", 4.5, step=0)
    >>> with record.open_run(scope.path) as run:
    ...     run.missing, run.scalars("ranks/loss/train/max").values.tolist()
    ([1], [4.5])
    >>> for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
    ...     del os.environ[name]
    """

    def __init__(self, first: RunReader) -> None:
        self.path: Path = first.path
        self._runs = [first]
        self._tags: dict[str, _Merged] = {}
        self._events: list[Event] = []
        self._seen: dict[Path, int] = {}
        self._look_at = 0.0
        self._look()
        for rank in self.missing:
            self._events.append(Event(len(self._events) + 1, None, 0.0, "warning", _MESSAGE.format(rank)))
        self._merge()

    @property
    def missing(self) -> list[int]:
        """Ranks of which there is no file."""
        there = {_rank(run.info).rank for run in self._runs}
        return [rank for rank in range(_rank(self._runs[0].info).world_size) if rank not in there]

    @property
    def info(self) -> RunInfo:
        """The lowest rank's, with how all of them stand."""
        infos = [run.info for run in self._newest()]
        statuses = [info.status for info in infos]
        # The worst, so that a rank that is gone shows.
        order: tuple[RunStatus, ...] = ("failed", "stopped", "running", "finished")
        status = next(name for name in order if name in statuses)
        steps = [info.last_step for info in infos if info.last_step is not None]
        meta = {key: text for key, text in infos[0].meta.items() if key not in ("rank", "restart")}
        meta["missing ranks"] = ", ".join(map(str, self.missing)) or "none"
        told = [f"rank {_rank(info).rank}: {info.message}" for info in infos if info.message]
        return replace(
            infos[0],
            path=self.path,
            status=status,
            updated=max(info.updated for info in infos),
            last_step=max(steps, default=None),
            message="; ".join(told),
            meta=meta,
        )

    def poll(self) -> bool:
        """Take in what was written since the last time; whether anything changed."""
        changed = self._look()
        for run in self._runs:
            changed |= run.poll()
        if changed:
            self._merge()
        return changed

    def tags(self) -> list[TagInfo]:
        """Tags of all ranks, and the figures over the ranks of each scalar tag."""
        tags = [TagInfo(name, "scalar", merged.count) for name, merged in self._tags.items() if merged.count]
        tags += [
            TagInfo(f"{FOLDER}/{name}/{figure}", "scalar", merged.count)
            for name, merged in self._tags.items()
            for figure in FIGURES
            if merged.count
        ]
        pictures = {tag.name: tag for run in self._lead for tag in run.tags() if tag.kind != "scalar"}
        return tags + [replace(tag, count=len(self.steps(name))) for name, tag in pictures.items()]

    def scalars(self, tag: str, after_row: int = 0) -> Series:
        """Points of a scalar tag by step; a row is a merged step."""
        name, index = tag, 0
        if tag.startswith(f"{FOLDER}/"):
            name, _, figure = tag.removeprefix(f"{FOLDER}/").rpartition("/")
            index = 1 + FIGURES.index(figure) if figure in FIGURES else 0
        merged = self._tags.get(name)
        if merged is None:
            return self._runs[0].scalars(tag)  # tells which tags there are
        if not merged.count:
            empty = np.empty(0)
            return Series(np.empty(0, np.int64), empty, empty, after_row)
        part = slice(min(after_row, merged.count), None)
        return Series(
            np.concatenate(merged.steps)[part],
            np.concatenate(merged.figures, axis=1)[index, part],
            np.concatenate(merged.times)[part],
            merged.count,
        )

    def steps(self, tag: str) -> NDArray[np.int64]:
        """Steps at which a tag has values."""
        if tag in self._tags or tag.startswith(f"{FOLDER}/"):
            return self.scalars(tag).steps
        found = [run.steps(tag) for run in self._holding(tag)]
        return np.unique(np.concatenate(found)) if found else self._runs[0].steps(tag)

    def array(self, tag: str, step: int | None = None) -> StepArray | None:
        """The lowest rank's newest array at or before a step."""
        found = (run.array(tag, step) for run in reversed(self._holding(tag)))
        return next((value for value in found if value is not None), None)

    def text(self, tag: str, step: int | None = None) -> StepText | None:
        """The lowest rank's newest text at or before a step."""
        found = (run.text(tag, step) for run in reversed(self._holding(tag)))
        return next((value for value in found if value is not None), None)

    def panels(self) -> list[Panel]:
        """The lowest rank's panels, and for each scalar tag the figures over the ranks and who has the largest."""
        *figures, rank = FIGURES
        panels = self._lead[-1].panels()
        for name in self._tags:
            tags = (name, *(f"{FOLDER}/{name}/{figure}" for figure in figures))
            panels.append(Panel(name, "lines", tags, "Ranks"))
            panels.append(
                Panel(f"{name}: rank of the largest", "lines", (f"{FOLDER}/{name}/{rank}",), "Ranks")
            )
        return panels

    def events(self, after_row: int = 0) -> list[Event]:
        """Events of all ranks as they were read."""
        return [event for event in self._events if event.row > after_row]

    def knobs(self) -> list[KnobInfo]:
        """The lowest rank's knobs."""
        return self._lead[-1].knobs()

    def set_knob(self, name: str, value: float) -> None:
        """Ask every rank for a value."""
        for run in self._newest():
            run.set_knob(name, value)

    def close(self) -> None:
        """Close all files."""
        for run in self._runs:
            run.close()

    def __enter__(self) -> MergedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _lead(self) -> list[RunReader]:
        """The segments of the lowest rank."""
        first = _rank(self._runs[0].info).rank
        return [run for run in self._runs if _rank(run.info).rank == first]

    def _holding(self, tag: str) -> list[RunReader]:
        return [run for run in self._lead if any(known.name == tag for known in run.tags())]

    def _look(self) -> bool:
        """Find files that have appeared, every few seconds; whether there are any."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_EVERY
        found = list(_others(self._runs[0], [run.path.absolute() for run in self._runs]))
        self._runs = sorted([*self._runs, *found], key=lambda run: _order(run.info))
        return bool(found)

    def _newest(self) -> list[RunReader]:
        """The last segment of each rank."""
        return list({_rank(run.info).rank: run for run in self._runs}.values())

    def _merge(self) -> None:
        for run in self._runs:
            for event in run.events(self._seen.get(run.path, 0)):
                self._seen[run.path] = event.row
                message = f"rank {_rank(run.info).rank}: {event.message}"
                self._events.append(replace(event, row=len(self._events) + 1, message=message))
        names = dict.fromkeys(tag.name for run in self._runs for tag in run.tags() if tag.kind == "scalar")
        for name in names:
            self._merge_tag(name, self._tags.setdefault(name, _Merged()))

    def _merge_tag(self, name: str, merged: _Merged) -> None:
        ranks: dict[int, dict[int, tuple[float, float]]] = {}
        passed: list[int] = []
        newest = self._newest()
        for run in self._runs:
            if not any(tag.name == name and tag.kind == "scalar" for tag in run.tags()):
                continue
            series = run.scalars(name)
            if run in newest and run.info.status == "running" and len(series.steps):
                passed.append(int(series.steps.max()))
            fresh = series.steps > merged.done
            points = zip(series.values[fresh].tolist(), series.times[fresh].tolist(), strict=True)
            ranks.setdefault(_rank(run.info).rank, {}).update(
                zip(series.steps[fresh].tolist(), points, strict=True)
            )
        last = min(passed, default=None)
        steps = sorted({step for found in ranks.values() for step in found if last is None or step <= last})
        if not steps:
            return
        order = sorted(ranks)
        table = np.full((len(order), len(steps)), np.nan)
        there = np.zeros(table.shape, bool)
        times = np.zeros(len(steps))
        for row, rank in enumerate(order):
            for column, step in enumerate(steps):
                if step in ranks[rank]:
                    table[row, column], time = ranks[rank][step]
                    there[row, column] = True
                    times[column] = max(times[column], time)
        merged.steps.append(np.array(steps, np.int64))
        merged.figures.append(_figures(table, there, np.array(order, np.float64)))
        merged.times.append(times)
        merged.done = steps[-1]
        merged.count += len(steps)


def _figures(
    table: NDArray[np.float64], there: NDArray[np.bool_], ranks: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean and `FIGURES` over the ranks that have a value; a NaN among them shows in each, its rank as the extreme."""
    bad = there & np.isnan(table)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, table, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(there, table - mean, 0.0) ** 2).sum(axis=0) / count)
    low = np.where(there, table, np.inf).min(axis=0)
    high = np.where(there, table, -np.inf).max(axis=0)
    extreme = np.where(there, np.where(bad, np.inf, table), -np.inf).argmax(axis=0)
    return np.stack([mean, low, high, spread, ranks[extreme]])
