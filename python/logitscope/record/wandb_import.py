"""Offline runs of W&B as runs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope.errors import RunFileError
from logitscope.record.export import needed
from logitscope.record.pictures import Pictures
from logitscope.record.recorder import start
from logitscope.record.sources import run_files
from logitscope.record.wandb_log import frames

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from logitscope.record.recorder import Recorder

FILES = "*.wandb"


def import_wandb(
    source: str | os.PathLike[str], directory: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Make run files of W&B's offline runs: scalars, histograms, texts and pictures, with their times.

    Pictures need ``pip install pillow``, and their files, which W&B leaves in ``files`` beside the run; without, an
    event says how many were left out.

    Parameters
    ----------
    source
        A ``run-*.wandb`` file, or a directory: all such files below it, as ``WANDB_MODE=offline`` leaves them.
    directory
        Where the run files go; by default where `start` puts them. Needs ``pip install wandb``.

    Returns
    -------
    list of Path
        The run files.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> try:
    ...     record.import_wandb(tempfile.mkdtemp())
    ... except record.RunFileError as error:
    ...     print(str(error)[:41])
    import_wandb: there is no *.wandb file in
    """
    files = run_files("import_wandb", source, FILES)
    return [_take(file, directory) for file in files]


def _take(file: Path, directory: str | os.PathLike[str] | None) -> Path:
    """Take over one run."""
    path = None if directory is None else Path(directory) / f"{file.stem}.scope"
    first = next((record.run for kind, record in _messages(file) if kind == "run"), None)
    meta = {"imported from": str(file)}
    name = file.stem
    if first is not None:
        name = first.display_name or first.run_id or name
        meta |= {item.key: item.value_json for item in first.config.update if not item.key.startswith("_")}
    with start(name, path=path, meta=meta) as scope:
        pictures = Pictures(scope)
        for kind, record in _messages(file):
            if kind == "history":
                _record(scope, pictures, file.parent / "files", record.history)
            elif kind == "exit" and record.exit.exit_code:
                scope.fail(f"exit: {record.exit.exit_code}")
        pictures.tell()
    return scope.path


def _record(scope: Recorder, pictures: Pictures, directory: Path, history: Any) -> None:
    """Record what was logged in one call."""
    values: dict[str, Any] = {}
    for item in history.item:
        keys = list(item.nested_key) or [item.key]
        inner = values
        for key in keys[:-1]:
            below = inner.setdefault(key, {})
            inner = below if isinstance(below, dict) else {}
        inner[keys[-1]] = _parsed(item.value_json)
    step = values.pop("_step", None)
    step = history.step.num if step is None else step
    if type(step) is not int or step < 0:
        return
    scope.clock = partial(float, values.pop("_timestamp", 0.0) or 0.0)
    scalars: dict[str, float] = {}
    for tag, value in _leaves(values):
        if isinstance(value, (int, float)):
            scalars[tag] = float(value)
        elif isinstance(value, str):
            scope.text(tag, value, step)
        elif names := _pictures(value):
            pictures.record(tag, [_inside(directory, name) for name in names], step)
        elif isinstance(value, dict):
            scope.counts(tag, value["bins"], value["values"], step)
    scope.scalars(scalars, step)


def _leaves(values: dict[str, Any], folder: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers, texts, histograms and pictures with their tags; tables and what W&B notes for itself are left out."""
    for key, value in values.items():
        tag = f"{folder}{key}"
        if key.startswith("_") or not key:
            continue
        if isinstance(value, dict) and "_type" not in value:
            yield from _leaves(value, f"{tag}/")
        elif isinstance(value, dict):
            if _pictures(value) or _is_histogram(value):
                yield tag, value
        else:
            yield tag, value


def _pictures(value: dict[str, Any]) -> list[str]:
    """The files of what was logged, if it was a picture or several."""
    names: Any = []
    if value.get("_type") == "image-file":
        names = [value.get("path")]
    elif value.get("_type") == "images/separated":
        names = value.get("filenames")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _inside(directory: Path, name: str) -> Path:
    """The file of that name in a directory; the directory, which is no file, where the name leads out of it."""
    path = (directory / name).resolve()
    return path if path.is_relative_to(directory.resolve()) else directory


def _is_histogram(value: dict[str, Any]) -> bool:
    edges, counts = value.get("bins"), value.get("values")
    lists = isinstance(edges, list) and isinstance(counts, list)
    return value["_type"] == "histogram" and lists and len(edges or ()) == len(counts or ()) + 1 > 1


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _messages(file: Path) -> Iterator[tuple[str, Any]]:
    """Each message of a file with its kind."""
    messages = needed("wandb.proto.wandb_internal_pb2", "import of W&B files")
    decoding = needed("google.protobuf.message", "import of W&B files")
    try:
        data = file.read_bytes()
    except OSError as error:
        message = f"import_wandb: {file} cannot be read ({error.strerror or error})"
        raise RunFileError(message) from error
    for frame in frames(data):
        record = messages.Record()
        try:
            record.ParseFromString(frame)
        except decoding.DecodeError as error:
            message = f"import_wandb: {file} holds a message that cannot be read ({error}); it is damaged"
            raise RunFileError(message) from error
        yield str(record.WhichOneof("record_type")), record
