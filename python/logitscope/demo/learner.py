"""A model, its optimizer and its way through the text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from logitscope.methods import find_method
from logitscope.nn import GPT, GPTConfig
from logitscope.nn.attention import FusedSelfAttention
from logitscope.nn.loss import CrossEntropyLoss

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from logitscope.data import TextData
    from logitscope.demo.settings import Settings

_VALIDATION_WINDOWS = 64
_WEIGHT_DECAY = 0.1
_GRADIENT_LIMIT = 1.0


def model_config(settings: Settings, text: TextData, attention: str) -> GPTConfig:
    """Say what the model of a training is; raises for sizes that do not fit together."""
    return GPTConfig(
        vocabulary=len(text.vocabulary),
        context=settings.context,
        layers=settings.layers,
        heads=settings.heads,
        width=settings.width,
        attention=attention,
        activation=settings.activation,
    )


class Learner:
    """Trains one model; the same seed makes the same first weights and the same batches."""

    def __init__(
        self, settings: Settings, text: TextData, *, attention: str, loss: nn.Module | None = None
    ) -> None:
        torch.manual_seed(settings.seed)
        self._settings = settings
        self.model = GPT(model_config(settings, text, attention))
        self.loss: Any = find_method("loss", settings.loss)() if loss is None else loss
        if settings.device == "gpu" and loss is None:
            self._send_to_gpu()
        matrices = [weight for weight in self.model.parameters() if weight.dim() > 1]
        vectors = [weight for weight in self.model.parameters() if weight.dim() <= 1]
        # Optimizers without betas do not look at them.
        shared = {"lr": settings.peak_rate, "betas": (0.9, 0.95)}
        self.optimizer = find_method("optimizer", settings.optimizer)(
            [
                {"params": matrices, "weight_decay": _WEIGHT_DECAY, **shared},
                {"params": vectors, "weight_decay": 0.0, **shared},
            ],
            lr=settings.peak_rate,
        )
        self._text = text
        self.first_window: list[int] = []
        """The first text of the last batch: the one whose attention maps are recorded."""
        self._batches = text.batches(settings.batch, settings.context, np.random.default_rng(settings.seed))

    def _send_to_gpu(self) -> None:
        """Let attention, and the loss if it is cross entropy with or without a link, run on the GPU."""
        for module in (*self.model.modules(), self.loss):
            if isinstance(module, FusedSelfAttention | CrossEntropyLoss):
                module.device = "gpu"

    def step(self, rate: float, temperature: float, *, look: Callable[[], None] | None = None) -> float:
        """Do one update and return the loss before it; ``look`` is called while the gradients are there."""
        inputs, targets = (torch.from_numpy(part) for part in next(self._batches))
        self.first_window = inputs[0].tolist()
        self.model.set_temperature(temperature)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss(self.model(inputs).flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        if look is not None:
            look()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _GRADIENT_LIMIT)
        self.optimizer.step()
        value: float = loss.item()
        return value

    @torch.no_grad()
    def validate(self, windows: int = _VALIDATION_WINDOWS) -> float:
        """Return the loss a character on text that is not trained on; of cross entropy, in nats."""
        settings = self._settings
        inputs, targets = self._text.validation_windows(windows, settings.context)
        self.model.eval()
        total = 0.0
        for first in range(0, len(inputs), settings.batch):
            part = slice(first, first + settings.batch)
            logits = self.model(torch.from_numpy(inputs[part]))
            loss = self.loss(logits.flatten(0, 1), torch.from_numpy(targets[part]).flatten())
            total += loss.item() * len(inputs[part])
        self.model.train()
        return total / len(inputs)

    def write(self, count: int) -> str:
        """Let the model write ``count`` characters of its own after a line break, or what the text has."""
        first = "\n" if "\n" in self._text.vocabulary else self._text.vocabulary[0]
        prompt = torch.from_numpy(self._text.encode(first))
        generator = torch.Generator().manual_seed(self._settings.seed)
        self.model.eval()
        tokens = self.model.generate(prompt, count, generator=generator)
        self.model.train()
        return self._text.decode(tokens[1:].tolist())
