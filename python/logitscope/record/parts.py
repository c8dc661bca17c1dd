"""Names in a model: of its parts, of its observable attention, of the module that makes the class logits."""

from __future__ import annotations

from typing import Any

from logitscope.errors import ArgumentError, DTypeError

_HEAD_NAMES = ("head", "lm_head")


def is_observable(module: Any) -> bool:
    """Whether an attention module hands out its statistics itself."""
    return hasattr(module, "observer") and hasattr(module, "num_heads")


def find_logits(model: Any, logits: Any) -> Any:
    """The module whose output are the class logits; None where none was named and none has a usual name."""
    if logits is None or isinstance(logits, str):
        wanted = _HEAD_NAMES if logits is None else (logits,)
        modules = {bare(name): module for name, module in model.named_modules()}
        found = next((modules[name] for name in wanted if name in modules), None)
        if found is None and logits is not None:
            names = ", ".join(name for name in modules if name and "." not in name) or "none"
            message = f"watch: logits is {logits!r}, which is no module of the model; it has {names}"
            raise ArgumentError(message)
        return found
    if not hasattr(logits, "register_forward_hook"):
        message = f"watch: logits is a {type(logits).__name__}; give a torch module or the name of one"
        raise DTypeError(message)
    return logits


def bare(name: str) -> str:
    """The name without what torch.compile and data parallel wrappers put before it."""
    return name.removeprefix("_orig_mod.").removeprefix("module.")


def part_of(name: str) -> str:
    """The part of a model that a parameter belongs to.

    Examples
    --------
    >>> part_of("blocks.3.attention.weight"), part_of("head.weight")
    ('blocks.3', 'head')
    """
    words = bare(name).split(".")
    for place, word in enumerate(words[1:4], 1):
        if word.isdigit():
            return ".".join(words[: place + 1])
    return words[0]
