"""Within a block, operations on tensors of the CPU go to a GPU by themselves where it can do them."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from logitscope.gpu.device import default_device

if TYPE_CHECKING:
    from collections.abc import Iterator

_counts: Counter[str] | None = None


@contextmanager
def sending() -> Iterator[Counter[str]]:
    """Send what ``logitscope.nn.functional`` is asked for to the default GPU, and back.

    It holds for all threads: an experiment trains its models side by side.
    Calls that a GPU does not do run on the CPU: other operations, float64, derivatives of another kind. The counter
    that comes says how many calls of each operation were sent.

    Raises
    ------
    GpuUnavailableError
        Where there is none; it says what there is.

    Examples
    --------
    >>> from logitscope import gpu
    >>> if gpu.available():
    ...     with gpu.sending() as sent:
    ...         pass
    """
    global _counts  # noqa: PLW0603 -- threads that are started within the block shall see it
    default_device()
    before, _counts = _counts, Counter()
    try:
        yield _counts
    finally:
        _counts = before


def is_sending() -> bool:
    """Whether there is such a block now."""
    return _counts is not None


def note_sent(operation: str) -> None:
    """Count a call that goes to a GPU."""
    if _counts is not None:
        _counts[operation] += 1
