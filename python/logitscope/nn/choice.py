"""Kinds of attention by name, found in the modules of this package when asked."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from logitscope.nn.attention import SelfAttention


def attention_names() -> tuple[str, ...]:
    """Names that ``GPTConfig(attention=...)`` takes.

    Examples
    --------
    >>> from logitscope.nn import attention_names
    >>> "softmax" in attention_names()
    True
    """
    return tuple(_kinds())


def attention_class(name: str) -> type[SelfAttention]:
    """Find the kind of attention that a name stands for."""
    kinds = _kinds()
    if name not in kinds:
        message = f"attention: there is no {name!r}; use {', '.join(kinds)}"
        raise ArgumentError(message)
    return kinds[name]


def _kinds() -> dict[str, type[SelfAttention]]:
    """Join the tables named ``ATTENTION`` of the modules whose name ends in ``attention``."""
    import logitscope.nn

    kinds: dict[str, type[SelfAttention]] = {}
    for module in iter_modules(logitscope.nn.__path__):
        if module.name.endswith("attention"):
            kinds.update(import_module(f"logitscope.nn.{module.name}").ATTENTION)
    return kinds
