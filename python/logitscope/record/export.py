"""Runs in the formats of other programs: CSV, Parquet, TensorBoard's event files."""

from __future__ import annotations

import csv
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import DeviceError, RunFileError
from logitscope.record.merged import open_run

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from logitscope.record.types import Series, TagInfo

FORMATS = ("csv", "parquet", "tensorboard")
_COLUMNS = ("tag", "step", "time", "value")


def export_run(
    run: str | os.PathLike[str], target: str | os.PathLike[str], *, format: str = "csv"
) -> dict[str, int]:
    """Write a run in another format.

    Parameters
    ----------
    run
        A run file; of several ranks, one of them stands for all.
    target
        The file to make, or for ``"tensorboard"`` the directory.
    format
        ``"csv"`` and ``"parquet"`` hold the scalars as rows of tag, step, time and value; ``"tensorboard"`` holds
        scalars, histograms and texts. Parquet and TensorBoard need ``pip install logitscope[export]``.

    Returns
    -------
    dict of str to int
        How many values of each kind were written, and how many were left out as ``"left out"``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from logitscope import record
    >>> directory = Path(tempfile.mkdtemp())
    >>> with record.start("example", path=directory / "example.scope") as scope:
    ...     scope.scalar("loss/train", 4.5, step=0)
    >>> record.export_run(scope.path, directory / "example.csv")
    {'scalar': 1}
    >>> (directory / "example.csv").read_text().splitlines()[0]
    'tag,step,time,value'
    """
    writers: dict[str, Callable[[Any, Path], dict[str, int]]] = {
        "csv": _write_csv,
        "parquet": _write_parquet,
        "tensorboard": _write_tensorboard,
    }
    if format not in writers:
        message = f"export_run: format is {format!r}; use {', '.join(FORMATS)}"
        raise RunFileError(message)
    with open_run(run) as reader:
        try:
            return {kind: count for kind, count in writers[format](reader, Path(target)).items() if count}
        except OSError as error:
            if isinstance(error, RunFileError):
                raise
            message = (
                f"export_run: {target} cannot be written ({error.strerror or error}); name another place"
            )
            raise RunFileError(message) from error


_PACKAGES = {"wandb": "wandb", "PIL": "pillow"}
"""What is installed for a module that no extra brings."""


def needed(module: str, what: str) -> Any:
    """Import a module of another package; DeviceError that says how to get it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        extra = _PACKAGES.get(package, "logitscope[export]")
        message = f"{what}: needs {error.name}; use pip install {extra}"
        raise DeviceError(message) from None


def _scalars(reader: Any) -> Iterator[tuple[TagInfo, Series]]:
    for tag in reader.tags():
        if tag.kind == "scalar":
            yield tag, reader.scalars(tag.name)


def _left_out(reader: Any, kinds: Sequence[str]) -> int:
    return sum(tag.count for tag in reader.tags() if tag.kind not in kinds)


def _write_csv(reader: Any, target: Path) -> dict[str, int]:
    count = 0
    with target.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for tag, series in _scalars(reader):
            columns = (series.steps.tolist(), series.times.tolist(), series.values.tolist())
            table.writerows((tag.name, *row) for row in zip(*columns, strict=True))
            count += len(series.steps)
    return {"scalar": count, "left out": _left_out(reader, ("scalar",))}


def _write_parquet(reader: Any, target: Path) -> dict[str, int]:
    arrow, parquet = (needed(name, "export to Parquet") for name in ("pyarrow", "pyarrow.parquet"))
    found = list(_scalars(reader))
    names = [tag.name for tag, series in found for _ in range(len(series.steps))]
    columns = [
        np.concatenate([np.empty(0, dtype), *(getattr(series, name) for _, series in found)])
        for name, dtype in (("steps", np.int64), ("times", np.float64), ("values", np.float64))
    ]
    tags = arrow.array(names, arrow.string()).dictionary_encode()
    table = arrow.table([tags, *map(arrow.array, columns)], names=_COLUMNS)
    parquet.write_table(table.replace_schema_metadata({"run": reader.info.name}), str(target))
    return {"scalar": len(names), "left out": _left_out(reader, ("scalar",))}


def _write_tensorboard(reader: Any, target: Path) -> dict[str, int]:
    what = "export to TensorBoard"
    files = needed("tensorboard.summary.writer.event_file_writer", what)
    events = needed("tensorboard.compat.proto.event_pb2", what)
    summaries = needed("tensorboard.compat.proto.summary_pb2", what)
    texts = needed("tensorboard.plugins.text.metadata", what)
    tensors = needed("tensorboard.util.tensor_util", what)
    counts = {"scalar": 0, "histogram": 0, "text": 0}
    writer = files.EventFileWriter(str(target))

    def add(kind: str, step: int, time: float, **value: Any) -> None:
        counts[kind] += 1
        summary = summaries.Summary(value=[summaries.Summary.Value(**value)])
        writer.add_event(events.Event(step=step, wall_time=time, summary=summary))

    try:
        for tag, series in _scalars(reader):
            columns = (series.steps.tolist(), series.times.tolist(), series.values.tolist())
            for step, time, value in zip(*columns, strict=True):
                add("scalar", step, time, tag=tag.name, simple_value=value)
        for tag in reader.tags():
            if tag.kind not in ("histogram", "text"):
                continue
            for step in np.unique(reader.steps(tag.name)).tolist():
                if tag.kind == "histogram":
                    value = _histogram(summaries, reader.array(tag.name, step).array)
                    add("histogram", step, reader.info.updated, tag=tag.name, histo=value)
                else:
                    proto = tensors.make_tensor_proto(np.array([reader.text(tag.name, step).text], object))
                    described = texts.create_summary_metadata(display_name=tag.name, description="")
                    add("text", step, reader.info.updated, tag=tag.name, metadata=described, tensor=proto)
    finally:
        writer.close()
    return {**counts, "left out": _left_out(reader, ("scalar", "histogram", "text"))}


def _histogram(summaries: Any, array: Any) -> Any:
    """TensorBoard's histogram: each bucket by its right edge; the sums are those of the buckets' middles."""
    edges, counts = array[0].tolist(), array[1, :-1].tolist()
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    pairs = list(zip(counts, middles, strict=True))
    return summaries.HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=sum(counts),
        sum=sum(count * middle for count, middle in pairs),
        sum_squares=sum(count * middle**2 for count, middle in pairs),
        bucket_limit=edges[1:],
        bucket=counts,
    )
