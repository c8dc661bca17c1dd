"""The usual optimizers, which others are compared with, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import optim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OPTIMIZER: Mapping[str, Callable[..., optim.Optimizer]] = {
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
}
"""What this module offers under which name."""
