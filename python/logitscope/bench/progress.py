"""How far a bench is: a bar with the time left in a terminal, a line a case elsewhere."""

from __future__ import annotations

import sys

from logitscope._terminal import progress_bar


class Progress:
    """Shows cases as they are measured, on standard error."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._index = 0
        self._bar = progress_bar("{task.description}", "left")
        if self._bar is not None:
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
