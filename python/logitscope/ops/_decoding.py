"""What the kernel works on that reads keys and values once, for few queries over many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from logitscope.ops._attention_problem import Problem


class Decoding(NamedTuple):
    """Checked inputs; the compiled module reads them by these names."""

    q: NDArray[Any]
    keys: NDArray[Any]
    values: NDArray[Any]
    pages: list[int]
    lengths: list[int]
    capacity: int
    window: int | None
    scale: float
    inv_temperature: NDArray[Any] | None
    softcap: float
    alibi_slopes: NDArray[Any] | None
    sinks: NDArray[Any] | None

    @classmethod
    def of_single_query(cls, problem: Problem) -> Decoding | None:
        """The same as a step of decoding; None where it is none.

        Whatever the number of keys: a length has to give the bits of a shorter call.
        """
        (batch, heads, queries, dim), (keys_batch, key_heads, keys, keys_dim) = (
            problem.q.shape,
            problem.k.shape,
        )
        # What does not fit is left to those who say so.
        fits = (keys_batch, keys_dim) == (batch, dim) and problem.v.shape[:3] == problem.k.shape[:3]
        if queries != 1 or not keys or not fits or not key_heads or heads % key_heads:
            return None
        given = (problem.mask, problem.bias, problem.value_gate, problem.q_len)
        if problem.is_sigmoid or problem.dropout_p or any(option is not None for option in given):
            return None
        # Only at the last key it sees all keys that a window to the left leaves.
        is_positioned = problem.window != (None, None) or problem.alibi_slopes is not None
        if problem.align != "bottom_right" and is_positioned:
            return None
        return cls(
            q=problem.q,
            keys=problem.k,
            values=problem.v,
            pages=list(range(batch)),
            lengths=[keys] * batch if problem.kv_len is None else problem.kv_len,
            capacity=keys,
            window=problem.window[0],
            scale=problem.scale,
            inv_temperature=problem.inv_temperature,
            softcap=problem.softcap,
            alibi_slopes=problem.alibi_slopes,
            sinks=problem.sinks,
        )
