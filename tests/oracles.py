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

    def gradients(self, dout, dlse=None, dentropy=None):
        """dq, dk, dv and the gradient of the inverse temperatures."""
        p, dout = self.weights, np.asarray(dout, np.float64)
        k, v = (np.repeat(x, self.group, axis=1) for x in (self.k, self.v))
        slope = np.einsum("bhic,bhjc->bhij", dout, v) - (dout * self.out).sum(-1)[..., None]
        if dlse is not None:
            slope = slope + np.asarray(dlse, np.float64)[..., None]
        if dentropy is not None:
            log_p = np.log(p, where=p > 0, out=np.zeros_like(p))
            slope = slope - np.asarray(dentropy, np.float64)[..., None] * (log_p + self.entropy[..., None])
        ds = p * slope
        u = self.scale * np.einsum("bhij,bhjc->bhic", ds, k)
        dk = self.scale * np.einsum("bhij,bhic->bhjc", ds * self.temperature[..., None], self.q)
        dv = np.einsum("bhij,bhic->bhjc", p, dout)

        def over_group(x):
            b, h, *rest = x.shape
            return x.reshape(b, h // self.group, self.group, *rest).sum(2)

        return self.temperature[..., None] * u, over_group(dk), over_group(dv), (self.q * u).sum(-1)


def attention(q, k, v, *, scale=None, inv_temperature=1.0, visible=None) -> DenseAttention:
    """Attention where ``visible`` (Lq, Lk) says which keys a query sees; all by default."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    scale = 1 / np.sqrt(q.shape[3]) if scale is None else scale
    temperature = np.broadcast_to(np.asarray(inv_temperature, np.float64), q.shape[:3])
    if visible is None:
        visible = np.ones((q.shape[2], k.shape[2]), bool)
    s = scale * temperature[..., None] * np.einsum("bhic,bhjc->bhij", q, np.repeat(k, group, axis=1))
    s = np.where(visible, s, -np.inf)
    m = s.max(-1, initial=-np.inf)
    seen = np.isfinite(m)
    e = np.exp(s - np.where(seen, m, 0.0)[..., None])
    total = e.sum(-1)
    p = e / np.where(seen, total, 1.0)[..., None]
    with np.errstate(divide="ignore"):
        lse = m + np.log(total)
    entropy = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(-1)
    out = np.einsum("bhij,bhjc->bhic", p, np.repeat(v, group, axis=1))
    return DenseAttention(out, lse, m, entropy, p, q, k, v, scale, temperature, group)


def causal(queries: int, keys: int, align: str = "bottom_right") -> np.ndarray:
    """Which keys a query sees under a causal mask, (queries, keys)."""
    return np.tri(queries, keys, keys - queries if align == "bottom_right" else 0, dtype=bool)
