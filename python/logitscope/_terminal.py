"""What long work shows in a terminal."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any


def progress_bar(before: str, after: str) -> Any:
    """A bar of ``rich`` with per cent and time left, on standard error; None where no terminal or no ``rich`` is.

    Parameters
    ----------
    before, after
        Formats of the text on either side, such as ``"{task.description}"``.
    """
    if not sys.stderr.isatty() or find_spec("rich") is None:
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn(before),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
        TextColumn(after),
        console=Console(stderr=True),
        transient=True,
    )
