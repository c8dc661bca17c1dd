"""What attention notes of the way that it takes, while somebody wants to know; see :func:`logitscope.explain`."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from logitscope import _native
from logitscope._dtypes import name_of
from logitscope.ops._bfloat16 import bfloat16_refusals, products_of_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from logitscope.ops._attention_problem import Problem


class TileCount(NamedTuple):
    """Tiles of the score matrix of all heads."""

    all: int
    """How many there are."""
    computed: int
    """Those in which some query sees some key; the others are skipped."""
    masked: int
    """Those among the computed ones that have hidden scores, which costs a look at each."""


@dataclass(frozen=True, slots=True)
class PathStep:
    """One forward or backward pass of attention, and how it was computed."""

    operation: str
    """``"attention"``, ``"attention_varlen"``, or one of these with ``"_backward"``."""
    path: Literal["native", "composite"]
    """The compiled kernel, or plain torch, which stores the scores."""
    kernel: str | None
    """Name of the kernel with its type of numbers and instruction set; None on the composite path."""
    dtype: str
    """Type of the numbers of q."""
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    """Of q and k, heads before positions whatever the layout: that costs nothing."""
    threads: int
    """How many the operations may use."""
    tiles: TileCount | None
    """None on the composite path, and where a single query reads its keys as decoding does."""
    wide_rows: int
    """Rows whose scores left the range of the type and were computed again in float64."""
    products: Literal["tiles", "pairs"] | None
    """How bfloat16 was multiplied: in tiles (AMX) or pairs (AVX512-BF16); None where it was widened, or is none."""
    refused: tuple[str, ...]
    """Why it was not faster: what kept the kernel away, or made it do more."""

    def __str__(self) -> str:
        ran = f"the kernel {self.kernel}" if self.path == "native" else "plain torch, which stores the scores"
        q, k = self.shapes
        lines = [
            f"{self.operation}: {ran}",
            f"  {self.dtype}, q {q}, k {k}, threads: {self.threads}",
        ]
        if self.products is not None:
            lines.append(f"  bfloat16 is multiplied in {self.products}")
        if self.tiles is not None:
            lines.append(
                f"  tiles of scores: {self.tiles.computed} of {self.tiles.all} computed, "
                f"{self.tiles.masked} of them partly hidden"
            )
        return "\n".join([*lines, *(f"  not faster: {reason}" for reason in self.refused)])


class _Notes:
    def __init__(self) -> None:
        self.steps: list[PathStep] = []
        self.copies: list[str] = []
        """Of the step that is being prepared."""


_ACTIVE: ContextVar[_Notes | None] = ContextVar("logitscope_path_notes", default=None)


@contextmanager
def taking_notes() -> Iterator[list[PathStep]]:
    """Collect the steps of all calls inside."""
    notes = _Notes()
    token = _ACTIVE.set(notes)
    try:
        yield notes.steps
    finally:
        _ACTIVE.reset(token)


def note_copy(name: str, array: NDArray[Any], reason: str) -> None:
    """Note that an argument has to be copied."""
    notes = _ACTIVE.get()
    if notes is not None:
        notes.copies.append(f"{name} is copied ({array.nbytes / 1e6:.1f} MB): {reason}")


def note_native(
    operation: str,
    problem: Problem,
    inv_sum: NDArray[Any],
    sequences: Callable[[], Iterable[Problem]] | None = None,
    *,
    is_decoded: bool = False,
) -> None:
    """Note that the kernel has run; ``sequences`` gives the problems that a packed one stands for.

    ``is_decoded`` says that it was the one for few queries, which has no tiles and widens 16-bit numbers.
    """
    notes = _ACTIVE.get()
    if notes is None:
        return
    wide_rows = int((inv_sum < 0).sum())
    refused = notes.copies
    notes.copies = []
    if wide_rows:
        dtype = name_of(problem.q.dtype)
        refused.append(
            f"the scores of {wide_rows} rows leave the range of {dtype}: computed in float64, one by one"
        )
    if problem.dropout_p:
        refused.append("dropout draws a random number for each score")
    products = None
    if name_of(problem.q.dtype) == "bfloat16" and not is_decoded:
        products = products_of_bfloat16()
        refused += bfloat16_refusals()
    counts = [
        _native.attention_tiles(part)
        for part in ([problem] if sequences is None else sequences())
        if not is_decoded
    ]
    notes.steps.append(
        PathStep(
            operation=operation,
            path="native",
            kernel=_native.last_kernel(),
            dtype=name_of(problem.q.dtype),
            shapes=(problem.q.shape, problem.k.shape),
            threads=_native.get_num_threads(),
            tiles=TileCount(*map(sum, zip(*counts, strict=True))) if counts else None,
            wide_rows=wide_rows,
            products=products,
            refused=tuple(refused),
        )
    )


def note_composite(operation: str, q: Any, k: Any, refused: str) -> None:
    """Note that plain torch computes it, and why."""
    notes = _ACTIVE.get()
    if notes is None:
        return
    notes.steps.append(
        PathStep(
            operation=operation,
            path="composite",
            kernel=None,
            dtype=str(q.dtype).removeprefix("torch."),
            shapes=(tuple(q.shape), tuple(k.shape)),
            threads=_native.get_num_threads(),
            tiles=None,
            wide_rows=0,
            products=None,
            refused=(refused,),
        )
    )
