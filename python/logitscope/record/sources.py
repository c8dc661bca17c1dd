"""The files of another program that are to become runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError

if TYPE_CHECKING:
    import os


def run_files(operation: str, source: str | os.PathLike[str], pattern: str) -> list[Path]:
    """The file that is named, or those below a directory whose names fit; RunFileError when there is none.

    Examples
    --------
    >>> import tempfile
    >>> try:
    ...     run_files("import_wandb", tempfile.mkdtemp(), "*.wandb")
    ... except RunFileError as error:
    ...     print(str(error)[:41])
    import_wandb: there is no *.wandb file in
    """
    place = Path(source)
    files = sorted(place.rglob(pattern)) if place.is_dir() else [place] if place.is_file() else []
    if not files:
        message = f"{operation}: there is no {pattern} file in {place.absolute()}; name one, or a directory"
        raise RunFileError(message)
    return files
