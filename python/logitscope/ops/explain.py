"""Which way attention took, and why not a faster one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitscope.errors import ArgumentError
from logitscope.ops._path_notes import PathStep, taking_notes
from logitscope.ops.attention import attention

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a call has done; ``print`` it."""

    steps: tuple[PathStep, ...]
    """Every forward and backward pass of attention in the call, in their order."""
    result: Any
    """What the call returned."""

    @property
    def path(self) -> str:
        """``"native"`` where all steps ran in the kernels, else ``"composite"``."""
        return "native" if all(step.path == "native" for step in self.steps) else "composite"

    @property
    def refused(self) -> tuple[str, ...]:
        """Why it was not faster, of all steps."""
        return tuple(reason for step in self.steps for reason in step.refused)

    def __str__(self) -> str:
        return "\n".join(str(step) for step in self.steps) or "no attention of logitscope has run"


def explain(*arguments: Any, function: Callable[..., Any] | None = None, **options: Any) -> Explanation:
    """Call attention and tell which way it took, and why not a faster one.

    The call is made, once, and what it notes on its way is returned: so this is what happened, not a forecast.

    Parameters
    ----------
    *arguments, **options
        As for ``function``.
    function
        What to call: :func:`logitscope.attention` by default, or any function that calls attention: those of
        ``logitscope.nn.functional``, a model, a training step with its backward pass.

    Returns
    -------
    Explanation
        ``steps``, each with path, kernel, tiles, rows computed in float64 and ``refused``; ``result``; a readable text.

    Raises
    ------
    ArgumentError
        If ``function`` cannot be called. What ``function`` raises passes through.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> q, k, v = np.zeros((3, 1, 2, 256, 8), np.float32)
    >>> told = logitscope.explain(q, k[..., ::-1], v, is_causal=True)
    >>> told.path, told.steps[0].tiles
    ('native', TileCount(all=16, computed=12, masked=8))
    >>> told.refused
    ('k is copied (0.0 MB): an axis runs backwards or across numbers',)
    """
    function = attention if function is None else function
    if not callable(function):
        message = (
            f"explain: function is {function!r}; use one that calls attention, such as logitscope.attention"
        )
        raise ArgumentError(message)
    with taking_notes() as steps:
        result = function(*arguments, **options)
    return Explanation(tuple(steps), result)
