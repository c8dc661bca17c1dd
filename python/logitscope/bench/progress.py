"""How far a bench is: a bar with the time left in a terminal, a line a case elsewhere."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any


class Progress:
    """Shows cases as they are measured, on standard error."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._index = 0
        self._bar: Any = None
        if sys.stderr.isatty() and find_spec("rich") is not None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:.0f} %"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=float(cases))

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, index: int, title: str) -> None:
        """Show that a case begins."""
        self._index = index
        if self._bar is None:
            print(f"{index + 1}/{self._cases}  {title}", file=sys.stderr, flush=True)
        else:
            self._bar.update(self._task, completed=float(index), description=title)

    def tick(self, share: float) -> None:
        """Show how much of the case is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._index + share)
