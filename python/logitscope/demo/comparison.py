"""The same training with torch's own attention and cross entropy, beside ours for the first steps."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import torch

from logitscope.demo.learner import Learner

if TYPE_CHECKING:
    from logitscope.data import TextData
    from logitscope.demo.settings import Settings

COMPARED_STEPS = 50
_UNTIMED_STEPS = 5
"""The first steps also fill caches and start threads."""


class Comparison:
    """Does each step again with torch; step by step in turn, so that both run on the same machine state."""

    def __init__(self, settings: Settings, text: TextData) -> None:
        self.steps = min(COMPARED_STEPS, settings.steps)
        self.largest_difference = 0.0
        self._learner: Learner | None = Learner(
            settings, text, attention="torch", loss=torch.nn.CrossEntropyLoss()
        )
        self._seconds: list[tuple[float, float]] = []

    @property
    def done(self) -> bool:
        """Whether all steps have been compared."""
        return self._learner is None

    def follow(self, rate: float, temperature: float, loss: float, seconds: float) -> None:
        """Do the step that ours has just done, with this loss in this time."""
        if self._learner is None:
            return
        start = time.perf_counter()
        difference = abs(self._learner.step(rate, temperature) - loss)
        self._seconds.append((seconds, time.perf_counter() - start))
        self.largest_difference = max(self.largest_difference, difference)
        if len(self._seconds) == self.steps:
            self._learner = None

    def summary(self) -> str:
        """Both step times and the largest difference of the losses, in one line."""
        timed = self._seconds[_UNTIMED_STEPS:] or self._seconds
        ours, theirs = (1e3 * median(column) for column in zip(*timed, strict=True))
        return (
            f"step time: {ours:.1f} ms, with torch's attention and cross entropy {theirs:.1f} ms; "
            f"largest loss difference in {len(self._seconds)} steps: {self.largest_difference:.1e}"
        )
