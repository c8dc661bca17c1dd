"""Small language models of characters: how the experiments train and judge them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from logitscope.nn import CrossEntropyLoss
from logitscope.record.watch import AttentionRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from logitscope.data import TextData
    from logitscope.nn import GPT
    from logitscope.record.watch import AttentionObservation

_MAP_BINS = (48, 48)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training: AdamW, one cycle of the learning rate with a tenth of it warm-up, gradients clipped at norm 1."""

    steps: int
    rate: float
    batch: int = 16
    weight_decay: float = 0.1


def train(
    model: GPT,
    text: TextData,
    recipe: Recipe,
    seed: int,
    *,
    penalty: Callable[[], Tensor] | None = None,
    undecayed: tuple[torch.nn.Parameter, ...] = (),
) -> Iterator[tuple[int, float]]:
    """Train a model on random windows of a text, and give each step and its loss as it is done.

    Parameters
    ----------
    model, text, recipe
        What is trained on what, and how.
    seed
        Of the windows.
    penalty
        Something to add to the loss, computed after each forward pass.
    undecayed
        Parameters of the penalty, which are trained without weight decay.

    Yields
    ------
    step, loss
        From 1 on; the loss without the penalty, before the step.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(model.parameters())},
        {"params": list(undecayed), "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.steps + 1, pct_start=0.1, cycle_momentum=False
    )
    criterion = CrossEntropyLoss()
    batches = text.batches(recipe.batch, model.config.context, np.random.default_rng(seed))
    for step in range(1, recipe.steps + 1):
        inputs, targets = next(batches)
        logits = model(torch.from_numpy(inputs))
        loss = criterion(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
        total = loss if penalty is None else loss + penalty()
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield step, loss.item()


@torch.no_grad()
def held_out(model: GPT, text: TextData, windows: int = 256) -> float:
    """Loss on evenly spread windows of the part of the text that is not trained on, nats a character."""
    inputs, targets = (
        torch.from_numpy(part) for part in text.validation_windows(windows, model.config.context)
    )
    logits = model(inputs)
    return float(CrossEntropyLoss()(logits.flatten(0, 1), targets.flatten()))


@torch.no_grad()
def attention_maps(model: GPT, text: TextData) -> NDArray[np.float32]:
    """Maps of all heads, (L, H, R, C), on the first window that is not trained on."""
    maps: list[Any] = []
    attentions: list[Any] = list(model.attentions)
    before = [attention.observer for attention in attentions]
    for attention in attentions:
        attention.observer = _MapTaker(maps)
    model(torch.from_numpy(text.validation_windows(1, model.config.context)[0]))
    for attention, observer in zip(attentions, before, strict=True):
        attention.observer = observer
    return np.stack(maps)


class _MapTaker:
    def __init__(self, maps: list[Any]) -> None:
        self._maps = maps

    def request(self, _module: Any) -> AttentionRequest:
        return AttentionRequest(_MAP_BINS, 0)

    def observe(self, _module: Any, observation: AttentionObservation) -> None:
        self._maps.append(observation.map)
