"""Attention with every option and statistic, written out densely in float64: it shares no code with the library."""

from __future__ import annotations

import numpy as np

import oracles


def attention(q, k, v, bins, options):
    """Results by name, maps of mean and largest weights among them; arrays have heads before positions."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    if "value_gate" in options:
        v = v * np.broadcast_to(np.asarray(options["value_gate"], np.float64), v.shape[:3])[..., None]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores, sink, real = _scores(q, k, options)
    keys = scores.shape[3]
    seen = np.isfinite(scores)
    if options.get("kind") == "sigmoid":
        bias = _sigmoid_bias(options.get("sigmoid_bias", "auto"), seen)
        weights = np.where(seen, 1 / (1 + np.exp(-np.where(seen, scores, 0) - bias)), 0)
        top, every, all_weights = np.zeros((*scores.shape[:3], 1)), scores, weights
    else:
        sinks = np.where(real, np.broadcast_to(sink[:, None, None], (*scores.shape[:3], 1)), -np.inf)
        every = np.concatenate([scores, sinks], axis=-1)
        top = every.max(-1, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        all_weights = np.exp(every - top)
    total = all_weights.sum(-1)
    divisor = np.where(total > 0, total, 1)
    shares = all_weights / divisor[..., None]
    if options.get("kind") != "sigmoid":
        weights = shares[..., :keys]
    factors = 1.0
    if options.get("dropout_p"):
        factors = oracles.dropout_factors(weights.shape, options["dropout_p"], options["seed"])
    count = seen.sum(-1)
    mean = np.where(seen, scores, 0).sum(-1) / np.maximum(count, 1)
    finite = np.where(shares > 0, np.where(np.isfinite(every), every, 0), 0)
    centre = (shares * finite).sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = top[..., 0] + np.log(total)
    return {
        "out": np.einsum("bhij,bhjc->bhic", weights * factors, v),
        "lse": lse,
        "max_logit": scores.max(-1, initial=-np.inf),
        "inv_sum": np.where(total > 0, 1 / divisor, 0),
        "entropy": -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(-1),
        "logit_count": count.astype(np.float64),
        "logit_mean": mean,
        "logit_m2": (np.where(seen, scores - mean[..., None], 0) ** 2).sum(-1),
        "variance": (shares * (finite - centre) ** 2).sum(-1),
        "mean": _map(weights, bins, lambda part: part.sum(-1).mean(-1)),
        "max": _map(weights, bins, lambda part: part.max((-1, -2))),
    }


def _scores(q, k, options):
    """The scores, -inf where hidden; the sinks; which queries are real."""
    (batch, heads, queries, dim), keys = q.shape, k.shape[2]
    temperature = np.broadcast_to(np.asarray(options.get("inv_temperature", 1.0), np.float64), q.shape[:3])
    scores = temperature[..., None] * np.einsum("bhic,bhjc->bhij", q, k) * options.get("scale", dim**-0.5)
    if cap := options.get("softcap"):
        scores = cap * np.tanh(scores / cap)
    if "bias" in options:
        scores = scores + np.asarray(options["bias"], np.float64)
    lengths = {name: np.broadcast_to(options[name], batch) for name in ("q_len", "kv_len") if name in options}
    align = options.get("causal_align", "bottom_right")
    left, right = options.get("window", (-1, -1))
    window = (left, 0 if options.get("is_causal") else right)
    visible = oracles.band(queries, keys, align=align, window=window, **lengths)
    if "alibi_slopes" in options:
        shift = 0
        if align == "bottom_right":
            shift = lengths.get("kv_len", np.array([keys])) - lengths.get("q_len", np.array([queries]))
        own = np.arange(queries)[:, None] + np.reshape(shift, (-1, 1, 1, 1))
        slopes = np.asarray(options["alibi_slopes"], np.float64)[:, None, None]
        scores = scores - slopes * abs(np.arange(keys) - own)
    visible = visible & options.get("mask", True)
    real = np.arange(queries) < np.reshape(lengths.get("q_len", queries), (-1, 1, 1))
    sinks = np.asarray(options.get("sinks", np.full(heads, -np.inf)), np.float64)
    return np.where(visible, scores, -np.inf), sinks, real[..., None]


def _sigmoid_bias(bias, seen):
    if isinstance(bias, str):
        return -np.log(np.maximum(seen.sum(-1, keepdims=True) if bias == "auto_row" else seen.shape[3], 1))
    return np.asarray(bias, np.float64)[:, None, None]


def _map(weights, bins, pool):
    """Pool the weights of each bin of queries and keys, (B, H, bins, bins)."""
    edges = [
        np.arange(count + 1) * length // count for count, length in zip(bins, weights.shape[2:], strict=True)
    ]
    made = np.empty((*weights.shape[:2], *bins))
    for row, column in np.ndindex(*bins):
        rows, columns = (
            slice(*edge[place : place + 2]) for edge, place in zip(edges, (row, column), strict=True)
        )
        made[..., row, column] = pool(weights[..., rows, columns])
    return made
