"""Keys and values of the tokens so far in pages that sequences take from a common stock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.errors import ArgumentError
from logitscope.ops.kv_cache import KVCache, aligned_zeros, check_sizes, stored_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAGE_SIZES = range(16, 257)


class PagedKVCache(KVCache):
    """A :class:`logitscope.KVCache` whose memory is a stock of pages, of which a sequence takes one when it needs it.

    Sequences of very different lengths then share the memory, and one that has ended makes room for others. Decoding
    gives the same bits as over a cache without pages.

    Parameters
    ----------
    batch, key_heads
        Number of sequences, and of their key heads.
    stock
        Number of pages for all sequences together.
    head_dim
        Size of a key.
    page_size
        Tokens of a page, 16 to 256.
    capacity
        How many tokens one sequence may have; by default as many as there are in the stock.
    value_dim
        Size of a value; that of a key by default.
    dtype
        As of :class:`logitscope.KVCache`.

    Examples
    --------
    >>> import numpy as np, logitscope
    >>> cache = logitscope.PagedKVCache(2, 1, 5, 8, page_size=16)
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 1, 40, 8), dtype=np.float32)
    >>> cache.append(k, v, counts=[40, 20])
    >>> cache.pages.tolist(), cache.free_pages
    ([[0, 1, 2, 0, 0], [3, 4, 0, 0, 0]], 0)
    >>> last = logitscope.attention_decode(q[:, :, 39:], cache)
    >>> bool(np.allclose(last.out[0], logitscope.attention(q, k, v, is_causal=True).out[0, :, 39:], atol=1e-6))
    True
    >>> cache.release(0)
    >>> cache.lengths.tolist(), cache.free_pages
    ([0, 20], 3)
    """

    def __init__(
        self,
        batch: int,
        key_heads: int,
        stock: int,
        head_dim: int = 64,
        *,
        page_size: int = 64,
        capacity: int | None = None,
        value_dim: int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        value_dim = head_dim if value_dim is None else value_dim
        most = stock * page_size if capacity is None else capacity
        sizes = {"batch": batch, "key_heads": key_heads, "stock": stock, "head_dim": head_dim}
        check_sizes("PagedKVCache", sizes | {"value_dim": value_dim, "capacity": most})
        if page_size not in _PAGE_SIZES:
            message = f"PagedKVCache: page_size is {page_size!r}; use an integer of 16..256"
            raise ArgumentError(message)
        stored = stored_dtype("PagedKVCache", dtype)
        self.window = None
        self.capacity = most
        self.page_size = page_size
        self.keys: NDArray[Any] = aligned_zeros((key_heads, stock, page_size, head_dim), stored).swapaxes(
            0, 1
        )
        """(stock, Hk, page_size, D). In memory a head's pages lie one after the other; neighbours are read as one."""
        self.values: NDArray[Any] = aligned_zeros((key_heads, stock, page_size, value_dim), stored).swapaxes(
            0, 1
        )
        """(stock, Hk, page_size, Dv), in memory as the keys."""
        self.lengths: NDArray[np.int64] = np.zeros(batch, np.int64)
        self._table: NDArray[np.int64] = np.zeros((batch, -(-most // page_size)), np.int64)
        # The last is taken first.
        self._free = list(range(stock))[::-1]

    @property
    def pages(self) -> NDArray[np.int64]:
        """Which pages of ``keys`` and ``values`` hold the places of each sequence, (B, pages of one).

        What lies beyond the length of a sequence names no page of it.
        """
        return self._table

    @property
    def free_pages(self) -> int:
        """How many pages no sequence has taken."""
        return len(self._free)

    def release(self, sequence: int) -> None:
        """Forget the tokens of one sequence; its pages go back to the stock.

        Raises
        ------
        ArgumentError
            If there is no such sequence.
        """
        if not 0 <= sequence < len(self.lengths):
            message = f"PagedKVCache.release: sequence is {sequence}; use 0..{len(self.lengths) - 1}"
            raise ArgumentError(message)
        taken = self._taken(self.lengths[sequence])
        self._free.extend(self._table[sequence, :taken].tolist()[::-1])
        self._table[sequence] = 0
        self.lengths[sequence] = 0

    def clear(self) -> None:
        """Forget all tokens."""
        for sequence in range(len(self.lengths)):
            self.release(sequence)

    def _taken(self, lengths: Any) -> Any:
        """How many pages so many tokens take."""
        return -(-lengths // self.page_size)

    def _reserve(self, added: NDArray[np.int64]) -> None:
        before, after = self._taken(self.lengths), self._taken(self.lengths + added)
        needed = int((after - before).sum())
        if needed > len(self._free):
            message = (
                f"PagedKVCache.append: {needed} more pages are needed and {len(self._free)} of {len(self.keys)} "
                f"are free; use a larger stock, or release a sequence"
            )
            raise ArgumentError(message)
        for sequence, (start, end) in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
            for index in range(start, end):
                self._table[sequence, index] = self._free.pop()

    def _places(self, sequence: int, positions: NDArray[np.int64]) -> tuple[Any, NDArray[np.int64]]:
        return self._table[sequence, positions // self.page_size], positions % self.page_size
