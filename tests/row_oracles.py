"""The row operations in float64 as in a textbook, and what their tests share."""

from __future__ import annotations

import ml_dtypes
import numpy as np

# The types of numbers of the operations on rows.
DTYPES = tuple(map(np.dtype, (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)))
# Nothing special, then around the 16 and 8 lanes of a vector, a few vectors with a rest, primes, and long ones.
SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 35, 61, 67, 127, 257, 1000, 1021]
LIMITS = {np.float32: 2e-5, np.float64: 1e-13}


def softmax(x, axis=-1, temperature=1.0):
    z = np.asarray(x, np.float64) / temperature
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def logsumexp(x, axis=-1, keepdims=False):
    z = np.asarray(x, np.float64)
    m = z.max(axis, keepdims=True)
    lse = m + np.log(np.exp(z - m).sum(axis, keepdims=True))
    return lse if keepdims else lse.squeeze(axis)


def cross_entropy(logits, targets):
    """Loss and gradient of each row of (N, V), from the sum over the other classes."""
    z = np.asarray(logits, np.float64)
    rows = np.arange(len(z))
    with np.errstate(over="ignore"):
        others = np.exp(z - z[rows, targets][:, None])
    others[rows, targets] = 0
    total = others.sum(-1)
    gradient = others / (1 + total)[:, None]
    gradient[rows, targets] = -total / (1 + total)
    return np.log1p(total), gradient


def assert_relative(got, wanted, limit, floor=0.0):
    """Every element within ``limit`` of the truth, relatively, or within ``floor`` absolutely."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    error = np.abs(got - wanted)
    wrong = ~((error <= floor) | (error <= limit * np.abs(wanted)))
    if wrong.any():
        worst = np.unravel_index(np.argmax(np.where(wrong, error / np.abs(wanted), 0)), wanted.shape)
        message = f"{wrong.sum()} elements are off; at {worst} {got[worst]!r}, wanted {wanted[worst]!r}"
        raise AssertionError(message)


def normal(shape, dtype, deviation=1.0, seed=0):
    return (deviation * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)
