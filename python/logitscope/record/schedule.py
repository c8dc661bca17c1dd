"""At which steps, and of which passes, a watch records what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCHEDULES = {"economy": (20, 100), "normal": (5, 20), "full": (1, 10)}
"""Steps from one record of statistics to the next, and from one map to the next.

With the maps comes what costs most or changes slowly: sinks, spread of scores, activations, weights and updates.
"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How often a watch looks.

    Examples
    --------
    >>> schedule = Schedule(every=5, maps_every=20)
    >>> [step for step in range(12) if schedule.due(step)], schedule.map_due(10)
    ([0, 5, 10], False)
    """

    every: int
    maps_every: int
    map_bins: tuple[int, int] = (128, 128)
    sample: int = 0
    evaluation: bool = False
    slices_every: int | None = None

    def due(self, step: int | None) -> bool:
        """Whether statistics are recorded at a step: of heads, class logits and gradients."""
        return step is not None and (step % self.every == 0 or self.map_due(step))

    def map_due(self, step: int | None) -> bool:
        """Whether maps are recorded at a step, and what comes with them."""
        return step is not None and step % self.maps_every == 0

    def slices_due(self, step: int | None) -> bool:
        """Whether queries and keys are recorded at a step."""
        every = self.slices_every
        return every is not None and self.map_due(step) and step is not None and step % every == 0

    def covers(self, module: Any) -> bool:
        """Whether passes of a module in its present mode are looked at."""
        return self.evaluation or bool(getattr(module, "training", True))
