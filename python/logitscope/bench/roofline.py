"""What this machine can do at most, measured among the contenders of a case and on arrays of its size."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from logitscope import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from logitscope.bench.cases import Contender, Pass, Work

_IN_REGISTERS = 4096
_ROUNDS = 64
_MULTIPLIED = 1 << 18
"""Multiply-adds of a round: of fewer the filling and emptying of sixteen chains would be a quarter of the time."""
_MULTIPLY_ROUNDS = {"flops": 8, "bf16_flops": 512}
"""Tiles are some thirty times as fast, and in pairs a round still takes a millisecond."""
_MEMORY = {"read": ("read",), "copied": ("copy", "streaming_copy"), "written": ("write",)}
_ARITHMETIC = {"exps": "exp", "flops": "multiply_add", "bf16_flops": "multiply_add_bf16"}


class Roofline:
    """The probes that a work and its contenders need, and what they say once they were timed."""

    def __init__(self, work: Work, contenders: Sequence[Contender] = ()) -> None:
        works = [work, *(contender.work for contender in contenders if contender.work)]
        passes = [part for work in works for part in work]
        self._memory = {kind: max((getattr(part, kind) for part in passes), default=0) for kind in _MEMORY}
        needed = {kind for kind in _ARITHMETIC if any(getattr(part, kind) for part in passes)}
        elements = max(_IN_REGISTERS, max(self._memory.values()) // 4096 * 1024)
        self._elements = elements
        # Whole pages of zeros are one page until they are written.
        x, y = np.ones(elements, np.float32), np.ones(elements, np.float32)
        few_x, few_y = -np.ones(_IN_REGISTERS, np.float32), np.ones(_IN_REGISTERS, np.float32)
        # Of these the length alone counts.
        many, more = np.empty((2, _MULTIPLIED), np.float32)
        self.runs: dict[str, Callable[[], object]] = {}
        for kind, probes in _MEMORY.items():
            for name in probes if self._memory[kind] else ():
                self.runs[name] = partial(_native.roofline, name, x, y, 1)
        for kind in needed:
            name = _ARITHMETIC[kind]
            given = (few_x, few_y, _ROUNDS) if kind == "exps" else (many, more, _MULTIPLY_ROUNDS[kind])
            self.runs[name] = partial(_native.roofline, name, *given)
        self._own = {one.label: one.reads for one in contenders if one.reads}
        for arrays in self._own.values():
            self.runs[_name(arrays)] = partial(_read, [_as_float32(array) for array in arrays])

    def rates(self, times: Mapping[str, list[float]]) -> dict[str, float]:
        """Bytes (of what is copied, those that are read), exponentials and operations a second."""
        seconds = {name: median(times[name]) for name in self.runs}
        rates = {}
        for kind, probes in _MEMORY.items():
            if self._memory[kind]:
                rates[kind] = 4 * self._elements / min(seconds[name] for name in probes)
        for kind, name in _ARITHMETIC.items():
            if name in seconds:
                rounds = _MULTIPLY_ROUNDS.get(kind, 0)
                operations = _ROUNDS * _IN_REGISTERS if kind == "exps" else 2 * rounds * _MULTIPLIED
                rates[kind] = operations / seconds[name]
        return rates

    def own_rates(self, times: Mapping[str, list[float]]) -> dict[str, float]:
        """Bytes a second of the arrays that a contender reads, for each that names them."""
        return {
            label: sum(array.nbytes for array in arrays) / median(times[_name(arrays)])
            for label, arrays in self._own.items()
        }


def _name(arrays: Iterable[NDArray[Any]]) -> str:
    """Those who read the same have one probe."""
    return f"read {[array.ctypes.data for array in arrays]}"


def _as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Its bytes; no copy of them, or the memory were another."""
    bytes_of = array.view()
    bytes_of.shape = (array.size,)
    floats: NDArray[np.float32] = bytes_of.view(np.float32)
    return floats


def _read(arrays: Iterable[NDArray[np.float32]]) -> None:
    for array in arrays:
        _native.roofline("read", array, np.empty_like(array), 1)


def least_seconds(work: Work, rates: Mapping[str, float], *, memory_only: bool = False) -> float:
    """How long a work takes at the least: in each pass memory and arithmetic overlap, unless only memory counts."""

    def total(part: Pass, kinds: Iterable[str]) -> float:
        amounts = ((float(getattr(part, kind)), kind) for kind in kinds)
        return sum(amount / rates[kind] for amount, kind in amounts if amount)

    return sum(max(total(part, _MEMORY), 0.0 if memory_only else total(part, _ARITHMETIC)) for part in work)
