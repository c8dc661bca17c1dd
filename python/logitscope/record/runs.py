"""The runs of a directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError
from logitscope.record.merged import leaders
from logitscope.record.reader import RunReader

if TYPE_CHECKING:
    import os

    from logitscope.record.types import RunInfo


def list_runs(directory: str | os.PathLike[str]) -> list[RunInfo]:
    """Runs whose files lie in a directory, newest first; files that are no run files are left out.

    Of the ranks of one job the lowest stands for all; `open_run` opens them together.

    Examples
    --------
    >>> import tempfile
    >>> from logitscope import record
    >>> directory = tempfile.mkdtemp()
    >>> for name in ("first", "second"):
    ...     record.start(name, path=f"{directory}/{name}.scope").finish()
    >>> [run.name for run in record.list_runs(directory)]
    ['second', 'first']
    """
    try:
        paths = sorted(Path(directory).glob("*.scope"))
    except OSError:
        return []
    runs = []
    for path in paths:
        try:
            with RunReader(path) as run:
                runs.append(run.info)
        except RunFileError:
            continue
    return sorted(leaders(runs), key=lambda run: run.created, reverse=True)
