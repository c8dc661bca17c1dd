"""TensorBoard's event files as runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import RunFileError
from logitscope.record.export import needed
from logitscope.record.pictures import Pictures
from logitscope.record.recorder import start
from logitscope.record.sources import run_files

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from logitscope.record.recorder import Recorder

FILES = "*tfevents*"


def import_tensorboard(
    source: str | os.PathLike[str], directory: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Make run files of TensorBoard's event files: scalars, histograms, texts and pictures, with their times.

    Pictures need ``pip install pillow``; without, an event says how many were left out.

    Parameters
    ----------
    source
        An event file, or a directory: each directory below it that holds event files is a run.
    directory
        Where the run files go; by default where `start` puts them. Needs ``pip install logitscope[export]``.

    Returns
    -------
    list of Path
        The run files.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> try:
    ...     record.import_tensorboard(tempfile.mkdtemp())
    ... except record.RunFileError as error:
    ...     print(str(error)[:50])
    import_tensorboard: there is no *tfevents* file in
    """
    place, files = Path(source), run_files("import_tensorboard", source, FILES)
    groups: dict[Path, list[Path]] = {}
    for file in files:
        groups.setdefault(file.parent, []).append(file)
    made = []
    for folder, members in groups.items():
        name = folder.relative_to(place.parent).as_posix() if place.is_dir() else folder.name
        stem = name.replace("/", "-") or "tensorboard"
        path = None if directory is None else Path(directory) / f"{stem}.scope"
        with start(name or "tensorboard", path=path, meta={"imported from": str(folder)}) as scope:
            pictures = Pictures(scope)
            for file in members:
                _take(scope, pictures, file)
            pictures.tell()
        made.append(scope.path)
    return made


def _take(scope: Recorder, pictures: Pictures, file: Path) -> None:
    """Take over one file; the scalars that stand together at a step become one row."""
    plugins: dict[str, str] = {}
    pending: dict[str, float] = {}
    at = (0, 0.0)

    def flush() -> None:
        scope.clock = partial(float, at[1])
        scope.scalars(pending, at[0])
        pending.clear()

    for step, time, value in _values(file):
        if value.HasField("metadata"):
            plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
        plugin, array = plugins.get(value.tag, ""), _array(value)
        if array is None or not array.size:
            continue
        if (step, time) != at or value.tag in pending:
            flush()
            at = step, time
            scope.clock = partial(float, time)
        if plugin == "scalars" and array.size == 1:
            pending[value.tag] = float(array.item())
        elif plugin == "histograms" and array.ndim == 2 and array.shape[1] == 3:
            scope.counts(value.tag, np.append(array[:, 0], array[-1, 1]), array[:, 2], step)
        elif plugin == "images" and array.ndim == 1:
            # Width and height in words, then the pictures as files.
            pictures.record(value.tag, [bytes(encoded) for encoded in array[2:]], step)
        elif plugin == "text":
            first = array.reshape(-1)[0]
            text = first.decode(errors="replace") if isinstance(first, bytes) else str(first)
            scope.text(value.tag, text, step)
    flush()


def _array(value: Any) -> Any:
    tensors = needed("tensorboard.util.tensor_util", "import of TensorBoard files")
    try:
        return np.asarray(tensors.make_ndarray(value.tensor)) if value.HasField("tensor") else None
    except (TypeError, ValueError):
        return None


def _values(file: Path) -> Iterator[tuple[int, float, Any]]:
    """Step, time and value of everything in a file; what breaks off at its end is left."""
    loader = needed("tensorboard.backend.event_processing.event_file_loader", "import of TensorBoard files")
    try:
        for event in loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if event.step >= 0 and value.tag:
                    yield event.step, event.wall_time, value
    except (ValueError, RuntimeError) as error:  # protobuf and the record reader raise these for damage
        message = f"import_tensorboard: {file} cannot be read ({error}); it is damaged or no event file"
        raise RunFileError(message) from error
