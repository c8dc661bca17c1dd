"""What a demo run is, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes and choices of the training; the defaults take a few minutes on two cores."""

    steps: int = 800
    seed: int = 0
    attention: str = "softmax"
    activation: str = "gelu"
    loss: str = "cross_entropy"
    optimizer: str = "adamw"
    device: str = "cpu"
    """Where attention and cross entropy run."""
    compare: bool = False
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 128
    batch: int = 16
    peak_rate: float = 3e-3
    warm_up: int = 60
    """Steps over which the learning rate rises."""

    @property
    def tokens_per_step(self) -> int:
        """Characters that one step trains on."""
        return self.batch * self.context

    def learning_rate(self, step: int) -> float:
        """Rise in a line, then fall with a cosine to a tenth."""
        warm_up = min(self.warm_up, max(1, self.steps // 4))
        if step < warm_up:
            return self.peak_rate * (step + 1) / warm_up
        done = (step - warm_up) / max(1, self.steps - warm_up)
        return self.peak_rate * (0.1 + 0.45 * (1.0 + math.cos(math.pi * done)))
