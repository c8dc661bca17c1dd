"""How far the training is: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import Protocol

_LINES = 20


class Progress(Protocol):
    """Shows steps as they are done."""

    def __enter__(self) -> Progress: ...

    def __exit__(self, *error: object) -> None: ...

    def update(self, done: int, loss: float, tokens_per_second: float) -> None:
        """Show that ``done`` steps are done."""

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""


def progress(steps: int) -> Progress:
    """A bar if there is a terminal and rich to draw it, otherwise lines."""
    if sys.stderr.isatty() and find_spec("rich") is not None:
        return BarProgress(steps)
    return LineProgress(steps)


class BarProgress:
    """A bar that rich draws."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[speed]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("training", total=steps, loss=float("nan"), speed=0.0)

    def __enter__(self) -> BarProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def update(self, done: int, loss: float, tokens_per_second: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, loss=loss, speed=tokens_per_second)

    def say(self, line: str) -> None:
        """Print above the bar."""
        self._bar.console.print(line, markup=False, highlight=False)


class LineProgress:
    """Some twenty lines in all, for logs and pipes."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._every = max(1, steps // _LINES)
        self._start = time.monotonic()

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, done: int, loss: float, tokens_per_second: float) -> None:
        """Print a line if one is due."""
        if done % self._every and done != self._steps:
            return
        left = (time.monotonic() - self._start) / done * (self._steps - done)
        self.say(
            f"step {done}/{self._steps}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s  "
            f"{int(left) // 60}:{int(left) % 60:02d} left"
        )

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)
