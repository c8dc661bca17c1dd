"""What is measured, as data: a case is a computation, its contenders are those who can do it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

IN_CACHE = 1 << 20
"""Elements of the arrays that are to stay in the caches; in float32 they and a result take 8 MiB."""

Into = Literal["fresh", "given"]
"""Where the result goes: into memory of its own, or into an array that was there before."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one sweep over the data must at least do; its parts overlap, passes do not."""

    read: int = 0
    """Bytes that are read only."""
    copied: int = 0
    """Bytes that are read while as many are written."""
    written: int = 0
    """Bytes that are written only."""
    exps: int = 0
    """Exponentials."""
    flops: int = 0
    """Multiplications and additions."""
    bf16_flops: int = 0
    """The same of bfloat16, which some CPUs multiply faster."""


Work = tuple[Pass, ...]


def _as_it_is(result: Any) -> Any:
    return result


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing the computation of a case."""

    name: str
    run: Callable[[], Any]
    into: Into = "fresh"
    ours: bool = False
    work: Work | None = None
    """What it must do, where that is not what the case says."""
    answer: Callable[[Any], Any] = _as_it_is
    """Makes what it returns comparable with the others."""
    reads: tuple[NDArray[Any], ...] = field(default=(), repr=False)
    """The arrays whose reading takes all of its time. They are its roofline, rather than others of that size: how fast
    memory is read depends on where it lies, on a virtual machine by a third."""

    @property
    def label(self) -> str:
        """Name and place of the result."""
        return self.name if self.into == "fresh" else f"{self.name}, given array"


@dataclass(frozen=True, slots=True)
class Case:
    """A computation of one size."""

    name: str
    group: str
    """The cases whose ratios are averaged."""
    shape: tuple[int, ...]
    dtype: str
    work: Work
    """The least that has to be done, by whatever algorithm."""
    make: Callable[[], list[Contender]] = field(repr=False)
    """Makes arrays and contenders; they are dropped before the next case makes its own."""
    tolerance: float = 1e-4
    """How far, relative to the largest element, answers may lie apart."""

    @property
    def title(self) -> str:
        """Name, shape and element type."""
        return f"{self.name} {' x '.join(map(str, self.shape))} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command was asked for."""

    dtype: str = "float32"
    sizes: tuple[tuple[int, int], ...] | None = None
    """(rows, columns), instead of the suite's own."""
    seconds: float = 6.0
    """For a case; the time of its contenders' turns."""
    least_rounds: int = 5
    most_rounds: int = 60
    smoke: bool = False
    """Tiny sizes, to see that everything runs."""
