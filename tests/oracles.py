"""Dense reference computations in float64 that share no code with the library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class DenseAttention:
    """Attention row by row with the whole score matrix, and its gradients by the textbook formulas."""

    out: np.ndarray
    lse: np.ndarray
    max_logit: np.ndarray
    entropy: np.ndarray
    weights: np.ndarray
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scale: float
    temperature: np.ndarray
    group: int
    sink_weights: np.ndarray

    def gradients(self, dout, dlse=None, dentropy=None):
        """dq, dk, dv and the gradients of the inverse temperatures and of the sinks."""
        p, dout = self.weights, np.asarray(dout, np.float64)
        k, v = (np.repeat(x, self.group, axis=1) for x in (self.k, self.v))
        # The sink is one more column, whose value is 0.
        p = np.concatenate([p, self.sink_weights[..., None]], axis=-1)
        dp = np.pad(np.einsum("bhic,bhjc->bhij", dout, v), [(0, 0)] * 3 + [(0, 1)])
        slope = dp - (dout * self.out).sum(-1)[..., None]
        if dlse is not None:
            slope = slope + np.asarray(dlse, np.float64)[..., None]
        if dentropy is not None:
            log_p = np.log(p, where=p > 0, out=np.zeros_like(p))
            slope = slope - np.asarray(dentropy, np.float64)[..., None] * (log_p + self.entropy[..., None])
        ds, dsinks = np.split(p * slope, [-1], axis=-1)
        p = p[..., :-1]
        u = self.scale * np.einsum("bhij,bhjc->bhic", ds, k)
        dk = self.scale * np.einsum("bhij,bhic->bhjc", ds * self.temperature[..., None], self.q)
        dv = np.einsum("bhij,bhic->bhjc", p, dout)

        def over_group(x):
            b, h, *rest = x.shape
            return x.reshape(b, h // self.group, self.group, *rest).sum(2)

        dq, dtemperature = self.temperature[..., None] * u, (self.q * u).sum(-1)
        return dq, over_group(dk), over_group(dv), dtemperature, dsinks.sum((0, 2, 3))


def attention(
    q, k, v, *, scale=None, inv_temperature=1.0, visible=None, sinks=None, q_len=None
) -> DenseAttention:
    """Attention where ``visible``, which broadcasts to (B, Hq, Lq, Lk), says which keys a query sees; all by default.

    Rows beyond ``q_len`` (B,) have no sink.
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    scale = 1 / np.sqrt(q.shape[3]) if scale is None else scale
    temperature = np.broadcast_to(np.asarray(inv_temperature, np.float64), q.shape[:3])
    s = scale * temperature[..., None] * np.einsum("bhic,bhjc->bhij", q, np.repeat(k, group, axis=1))
    if visible is not None:
        s = np.where(visible, s, -np.inf)
    sink = np.full(q.shape[:3], -np.inf) if sinks is None else np.asarray(sinks, np.float64)[:, None]
    real = np.arange(q.shape[2]) < np.asarray(q.shape[2] if q_len is None else q_len).reshape(-1, 1, 1)
    sink = np.where(real, np.broadcast_to(sink, q.shape[:3]), -np.inf)
    max_logit = s.max(-1, initial=-np.inf)
    m = np.maximum(max_logit, sink)
    seen = np.isfinite(m)
    reference = np.where(seen, m, 0.0)
    e, e_sink = np.exp(s - reference[..., None]), np.exp(sink - reference)
    total = e.sum(-1) + e_sink
    p, p_sink = e / np.where(seen, total, 1.0)[..., None], e_sink / np.where(seen, total, 1.0)
    with np.errstate(divide="ignore"):
        lse = m + np.log(total)
    both = np.concatenate([p, p_sink[..., None]], axis=-1)
    entropy = -(both * np.log(both, where=both > 0, out=np.zeros_like(both))).sum(-1)
    out = np.einsum("bhij,bhjc->bhic", p, np.repeat(v, group, axis=1))
    return DenseAttention(out, lse, max_logit, entropy, p, q, k, v, scale, temperature, group, p_sink)


def band(queries: int, keys: int, *, align="bottom_right", window=(-1, -1), q_len=None, kv_len=None):
    """Which keys a query sees with a window and with lengths, (B, 1, queries, keys)."""
    q_len = np.asarray(queries if q_len is None else q_len).reshape(-1, 1, 1, 1)
    kv_len = np.asarray(keys if kv_len is None else kv_len).reshape(-1, 1, 1, 1)
    i, j = np.arange(queries)[:, None], np.arange(keys)
    distance = j - (i + (kv_len - q_len if align == "bottom_right" else 0))
    left, right = (np.inf if reach < 0 else reach for reach in window)
    return (i < q_len) & (j < kv_len) & (distance <= right) & (distance >= -left)


def causal(queries: int, keys: int, align: str = "bottom_right") -> np.ndarray:
    """Which keys a query sees under a causal mask, (queries, keys)."""
    return np.tri(queries, keys, keys - queries if align == "bottom_right" else 0, dtype=bool)


def philox4x32(counter, key):
    """Philox4x32-10 of (..., 4) counters with two words of a key, round by round as in the paper."""
    c0, c1, c2, c3 = (
        np.asarray(word, np.uint64) for word in np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    )
    k0, k1 = (int(word) for word in key)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (b >> shift) ^ c1 ^ np.uint64(k0),
            b & low,
            (a >> shift) ^ c3 ^ np.uint64(k1),
            a & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1)


def dropout_factors(shape, dropout_p, seed):
    """What dropout multiplies the weights of attention by, (B, H, T, S)."""
    b, h, i, j = np.indices(shape)
    words = philox4x32(np.stack([j // 8, i, h, b], axis=-1), (seed % 2**32, seed >> 32))
    word = np.take_along_axis(words, (j % 8 // 2)[..., None], axis=-1)[..., 0]
    number = np.where(j % 2 == 0, word % 2**16, word // 2**16)
    rate = round(dropout_p * 2**16) / 2**16
    return np.where(number / 2.0**16 < rate, 0.0, 1 / (1 - rate))
