"""Gates on the values of attention: each value times a number of its own, and the gradient of that number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope._dtypes import narrow, widen

if TYPE_CHECKING:
    from numpy.typing import NDArray


def gated(v: NDArray[Any], gate: NDArray[Any], kv_len: list[int] | None) -> NDArray[Any]:
    """Values (B, Hk, Lk, Dv) times gates (B, Hk, Lk); 0 beyond the lengths, whatever is there."""
    product = narrow(widen(v) * gate[..., None], v.dtype)
    for sequence, length in enumerate(kv_len or ()):
        product[sequence, :, length:] = 0
    return product


def gate_gradients(
    v: NDArray[Any], gate: NDArray[Any], kv_len: list[int] | None, dgated: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gradients of values and gates from that of their product; 0 beyond the lengths."""
    dv, dgate = gated(dgated, gate, kv_len), np.einsum("bhld,bhld->bhl", widen(v), widen(dgated))
    for sequence, length in enumerate(kv_len or ()):
        dgate[sequence, :, length:] = 0
    return dv, dgate
