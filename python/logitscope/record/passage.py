"""One forward pass of a torch model seen from inside: which module is at work, which functions it calls.

torch's own ways are used, its hooks for all modules and its ``TorchFunctionMode``, which know this thread only and
are there for the length of the pass, or of the modules in it that are asked for. Nothing of the model is replaced, and
other passes cost nothing.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Spectator(Protocol):
    """Who looks. What it raises reaches the training, so it must not."""

    def enter(self, module: Any, inputs: tuple[Any, ...]) -> None:
        """A module begins."""

    def leave(self, module: Any, output: Any) -> None:
        """A module is done."""

    def before(self, name: str, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        """A function of that name is about to be called by a module."""

    def after(
        self, name: str, module: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], output: Any
    ) -> None:
        """The function has returned."""


class Passage:
    """Shows a pass to a spectator between `open` and `close`.

    Parameters
    ----------
    model
        A ``torch.nn.Module``.
    spectator
        Who looks.
    functions
        Names of the functions whose calls are shown.
    """

    def __init__(self, model: Any, spectator: Spectator, functions: frozenset[str]) -> None:
        self._model, self._spectator = model, spectator
        self._functions = functions
        self._stack: list[Any] = []
        self._mode: Any = None
        self._thread = 0
        self._undo: list[Callable[[], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether a pass is being looked at."""
        return bool(self._stack)

    def open(self) -> None:
        """Begin to look, on this thread, at all of the pass."""
        hooks = sys.modules["torch"].nn.modules.module
        self._begin()
        self._undo.append(hooks.register_module_forward_pre_hook(self._enter).remove)
        self._undo.append(hooks.register_module_forward_hook(self._leave, always_call=True).remove)
        self._look()

    def open_within(self, modules: Sequence[Any]) -> None:
        """Begin to look, on this thread, at these modules only, which the model itself is none of.

        To see a call torch has to be asked at every one, so it is cheaper to look where calls are known to be.
        """
        self._begin()
        for module in modules:
            self._undo.append(module.register_forward_pre_hook(self._enter_known).remove)
            self._undo.append(module.register_forward_hook(self._leave_known, always_call=True).remove)

    def close(self) -> None:
        """Look no longer; of no effect when that was done."""
        self._look_away()
        while self._undo:
            self._undo.pop()()
        self._stack = []

    def call(self, function: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Call a function of torch, shown before and after where it is one of those that are."""
        name = getattr(function, "__name__", "")
        if name not in self._functions or not self._stack:
            return function(*arguments, **options)
        module = self._stack[-1]
        self._spectator.before(name, module, arguments, options)
        output = function(*arguments, **options)
        self._spectator.after(name, module, arguments, options, output)
        return output

    def _enter(self, module: Any, inputs: tuple[Any, ...]) -> None:
        if self._is_here() and module is not self._model:
            self._stack.append(module)
            self._spectator.enter(module, inputs)

    def _leave(self, module: Any, _inputs: tuple[Any, ...], output: Any) -> None:
        if self._is_here() and len(self._stack) > 1 and self._stack[-1] is module:
            self._stack.pop()
            self._spectator.leave(module, output)

    def _enter_known(self, module: Any, inputs: tuple[Any, ...]) -> None:
        self._enter(module, inputs)
        if self._is_here():
            self._look()

    def _leave_known(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self._leave(module, inputs, output)
        if self._is_here() and len(self._stack) == 1:
            self._look_away()

    def _is_here(self) -> bool:
        return threading.get_ident() == self._thread

    def _begin(self) -> None:
        self._thread = threading.get_ident()
        self._stack = [self._model]

    def _look(self) -> None:
        if self._mode is None:
            self._mode = _mode_class()(self)
            self._mode.__enter__()

    def _look_away(self) -> None:
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)


@functools.cache
def _mode_class() -> Any:
    """What torch asks at each call of one of its functions; made once torch is there."""

    class Mode(sys.modules["torch"].overrides.TorchFunctionMode):  # type: ignore[misc]
        def __init__(self, passage: Passage) -> None:
            super().__init__()
            self.passage = passage

        def __torch_function__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            return self.passage.call(function, arguments, options or {})

    return Mode


def is_torch_model(model: Any) -> bool:
    """Whether a model is a torch module, compiled or not."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)
