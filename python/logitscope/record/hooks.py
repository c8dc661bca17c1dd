"""What stands in a watched model: hooks and an observer that are gone from a model that is copied or saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from logitscope.record.observation import AttentionObservation, AttentionRequest


class Owner(Protocol):
    """Who watches."""

    def request(self, module: Any) -> AttentionRequest | None:
        """What the module is to hand out in this forward pass; None for nothing."""

    def observe(self, module: Any, observation: AttentionObservation) -> None:
        """Take what the module hands out."""


class Observer:
    """What stands in the ``observer`` of an attention module. A copied or saved model has None there."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def request(self, module: Any) -> AttentionRequest | None:
        """What the module is to hand out in this forward pass; None for nothing."""
        return self._owner.request(module)

    def observe(self, module: Any, observation: AttentionObservation) -> None:
        """Take what the module hands out."""
        self._owner.observe(module, observation)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class Hook:
    """A hook that does nothing in a copied or saved model."""

    def __init__(self, action: Callable[..., None]) -> None:
        self._action = action

    def __call__(self, *arguments: Any) -> None:
        """Act."""
        self._action(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_ignore,)


def _ignore(*_arguments: Any) -> None:
    """Do nothing, in place of a hook."""
