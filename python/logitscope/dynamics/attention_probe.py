"""Listens to the attention modules of a model, beside whoever listens already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from logitscope.errors import ArgumentError
from logitscope.record.watch import AttentionRequest

if TYPE_CHECKING:
    from types import TracebackType

    from torch import nn
    from typing_extensions import Self

    from logitscope.record.watch import AttentionObservation


class AttentionProbe(ABC):
    """Takes what each attention module hands out in a forward pass; a base class.

    Parameters
    ----------
    model
        A module whose attention modules have the attributes ``observer`` and ``num_heads``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [
            (name, module)
            for name, module in model.named_modules()
            if hasattr(module, "observer") and hasattr(module, "num_heads")
        ]
        if not self.modules:
            message = (
                f"{type(self).__name__}: the model has no attention that can be watched; use logitscope.nn's"
            )
            raise ArgumentError(message)
        self._before = [module.observer for _, module in self.modules]
        for layer, (_, module) in enumerate(self.modules):
            module.observer = _Tap(self, layer, module.observer)

    @abstractmethod
    def take(self, layer: int, observation: AttentionObservation) -> None:
        """Take what the layer of that number has handed out."""

    def close(self) -> None:
        """Leave the model as it was."""
        for (_, module), before in zip(self.modules, self._before, strict=True):
            module.observer = before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Tap:
    """An observer that asks for statistics at every pass and passes on what another one wants."""

    def __init__(self, probe: AttentionProbe, layer: int, other: Any) -> None:
        self._probe = probe
        self._layer = layer
        self._other = other
        self._wanted = False

    def request(self, module: Any) -> AttentionRequest:
        theirs = None if self._other is None else self._other.request(module)
        self._wanted = theirs is not None
        return AttentionRequest(None, 0) if theirs is None else theirs

    def observe(self, module: Any, observation: AttentionObservation) -> None:
        self._probe.take(self._layer, observation)
        if self._wanted:
            self._other.observe(module, observation)
