"""Keys and values of the tokens so far, for decoding."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._arrays import as_floats, as_numpy
from logitscope._dtypes import BFLOAT16, FLOATS, name_of
from logitscope.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KVCache:
    """Keys and values of the tokens so far, of fixed capacity.

    Parameters
    ----------
    batch, key_heads
        Number of sequences, and of their key heads.
    capacity
        How many tokens each sequence may have.
    head_dim
        Size of a key.
    value_dim
        Size of a value; that of a key by default.
    window
        Keep only that many tokens, in a ring: each new one takes the place of the oldest. For attention with a window;
        ``capacity`` is then not given.
    tokens
        How many tokens a ring may be asked about together: it has room for them beside the window.
    dtype
        float32, float64, float16 or bfloat16 (of ``ml_dtypes``, torch's or its name).

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> cache = logitscope.KVCache(1, 2, 100, 8)
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 1, 2, 5, 8), dtype=np.float32)
    >>> cache.append(k, v)
    >>> cache.lengths.tolist()
    [5]
    >>> last = logitscope.attention_decode(q[:, :, 4:], cache)
    >>> bool(np.allclose(last.out, logitscope.attention(q, k, v, is_causal=True).out[:, :, 4:], atol=1e-6))
    True
    """

    def __init__(
        self,
        batch: int,
        key_heads: int,
        capacity: int | None = None,
        head_dim: int = 64,
        *,
        value_dim: int | None = None,
        window: int | None = None,
        tokens: int = 1,
        dtype: Any = np.float32,
    ) -> None:
        if (capacity is None) == (window is None):
            message = f"KVCache: capacity is {capacity} and window is {window}; use one of them"
            raise ArgumentError(message)
        kept = operator.index(window if capacity is None else capacity)  # type: ignore[arg-type]
        value_dim = head_dim if value_dim is None else value_dim
        sizes = {"batch": batch, "key_heads": key_heads, "head_dim": head_dim, "value_dim": value_dim}
        sizes |= {"window" if capacity is None else "capacity": kept, "tokens": tokens}
        check_sizes("KVCache", sizes)
        stored = stored_dtype("KVCache", dtype)
        kept += tokens - 1 if capacity is None else 0
        self.window = window
        self.capacity = kept
        self.keys: NDArray[Any] = aligned_zeros((batch, key_heads, kept, head_dim), stored)
        """(B, Hk, room, D); what lies beyond the lengths does not count. NumPy has no bfloat16: its bits are in a field
        of that name."""
        self.values: NDArray[Any] = aligned_zeros((batch, key_heads, kept, value_dim), stored)
        """(B, Hk, room, Dv)."""
        self.lengths: NDArray[np.int64] = np.zeros(batch, np.int64)
        """How many tokens each sequence has had, (B,)."""

    @property
    def pages(self) -> NDArray[np.int64]:
        """Which rows of ``keys`` and ``values`` hold the places of each sequence, (B, pages of one): here one each."""
        return np.arange(len(self.lengths))[:, None]

    def append(self, k: Any, v: Any, *, counts: Any = None) -> None:
        """Add tokens to the end of the sequences.

        Parameters
        ----------
        k
            Their keys, (B, Hk, T, D).
        v
            Their values, (B, Hk, T, Dv).
        counts
            How many of the T tokens are real for each sequence, (B,); all by default.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            Naming the argument, what came and what would work; nothing is added then.
        """
        operation = f"{type(self).__name__}.append"
        batch, heads = len(self.lengths), self.keys.shape[1]
        keys, values = as_floats(operation, "k", k), as_floats(operation, "v", v)
        tokens = keys.shape[2] if keys.ndim == 4 else 0
        for name, array, store in (("k", keys, self.keys), ("v", values, self.values)):
            if array.dtype != store.dtype:
                message = (
                    f"{operation}: {name} has dtype {name_of(array.dtype)}; "
                    f"use {name_of(store.dtype)} as the cache"
                )
                raise DTypeError(message)
            if array.shape != (batch, heads, tokens, store.shape[3]):
                message = (
                    f"{operation}: {name} has shape {array.shape}; "
                    f"use ({batch}, {heads}, tokens, {store.shape[3]})"
                )
                raise ShapeError(message)
        added = _checked_counts(operation, tokens if counts is None else counts, batch)
        if added.min(initial=0) < 0 or added.max(initial=0) > tokens:
            message = f"{operation}: counts is {added.tolist()}; use 0..{tokens}"
            raise ArgumentError(message)
        if self.window is None and (self.lengths + added).max(initial=0) > self.capacity:
            message = (
                f"{operation}: {int((self.lengths + added).max())} tokens are more than the capacity "
                f"of {self.capacity}; use a larger one, or window="
            )
            raise ArgumentError(message)
        self._reserve(added)
        for index, (start, count) in enumerate(zip(self.lengths.tolist(), added.tolist(), strict=True)):
            # Of more tokens than fit a ring only the last ones stay.
            kept = np.arange(max(start, start + count - self.capacity), start + count)
            pages, places = self._places(index, kept)
            tokens_kept = slice(count - len(kept), count)
            self.keys[pages, :, places] = keys[index, :, tokens_kept].swapaxes(0, 1)
            self.values[pages, :, places] = values[index, :, tokens_kept].swapaxes(0, 1)
        self.lengths += added

    def in_order(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Keys and values of the tokens that each sequence still has, in their order, and how many these are.

        Returns
        -------
        tuple
            (B, Hk, tokens, D), (B, Hk, tokens, Dv) and (B,): the cache itself where it lies so, else a copy.
        """
        # Each sequence has one row, the row of its number.
        if self.window is None and self.pages.tolist() == [[row] for row in range(len(self.keys))]:
            return self.keys, self.values, self.lengths
        counts = np.minimum(self.lengths, self.capacity)
        shape = (len(counts), self.keys.shape[1], int(counts.max(initial=0)))
        keys, values = (np.zeros((*shape, x.shape[3]), x.dtype) for x in (self.keys, self.values))
        for index, (end, count) in enumerate(zip(self.lengths.tolist(), counts.tolist(), strict=True)):
            pages, places = self._places(index, np.arange(end - count, end))
            keys[index, :, :count] = self.keys[pages, :, places].swapaxes(0, 1)
            values[index, :, :count] = self.values[pages, :, places].swapaxes(0, 1)
        return keys, values, counts

    def _reserve(self, added: NDArray[np.int64]) -> None:
        """Make room for so many more tokens of each sequence; here it is there."""

    def _places(self, sequence: int, positions: NDArray[np.int64]) -> tuple[Any, NDArray[np.int64]]:
        """Page, and place in it, of positions of a sequence."""
        return sequence, positions % self.capacity

    def clear(self) -> None:
        """Forget all tokens."""
        self.lengths[:] = 0


def _checked_counts(operation: str, counts: Any, batch: int) -> NDArray[np.int64]:
    """Give how many tokens each sequence gets, (B,)."""
    array = as_numpy(operation, "counts", counts)
    if array.dtype.kind not in "iu":
        message = f"{operation}: counts has dtype {array.dtype}; use integers"
        raise DTypeError(message)
    if array.shape not in ((), (batch,)):
        message = f"{operation}: counts has shape {array.shape}; use one integer, or ({batch},), one for each sequence"
        raise ShapeError(message)
    return np.broadcast_to(array, batch).astype(np.int64)


def check_sizes(operation: str, sizes: dict[str, int]) -> None:
    """Raise ArgumentError for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            message = f"{operation}: {name} is {size}; use 1 or more"
            raise ArgumentError(message)


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros whose rows begin with a line of the cache where their length allows it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    zeros: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return zeros


def stored_dtype(operation: str, dtype: Any) -> np.dtype[Any]:
    """The type that arrays of the cache have."""
    name = str(getattr(dtype, "__name__", dtype)).removeprefix("torch.")
    try:
        stored = BFLOAT16 if name == "bfloat16" else np.dtype(name)
    except TypeError:
        stored = None
    if stored not in FLOATS:
        message = f"{operation}: dtype is {name}; use float32, float64, float16 or bfloat16"
        raise DTypeError(message)
    return stored
