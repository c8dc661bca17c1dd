"""The dropout of the attention kernels in plain torch: the same weights for the same seed, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_HALF = 0xFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def dropout_factors(weights: Tensor, dropout_p: float, seed: Tensor) -> Tensor:
    """What each weight, (B, H, T, S), is multiplied by: 0, or 1 over the share of the weights that is kept.

    Philox4x32-10 (Salmon et al., SC 2011) with the seed as its key and (key // 8, query, head, batch element) as its
    counter; the weight of a key is dropped when half ``key % 8`` of the words, the lower half of each first, is below
    ``dropout_p * 2**16``.
    """
    batch, heads, queries, keys = weights.shape
    sizes = ((-(-keys // 8), 3), (queries, 2), (heads, 1), (batch, 0))
    counter = []
    for size, axis in sizes:
        shape = [1, 1, 1, 1]
        shape[axis] = size
        counter.append(torch.arange(size, device=weights.device).view(shape))
    full = (batch, heads, queries, sizes[0][0])
    halves = [half for word in _philox(counter, seed) for half in (word & _HALF, word >> 16)]
    numbers = torch.stack([half.expand(full) for half in halves], dim=-1).flatten(-2)[..., :keys]
    threshold = min(round(dropout_p * 2**16), _HALF)
    return (numbers >= threshold).to(weights.dtype) / (1.0 - threshold / 2**16)


def _philox(counter: list[Tensor], seed: Tensor) -> list[Tensor]:
    """Four words for each counter; 32-bit numbers in int64, whose products wrap as those of 64 bits without a sign."""
    keys = [seed & _WORD, (seed >> 32) & _WORD]
    a, b, c, d = counter
    for _ in range(_ROUNDS):
        low, high = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            ((high >> 32) & _WORD) ^ b ^ keys[0],
            high & _WORD,
            ((low >> 32) & _WORD) ^ d ^ keys[1],
            low & _WORD,
        )
        keys = [(key + step) & _WORD for key, step in zip(keys, _WEYL, strict=True)]
    return [a, b, c, d]
