"""Where a new run's file goes."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from logitscope.errors import RunFileError
from logitscope.record.writer import free_path

if TYPE_CHECKING:
    from logitscope.record.ranks import Rank

SUFFIX = ".scope"


def reserve(name: str, path: str | os.PathLike[str] | None, rank: Rank | None) -> Path:
    """The path of a new file, made empty where that is possible so that no other run takes it."""
    if path is None:
        stem = re.sub(r"[^\w.+-]+", "-", name).strip("-.")[:100] or "run"
        directory = Path(os.environ.get("LOGITSCOPE_RUNS") or "runs")
        chosen = directory / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}{SUFFIX}"
    else:
        chosen = Path(path)
    chosen = chosen.absolute()
    if rank is not None:
        chosen = chosen.with_name(f"{chosen.stem}-rank{rank.rank}{chosen.suffix}")
    while True:
        try:
            chosen.parent.mkdir(parents=True, exist_ok=True)
            chosen.open("x").close()
        except FileExistsError:
            if path is not None and rank is None and chosen.exists():
                message = f"start: {chosen} exists already; give a new path, or none for a name with the time"
                raise RunFileError(message) from None
            if not chosen.exists():  # it is the directory that is a file
                return chosen
            chosen = free_path(chosen)
        except OSError:
            return chosen
        else:
            return chosen
