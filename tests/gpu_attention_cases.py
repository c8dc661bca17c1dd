"""Cases of attention that tests on a GPU go through: shapes, options, inputs."""

from __future__ import annotations

import functools

import numpy as np

from gpu_device import open_device

INF = np.inf
FIGURES = (
    "out", "lse", "max_logit", "inv_sum", "entropy", "logit_count", "logit_mean", "logit_m2", "variance",
)  # fmt: skip
B, HQ, HK, LQ, LK, D, DV = 2, 4, 2, 19, 35, 24, 17
RNG = np.random.default_rng(0)
BIAS = RNG.standard_normal((1, HQ, LQ, LK)).astype(np.float32)
BIAS[:, :, 3, ::2] = -INF
MASK = RNG.random((B, 1, LQ, LK)) > 0.3
OPTIONS = {
    "plain": {},
    "scale": {"scale": 0.3},
    "temperature": {"inv_temperature": RNG.uniform(-1, 2, (B, HQ, LQ)).astype(np.float32)},
    "temperature of heads": {"inv_temperature": RNG.uniform(0, 2, (HQ, 1)).astype(np.float32)},
    "softcap": {"softcap": 1.5},
    "bias": {"bias": BIAS},
    "bias of keys": {"bias": BIAS[:, :1, :1]},
    "mask": {"mask": MASK},
    "mask and bias": {"mask": MASK, "bias": BIAS},
    "slopes": {"alibi_slopes": np.array([0.0, 0.1, 0.5, 2.0], np.float32)},
    "causal": {"is_causal": True},
    "causal, top left": {"is_causal": True, "causal_align": "top_left"},
    "window": {"window": (5, 3)},
    "window, top left": {"window": (2, 1), "causal_align": "top_left"},
    "lengths": {"q_len": [19, 7], "kv_len": [35, 11]},
    "lengths and causal": {"q_len": [12, 0], "kv_len": [20, 35], "is_causal": True},
    "no keys": {"kv_len": 0},
    "sinks": {"sinks": np.array([0.0, -INF, 3.0, -2.0], np.float32)},
    "sinks without keys": {"sinks": np.array([0.0, -INF, 3.0, -2.0], np.float32), "kv_len": [0, 5]},
    "sigmoid": {"kind": "sigmoid"},
    "sigmoid by rows": {"kind": "sigmoid", "sigmoid_bias": "auto_row", "mask": MASK, "is_causal": True},
    "dropout": {"dropout_p": 0.3, "seed": 2**63 + 5},
    "dropout of a causal sigmoid": {"dropout_p": 0.5, "seed": 1, "kind": "sigmoid", "is_causal": True},
    "gates": {"value_gate": RNG.uniform(-1, 2, (B, HK, LK)).astype(np.float32), "kv_len": [35, 11]},
    "gates of keys": {"value_gate": RNG.uniform(-1, 2, LK).astype(np.float32), "dropout_p": 0.1, "seed": 3},
    "positions first": {"layout": "blhd", "is_causal": True, "bias": BIAS},
    "sigmoid of heads": {
        "kind": "sigmoid",
        "sigmoid_bias": np.array([-1.0, 0.0, 2.0, -30.0], np.float32),
        "softcap": 2.0,
        "is_causal": True,
    },
    "all": {
        "softcap": 2.0,
        "bias": BIAS,
        "alibi_slopes": np.array([0.0, 0.1, 0.5, 2.0], np.float32),
        "sinks": np.array([0.0, -INF, 3.0, -2.0], np.float32),
        "is_causal": True,
        "kv_len": [35, 21],
        "inv_temperature": np.full((B, HQ, LQ), 0.7, np.float32),
        "dropout_p": 0.2,
        "seed": 7,
    },
}


def inputs(seed=0, shape=(B, HQ, HK, LQ, LK, D, DV), dtype=np.float32):
    rng = np.random.default_rng(seed)
    batch, heads, key_heads, queries, keys, dim, value_dim = shape
    shapes = (
        (batch, heads, queries, dim),
        (batch, key_heads, keys, dim),
        (batch, key_heads, keys, value_dim),
        (batch, heads, queries, value_dim),
    )
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@functools.cache
def parted_device(limit):
    """A device that can bind so little that the keys of a head are in parts."""
    return open_device(binding_bytes=limit)


def in_layout(arrays, options):
    return [array.swapaxes(1, 2) for array in arrays] if options.get("layout") == "blhd" else arrays
