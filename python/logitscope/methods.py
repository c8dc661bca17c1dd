"""Methods that can be swapped by name: found in the sources of the modules when asked, imported when used.

A module of ``logitscope.nn`` or ``logitscope.optim`` offers what it defines in a table, a dictionary literal with one
of the names in `TABLES`. That is all there is to do: no list of methods is kept anywhere else.
"""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find_method", "method_names"]

Kind = Literal["attention", "activation", "loss", "optimizer"]

TABLES: dict[Kind, tuple[str, str]] = {
    "attention": ("nn", "ATTENTION"),
    "activation": ("nn", "ACTIVATION"),
    "loss": ("nn", "LOSS"),
    "optimizer": ("optim", "OPTIMIZER"),
}
"""Kind -> the package whose modules offer it, and the name of their tables."""


def method_names(kind: Kind) -> tuple[str, ...]:
    """Names of the methods of a kind; needs no torch.

    Examples
    --------
    >>> from logitscope.methods import method_names
    >>> "polynorm" in method_names("activation")
    True
    """
    return tuple(sorted(_modules(kind)))


def find_method(kind: Kind, name: str) -> Any:
    """Import what a name stands for.

    Parameters
    ----------
    kind
        ``"attention"``: a `SelfAttention`, whose ``in_gpt`` makes one. ``"activation"``: a module, called without
        arguments. ``"loss"``: a module, called without arguments, of logits (N, V) and targets (N,).
        ``"optimizer"``: called with parameters or groups of them, and ``lr=``.
    name
        One of ``method_names(kind)``.

    Raises
    ------
    ArgumentError
        Naming the methods that there are.

    Examples
    --------
    >>> from logitscope.methods import find_method
    >>> find_method("loss", "cross_entropy")()
    CrossEntropyLoss(ignore_index=-100, reduction='mean')
    """
    modules = _modules(kind)
    if name not in modules:
        message = f"{kind}: there is no {name!r}; use {', '.join(sorted(modules))}"
        raise ArgumentError(message)
    return getattr(import_module(modules[name]), TABLES[kind][1])[name]


def _modules(kind: Kind) -> dict[str, str]:
    """Name of a method -> name of the module that offers it."""
    package, table = TABLES[kind]
    found: dict[str, str] = {}
    for path in sorted((Path(__file__).parent / package).glob("*.py")):
        source = path.read_text(encoding="utf-8")
        # Few modules have a table, and a search is much cheaper than a parse.
        if re.search(rf"^{table}\b", source, re.MULTILINE):
            found.update(dict.fromkeys(_keys(ast.parse(source), table), f"logitscope.{package}.{path.stem}"))
    return found


def _keys(module: ast.Module, table: str) -> Iterator[str]:
    for node in module.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if getattr(target, "id", "") == table and isinstance(node.value, ast.Dict):
            yield from (ast.literal_eval(key) for key in node.value.keys if key is not None)
