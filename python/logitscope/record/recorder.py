"""What a training calls: `start` makes a run file, `Recorder` writes into it and is never in the way."""

from __future__ import annotations

import atexit
import json
import math
import operator
import struct
import sys
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from logitscope.errors import ArgumentError
from logitscope.record import codec, schema
from logitscope.record.arguments import check_step, check_text, plain, to_number, to_numpy
from logitscope.record.knob import Knob, KnobBoard
from logitscope.record.log_writer import LogWriter
from logitscope.record.network import is_on_network
from logitscope.record.outbox import Row
from logitscope.record.place import reserve
from logitscope.record.process import this_process
from logitscope.record.ranks import this_rank
from logitscope.record.types import EventLevel, Panel, PanelKind
from logitscope.record.writer import Writer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from logitscope.record.outbox import Outbox
    from logitscope.record.types import RunStatus, TagKind
    from logitscope.record.watch import Watch

_ONE = struct.Struct("<d")
MAX_BINS = 1 << 20


def start(
    name: str,
    *,
    path: str | os.PathLike[str] | None = None,
    meta: Mapping[str, object] | None = None,
    buffer: int = 4096,
    storage: Literal["auto", "database", "log"] = "auto",
) -> Recorder:
    """Begin a run and its file.

    Parameters
    ----------
    name
        What the run list shows.
    path
        The file to make, which must not exist yet. By default ``runs/<name>-<time>.scope`` under the working
        directory, or in the directory that the environment variable ``LOGITSCOPE_RUNS`` names.
    meta
        What the training says of itself: model, data, versions. Values are kept as text.
    buffer
        How many calls wait in memory while the file cannot be written; arrays never wait.
    storage
        ``"database"`` is an SQLite file. ``"log"`` only grows and needs no locks: right for network disks, but its
        knobs cannot be turned. ``"auto"`` takes the log where the file lies on a network disk.

    A process that is one of several (torchrun, Slurm) writes a file of its own, its rank in the name; a rank that is
    started again writes another. `open_run` shows them as one.

    Returns
    -------
    Recorder
        To be used in a ``with`` block, or ended by its `Recorder.finish`.

    Raises
    ------
    RunFileError
        When ``path`` exists already. A directory that cannot be written raises nothing: the run goes on
        unrecorded, one warning is logged, and writing is tried again from time to time.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     for step in range(3):
    ...         scope.scalar("loss/train", 4.5 / (step + 1), step)
    >>> with record.RunReader(scope.path) as run:
    ...     run.scalars("loss/train").values.tolist()
    [4.5, 2.25, 1.5]
    """
    check_text("start", "name", name, schema.MAX_TAG_CHARACTERS)
    if not operator.index(buffer) >= 0:
        message = f"start: buffer is {buffer}; give how many calls may wait in memory, 0 or more"
        raise ArgumentError(message)
    if storage not in ("auto", "database", "log"):
        message = f"start: storage is {storage!r}; use auto, database or log"
        raise ArgumentError(message)
    rank = this_rank()
    chosen = reserve(name, path, rank)
    log = storage == "log" or (storage == "auto" and is_on_network(chosen))
    notes = {**(meta or {}), **(rank.meta() if rank else {})}
    return Recorder(name, chosen, notes, buffer=buffer, log=log)


class Recorder:
    """Writes one run. Made by `start`; thread safe; does nothing in a forked child.

    A call that has returned survives ``kill -9`` of the process. No call but `sync` waits for the disk, and none
    raises for what the disk, the viewer or the system does: see `dropped` and `waiting`. What is wrong with the
    arguments themselves raises.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> with record.start("example", path=tempfile.mkdtemp() + "/example.scope") as scope:
    ...     scope.scalars({"loss/train": 4.5, "learning_rate": 1e-3}, step=0)
    ...     scope.histogram("weights", [0.1, -0.2, 0.3], step=0)
    ...     scope.event("first step done", step=0)
    >>> scope.dropped, scope.waiting
    ({}, 0)
    """

    def __init__(
        self, name: str, path: Path, meta: Mapping[str, object], *, buffer: int, log: bool = False
    ) -> None:
        process = this_process()
        self.name = name
        self.run_id = uuid.uuid4().hex
        notes = json.dumps({str(key): plain(str(value)) for key, value in meta.items()})
        run = (self.run_id, plain(name), time.time(), notes, process.host, process.pid, process.started)
        self._writer: Outbox = (LogWriter if log else Writer)(path, run, buffer=buffer)
        self._knobs = KnobBoard(self._writer)
        self._tags: dict[str, tuple[int, TagKind]] = {}
        self._tag_sets: dict[tuple[str, ...], tuple[int, struct.Struct]] = {}
        self._panels: dict[tuple[str, str], int] = {}
        self._ended = False
        self.clock: Callable[[], float] = time.time
        """Seconds since the epoch, for what is recorded; replaced by who records what has happened long ago."""
        atexit.register(self._finish_at_exit)

    @property
    def path(self) -> Path:
        """The run file."""
        return self._writer.path

    @property
    def dropped(self) -> dict[str, int]:
        """How many values of each kind could not be written and are lost; empty when all went well."""
        return dict(self._writer.dropped)

    @property
    def waiting(self) -> int:
        """How many calls are in memory only, until the file can be written again; 0 when all went well."""
        return self._writer.waiting

    @property
    def lost_files(self) -> int:
        """How often the run file was deleted or replaced while it was written; looked at once a second."""
        return self._writer.lost_files

    def scalar(self, tag: str, value: Any, step: int) -> None:
        """Record a number: a Python, NumPy or torch scalar; NaN and infinities are kept as they are."""
        known = self._tag_sets.get((tag,))
        if known is None or type(step) is not int or not 0 <= step < 1 << 63:
            self.scalars({tag: value}, step)
            return
        number = value if type(value) is float else to_number("scalars", tag, value)
        self._writer.scalars(step, self.clock(), known[0], _ONE.pack(number))

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Record several numbers of one step; cheaper than as many calls of `scalar`."""
        if not values:
            return
        step = check_step("scalars", step)
        names = tuple(values)
        tag_set, packer = self._tag_sets.get(names) or self._make_tag_set(names)
        numbers = [
            value if type(value) is float else to_number("scalars", tag, value)
            for tag, value in values.items()
        ]
        self._writer.scalars(step, self.clock(), tag_set, packer.pack(*numbers))

    def array(self, tag: str, array: Any, step: int) -> None:
        """Record an array of numbers or booleans, exactly; NumPy, torch, or what NumPy makes an array of."""
        self.arrays({tag: array}, step)

    def arrays(self, values: Mapping[str, Any], step: int) -> None:
        """Record several arrays of one step, all or none; cheaper than as many calls of `array`."""
        rows = [
            self._array_row("array", tag, to_numpy("array", tag, array), step)
            for tag, array in values.items()
        ]
        self._writer.write_all(rows)

    def histogram(self, tag: str, values: Any, step: int, *, bins: int = 64) -> None:
        """Record how values are distributed: counts in ``bins`` equal parts from the lowest to the highest.

        Values that are not finite are not counted; an event says how many there were.
        """
        if not 1 <= operator.index(bins) <= MAX_BINS:
            message = f"histogram: bins is {bins} for {tag!r}; give 1..{MAX_BINS}"
            raise ArgumentError(message)
        flat = to_numpy("histogram", tag, values).ravel().astype(np.float64)
        finite = flat[np.isfinite(flat)]
        counts, edges = (
            np.histogram(finite, bins=bins) if len(finite) else (np.zeros(bins), np.linspace(0, 1, bins + 1))
        )
        table = np.stack([edges, np.append(counts, 0)]).astype(np.float64)
        self._writer.write(self._array_row("histogram", tag, table, step))
        if len(finite) < len(flat):
            bad = len(flat) - len(finite)
            self.event(
                f"histogram {tag}: {bad} of {len(flat)} values are not finite", step=step, level="warning"
            )

    def counts(self, tag: str, edges: Any, counts: Any, step: int) -> None:
        """Record a histogram that is counted already: ``counts`` between one ``edges`` more than there are counts."""
        edges, counts = (to_numpy("counts", tag, part).ravel().astype(np.float64) for part in (edges, counts))
        if len(edges) != len(counts) + 1 or not len(counts):
            message = f"counts: {tag!r} has {len(edges)} edges and {len(counts)} counts; give one edge more than counts"
            raise ArgumentError(message)
        table = np.stack([edges, np.append(counts, 0)])
        self._writer.write(self._array_row("histogram", tag, table, step))

    def text(self, tag: str, text: str, step: int) -> None:
        """Record a text, such as a sample that the model wrote."""
        check_text("text", "text", text, schema.MAX_TEXT_CHARACTERS, empty=True)
        step, number = check_step("text", step), self._tag(tag, "text", "text")
        self._writer.write(Row("texts", "text", 1, step, (step, self.clock(), number), plain(text)))

    def event(self, message: str, *, step: int | None = None, level: EventLevel = "info") -> None:
        """Record that something happened; ``level`` is info, warning or error."""
        check_text("event", "message", message, schema.MAX_TEXT_CHARACTERS)
        if level not in get_args(EventLevel):
            message = f"event: level is {level!r}; use info, warning or error"
            raise ArgumentError(message)
        at = None if step is None else check_step("event", step)
        self._writer.write(Row("events", "event", 1, at, (at, self.clock(), level, plain(message))))

    def panel(
        self,
        title: str,
        kind: PanelKind,
        tags: Sequence[str],
        *,
        group: str = "",
        x_label: str = "step",
        y_label: str = "",
        notes: str = "",
        **options: Any,
    ) -> None:
        """Say how tags are to be drawn; see `Panel`. The same title in the same group replaces the panel."""
        check_text("panel", "title", title, schema.MAX_TAG_CHARACTERS)
        if kind not in get_args(PanelKind):
            message = f"panel: kind is {kind!r} in {title!r}; use one of {', '.join(get_args(PanelKind))}"
            raise ArgumentError(message)
        if isinstance(tags, str):
            message = f"panel: tags is a string in {title!r}; give a list of tags, such as [{tags!r}]"
            raise ArgumentError(message)
        panel = Panel(title, kind, tuple(tags), group, x_label, y_label, notes, options)
        try:
            spec = json.dumps(asdict(panel), allow_nan=False)
        except (TypeError, ValueError) as error:
            message = f"panel: options of {title!r} cannot be kept ({error}); use what JSON knows"
            raise ArgumentError(message) from error
        number = self._panels.setdefault((group, title), len(self._panels) + 1)
        self._writer.declare(("panel", number), "panels", (number, spec, schema.checksum((number, spec))))
        self._writer.write()

    def knob(
        self, name: str, default: float, low: float, high: float, *, log: bool = False, notes: str = ""
    ) -> Knob:
        """Offer the viewer a slider; read it at each step through ``knob.value`` or ``float(knob)``.

        Parameters
        ----------
        name
            What the slider is called.
        default, low, high
            Its first value and its ends, all finite.
        log
            Whether the slider is logarithmic; both ends must be positive then.
        notes
            What it does, for the tooltip.

        Returns
        -------
        Knob
            Follows the viewer, clamped to ``low`` .. ``high``.
        """
        check_text("knob", "name", name, schema.MAX_TAG_CHARACTERS)
        if name in self._knobs:
            message = f"knob: {name!r} exists already in this run; keep the Knob of the first call"
            raise ArgumentError(message)
        default, low, high = (to_number("knob", name, value) + 0.0 for value in (default, low, high))
        if not (math.isfinite(low) and math.isfinite(high) and low <= default <= high and low < high):
            message = (
                f"knob: {name!r} starts at {default} in {low}..{high}; use low <= default <= high, low < high"
            )
            raise ArgumentError(message)
        if log and low <= 0:
            message = f"knob: {name!r} is logarithmic and starts at {low}; use low > 0"
            raise ArgumentError(message)
        return self._knobs.add(plain(name), default, low, high, log=log, notes=plain(notes))

    def watch(self, model: Any, **options: Any) -> Watch:
        """Record what happens inside a model; the options are those of `logitscope.record.watch.watch`."""
        from logitscope.record.watch import watch

        return watch(model, self, **options)

    def sync(self) -> None:
        """Have all that was recorded reach the disk, to survive a power cut; waits for the disk."""
        self._writer.sync()

    def finish(self) -> None:
        """End the run well."""
        self._end("finished", "")

    def fail(self, message: str) -> None:
        """End the run and say why."""
        self._end("failed", message)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(*_ending(error))

    def __repr__(self) -> str:
        return f"Recorder({self.name!r}, {str(self.path)!r})"

    def _end(self, status: RunStatus, message: str) -> None:
        if not self._ended:
            self._ended = True
            self._writer.close(status, plain(message))
            atexit.unregister(self._finish_at_exit)

    def _finish_at_exit(self) -> None:
        shell = hasattr(sys, "ps1")  # there the last error is of any earlier line
        self._end(*_ending(None if shell else getattr(sys, "last_value", None)))

    def _array_row(self, kind: TagKind, tag: str, array: NDArray[Any], step: int) -> Row:
        step, number = check_step(kind, step), self._tag(tag, kind, kind)
        dtype, shape, name, data = codec.encode(array)
        return Row("arrays", kind, 1, step, (step, self.clock(), number, dtype, shape, name), data)

    def _tag(self, tag: str, kind: TagKind, operation: str) -> int:
        known = self._tags.get(tag) or self._make_tag(tag, kind, operation)
        if known[1] != kind:
            message = (
                f"{operation}: tag {tag!r} holds values of kind {known[1]}; use another tag for a {kind}"
            )
            raise ArgumentError(message)
        return known[0]

    def _make_tag(self, tag: str, kind: TagKind, operation: str) -> tuple[int, TagKind]:
        check_text(operation, "tag", tag, schema.MAX_TAG_CHARACTERS)
        with self._writer.lock:
            if tag not in self._tags:
                values = (len(self._tags) + 1, plain(tag), kind)
                self._writer.declare(("tag", values[0]), "tags", (*values, schema.checksum(values)))
                self._tags[tag] = values[0], kind
            return self._tags[tag]

    def _make_tag_set(self, names: tuple[str, ...]) -> tuple[int, struct.Struct]:
        tags = json.dumps([self._tag(name, "scalar", "scalars") for name in names])
        with self._writer.lock:
            if names not in self._tag_sets:
                values = (len(self._tag_sets) + 1, tags)
                self._writer.declare(("tag set", values[0]), "tag_sets", (*values, schema.checksum(values)))
                self._tag_sets[names] = values[0], struct.Struct(f"<{len(names)}d")
            return self._tag_sets[names]


def _ending(error: BaseException | None) -> tuple[RunStatus, str]:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "finished", ""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "interrupted from the keyboard"
    if isinstance(error, SystemExit):
        return "failed", f"exit: {error.code}"
    return "failed", f"{type(error).__name__}: {error}"
