"""Models that torch has compiled: a pass that is looked at runs as Python, all others as they were compiled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from logitscope.record.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Callable


class Plain:
    """While it is on, nothing runs compiled; on and off cost a microsecond, and what was compiled stays."""

    def __init__(self) -> None:
        self._stance: Any = None

    def on(self) -> None:
        """Run what comes as Python."""
        if self._stance is None:
            self._stance = sys.modules["torch"].compiler.set_stance("force_eager")

    def off(self) -> None:
        """Run it as before; of no effect when that was done."""
        stance, self._stance = self._stance, None
        if stance is not None:
            stance.__exit__(None, None, None)


class Handle:
    """Undoes something once."""

    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo = undo

    def remove(self) -> None:
        """Undo it."""
        self._undo()


def around(model: Any, before: Callable[..., None], after: Callable[..., None]) -> list[Any]:
    """Have both called around each pass of a model, outside of what is compiled; what they are handles of.

    Hooks of a model that was compiled in place (``model.compile()``) would become a part of what is compiled. There
    the call itself is led past them.
    """
    compiled = getattr(model, "_compiled_call_impl", None)
    if compiled is None:
        return [
            model.register_forward_pre_hook(Hook(before)),
            model.register_forward_hook(Hook(after), with_kwargs=True, always_call=True),
        ]

    def call(*arguments: Any, **options: Any) -> Any:
        before(model, arguments)
        output = None
        try:
            output = compiled(*arguments, **options)
        finally:
            after(model, arguments, options, output)
        return output

    def undo() -> None:
        if model._compiled_call_impl is call:
            model._compiled_call_impl = compiled

    model._compiled_call_impl = call
    return [Handle(undo)]
