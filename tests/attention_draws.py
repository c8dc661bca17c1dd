"""Attention with options drawn at random, all of them together, and the same thing done densely in float64 by torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch

import oracles

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16), BFLOAT16]


@dataclass
class Drawn:
    """What one call is given."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    dout: np.ndarray
    dlse: np.ndarray
    dentropy: np.ndarray
    options: dict[str, Any]

    @property
    def learned(self) -> dict[str, np.ndarray]:
        """All that has a gradient."""
        names = ("inv_temperature", "bias", "alibi_slopes", "sinks", "sigmoid_bias", "value_gate")
        given = {name: self.options[name] for name in names if name in self.options}
        numbers = {name: value for name, value in given.items() if not isinstance(value, str)}
        return {"q": self.q, "k": self.k, "v": self.v} | numbers


def draw(seed: int, dtype: np.dtype) -> Drawn:
    """Sizes, and each option with some probability, of that type or of the one that is computed with."""
    rng = np.random.default_rng(seed)
    group, key_heads, batch = int(rng.choice([1, 2, 4])), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    heads = group * key_heads
    queries, keys = int(rng.choice([1, 2, 7, 16, 33, 70])), int(rng.choice([1, 5, 16, 31, 64, 97, 150]))
    size, value_size = int(rng.choice([1, 3, 8, 16, 40])), int(rng.choice([1, 5, 8, 33]))
    rows, scores = (batch, heads, queries), (batch, heads, queries, keys)
    wide = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    other = [dtype, wide][int(rng.integers(2))]

    def normal(shape, of=dtype):
        return np.asarray(rng.standard_normal(shape)).astype(of)

    def broadcastable(shape):
        kept = [n if rng.random() < 0.6 else 1 for n in shape]
        while len(kept) > 1 and kept[0] == 1 and rng.random() < 0.5:
            kept = kept[1:]
        return kept

    def chance(probability):
        return rng.random() < probability

    kind = "sigmoid" if chance(0.4) else "softmax"
    options: dict[str, Any] = {"kind": kind}
    if chance(0.4):
        options["scale"] = float(rng.choice([0.1, -0.3, 0.7]))
    if chance(0.5):
        options["inv_temperature"] = normal(broadcastable(rows), other)
    if chance(0.5):
        options["softcap"] = float(rng.choice([0.5, 2.0, 30.0]))
    if chance(0.5):
        bias = normal(broadcastable(scores), other)
        options["bias"] = np.where(chance(0.4) & (rng.random(bias.shape) < 0.2), -np.inf, bias).astype(other)
    if chance(0.4):
        options["alibi_slopes"] = (0.1 * normal(heads, np.float64)).astype(other)
    if chance(0.4):
        options["mask"] = rng.random(broadcastable(scores)) < 0.7
    if chance(0.5):
        options["is_causal"] = True
    if chance(0.5):
        options["causal_align"] = "top_left"
    if chance(0.4):
        options["window"] = tuple(rng.choice([-1, 0, 1, 5, 40], 2).tolist())
    for name, length in (("q_len", queries), ("kv_len", keys)):
        if chance(0.3):
            options[name] = rng.integers(0, length + 1, batch)
    if kind == "sigmoid":
        options["sigmoid_bias"] = ["auto", "auto_row", -1.3, normal(heads, other)][int(rng.integers(4))]
    elif chance(0.5):
        options["sinks"] = np.where(rng.random(heads) < 0.2, -np.inf, normal(heads)).astype(other)
    if chance(0.25):
        options["value_gate"] = normal(broadcastable((batch, key_heads, keys)), other)
    if chance(0.25):
        options |= {"dropout_p": 0.3, "seed": int(rng.integers(2**63))}
    return Drawn(
        normal((batch, heads, queries, size)),
        normal((batch, key_heads, keys, size)),
        normal((batch, key_heads, keys, value_size)),
        normal((*rows, value_size)),
        normal(rows, wide),
        normal(rows, wide),
        options,
    )


@dataclass
class Dense:
    """What it gives, in float64."""

    weights: np.ndarray
    """(B, H, T, S), before dropout."""
    visible: np.ndarray
    results: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]


def dense(drawn: Drawn) -> Dense:
    """The formulas as they are written, with every score stored."""
    options = drawn.options
    leaf = {name: _tensor(value).requires_grad_() for name, value in drawn.learned.items()}
    batch, heads, queries, size = drawn.q.shape
    key_heads, keys = drawn.k.shape[1:3]
    rows, group = (batch, heads, queries), heads // key_heads
    scale = torch.tensor(options.get("scale", 1 / math.sqrt(size)), dtype=torch.float64, requires_grad=True)
    leaf["scale"] = scale
    visible, distance = _sight(drawn)
    z = leaf["q"] @ leaf["k"].repeat_interleave(group, 1).mT * scale
    if "inv_temperature" in leaf:
        z = z * leaf["inv_temperature"].broadcast_to(rows)[..., None]
    if cap := options.get("softcap"):
        z = cap * torch.tanh(z / cap)
    if "bias" in leaf:
        z = z + leaf["bias"].masked_fill(leaf["bias"] == -torch.inf, 0)
    if "alibi_slopes" in leaf:
        z = z - leaf["alibi_slopes"][:, None, None] * distance.abs()
    count = visible.sum(-1)
    if options["kind"] == "sigmoid":
        bias = options["sigmoid_bias"]
        if not isinstance(bias, str):
            added = leaf["sigmoid_bias"].expand(heads)[:, None].expand(rows)
        elif bias == "auto_row":
            added = -count.clamp(min=1).double().log()
        else:
            added = torch.full(rows, -math.log(keys), dtype=torch.float64)
        weights = torch.where(visible, torch.sigmoid(z + added[..., None]), 0)
        every, terms, top = z.masked_fill(~visible, -torch.inf), weights, torch.zeros(rows).double()
    else:
        sinks = torch.full(rows, -torch.inf).double()
        if "sinks" in leaf:
            q_len = torch.from_numpy(np.broadcast_to(options.get("q_len", queries), batch).copy())
            beyond = torch.arange(queries) >= q_len[:, None, None]
            sinks = leaf["sinks"][:, None].expand(rows).masked_fill(beyond, -torch.inf)
        every = torch.cat([z.masked_fill(~visible, -torch.inf), sinks[..., None]], -1)
        top = every.detach().amax(-1)
        top = top.masked_fill(top == -torch.inf, 0)
        terms = (every - top[..., None]).exp()
    total = terms.sum(-1)
    seen = total > 0
    divisor = torch.where(seen, total, 1)
    shares = terms / divisor[..., None]
    if options["kind"] == "softmax":
        weights = shares[..., :-1]
    lse = torch.where(seen, top + divisor.log(), -torch.inf)
    positive = shares > 0
    entropy = -(shares * torch.where(positive, shares, 1).log()).sum(-1)
    values = leaf["v"]
    if "value_gate" in leaf:
        values = values * leaf["value_gate"].broadcast_to((batch, key_heads, keys))[..., None]
    kept = weights
    if rate := options.get("dropout_p"):
        kept = weights * torch.from_numpy(
            oracles.dropout_factors(tuple(weights.shape), rate, options["seed"])
        )
    out = kept @ values.repeat_interleave(group, 1)
    energy = (out * _tensor(drawn.dout)).sum() + (entropy * _tensor(drawn.dentropy)).sum()
    energy = energy + (torch.where(seen, lse, 0) * _tensor(drawn.dlse)).sum()
    found = torch.autograd.grad(energy, list(leaf.values()), allow_unused=True, materialize_grads=True)
    scores = torch.where(visible, z, 0).detach()
    mean = scores.sum(-1) / count.clamp(min=1)
    finite = torch.where(positive, every, 0)
    centre = (shares * finite).sum(-1, keepdim=True)
    results = {
        "out": out,
        "lse": lse,
        "max_logit": z.masked_fill(~visible, -torch.inf).amax(-1),
        "entropy": entropy,
        "logit_count": count.double(),
        "logit_mean": mean,
        "logit_m2": (torch.where(visible, scores - mean[..., None], 0) ** 2).sum(-1),
        "variance": (shares * (finite - centre) ** 2).sum(-1),
    }
    return Dense(
        weights.detach().numpy(),
        visible.numpy(),
        {name: value.detach().numpy() for name, value in results.items()},
        {name: value.numpy() for name, value in zip(leaf, found, strict=True)},
    )


def _sight(drawn: Drawn) -> tuple[torch.Tensor, torch.Tensor]:
    """Which keys the queries see, (B, H, T, S), and how far they are after them, (B, 1, T, S)."""
    options = drawn.options
    batch, heads, queries, _ = drawn.q.shape
    keys = drawn.k.shape[2]
    align, (left, right) = options.get("causal_align", "bottom_right"), options.get("window", (-1, -1))
    lengths = {name: options[name] for name in ("q_len", "kv_len") if name in options}
    window = (left, 0 if options.get("is_causal") else right)
    visible = oracles.band(queries, keys, align=align, window=window, **lengths) & options.get("mask", True)
    if "bias" in options:
        visible = visible & (options["bias"].astype(np.float64) > -np.inf)
    q_len, kv_len = (
        np.reshape(options.get(name, length), (-1, 1, 1, 1))
        for name, length in (("q_len", queries), ("kv_len", keys))
    )
    shift = kv_len - q_len if align == "bottom_right" else 0
    distance = np.arange(keys) - (np.arange(queries)[:, None] + shift)
    visible = np.broadcast_to(visible, (batch, heads, queries, keys)).copy()
    return torch.from_numpy(visible), torch.from_numpy(distance).double()


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array).astype(np.float64))
