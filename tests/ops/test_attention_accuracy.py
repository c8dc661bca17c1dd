"""Attention over a pairwise grid of options: its errors beside those of plain torch in the same type."""

import ml_dtypes
import numpy as np
import pytest
import torch

import logitscope

TYPES = {
    "float16": (np.float16, torch.float16),
    "bfloat16": (ml_dtypes.bfloat16, torch.bfloat16),
    "float32": (np.float32, torch.float32),
}
BATCH, HEADS, QUERIES, KEYS = 2, 4, 70, 131
DRAWS = 6

# Each pair of choices of two columns is in some row.
GRID = [
    # key heads, size, value size, softcap, bias, masking, temperature
    (4, 64, 64, 0.0, False, "none", False),
    (4, 40, 21, 3.0, True, "causal", True),
    (2, 64, 21, 3.0, False, "window", True),
    (2, 40, 64, 0.0, True, "mask", False),
    (1, 64, 64, 3.0, True, "lengths", False),
    (1, 40, 21, 0.0, False, "causal", False),
    (4, 64, 64, 0.0, True, "window", False),
    (4, 40, 21, 3.0, False, "mask", True),
    (2, 64, 64, 0.0, False, "causal", True),
    (2, 40, 21, 3.0, True, "none", True),
    (1, 64, 21, 0.0, False, "mask", True),
    (1, 40, 64, 3.0, True, "window", False),
    (2, 64, 21, 0.0, True, "lengths", True),
    (4, 40, 64, 3.0, False, "lengths", True),
    (1, 64, 64, 3.0, False, "none", False),
]


def visible(masking: str) -> tuple[dict, np.ndarray]:
    """Options of a mask, and which scores it leaves, (B, 1, T, S)."""
    i = np.arange(QUERIES)[:, None] + KEYS - QUERIES
    j = np.arange(KEYS)
    full = np.ones((BATCH, 1, QUERIES, KEYS), bool)
    if masking == "causal":
        return {"is_causal": True}, full & (j <= i)
    if masking == "window":
        return {"window": (30, 2)}, full & (j >= i - 30) & (j <= i + 2)
    if masking == "mask":
        mask = np.random.default_rng(3).random(full.shape) < 0.7
        return {"mask": mask}, mask
    if masking == "lengths":
        lengths = np.array([KEYS, 90])
        return {"kv_len": lengths}, full & (j < lengths[:, None, None, None])
    return {}, full


def dense(q, k, v, scale, softcap, bias, seen, temperature):
    """Attention as torch computes it in the type of its inputs, each result rounded to it."""
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    scores = (q * scale) @ k.transpose(2, 3)
    if temperature is not None:
        scores = scores * temperature[..., None]
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    return torch.softmax(scores.masked_fill(~seen, -torch.inf), -1) @ v


def errors(row, dtype, torch_type, seed):
    """The largest errors of output and gradients, ours and torch's, against float64."""
    key_heads, size, value_size, softcap, has_bias, masking, has_temperature = row
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return rng.standard_normal(shape, dtype=np.float32).astype(dtype)

    q, k = numbers(BATCH, HEADS, QUERIES, size), numbers(BATCH, key_heads, KEYS, size)
    v, dout = numbers(BATCH, key_heads, KEYS, value_size), numbers(BATCH, HEADS, QUERIES, value_size)
    bias = numbers(HEADS, QUERIES, KEYS) if has_bias else None
    temperature = (1 + 0.2 * numbers(BATCH, HEADS, QUERIES)).astype(dtype) if has_temperature else None
    options, seen = visible(masking)
    options |= {"softcap": softcap, "bias": bias, "inv_temperature": temperature}
    result = logitscope.attention(q, k, v, **options)
    back = logitscope.attention_backward(dout, q, k, v, result, **options)
    ours = [result.out, back.dq, back.dk, back.dv]
    ours += [back.dbias] if has_bias else []

    def by_torch(wanted):
        def tensor(x):
            return None if x is None else torch.from_numpy(x.astype(np.float32)).to(wanted)

        leaves = [tensor(x).requires_grad_() for x in (q, k, v, *([bias] if has_bias else []))]
        b = leaves[3] if has_bias else None
        mask = torch.from_numpy(np.ascontiguousarray(seen))
        out = dense(*leaves[:3], size**-0.5, softcap, b, mask, tensor(temperature))
        gradients = torch.autograd.grad(out, leaves, tensor(dout))
        return [x.detach().double().numpy() for x in (out, *gradients)]

    truth, theirs = by_torch(torch.float64), by_torch(torch_type)
    return [
        [abs(np.float64(x) - exact).max() for x, exact in zip(got, truth, strict=True)]
        for got in (ours, theirs)
    ]


@pytest.mark.parametrize("row", GRID, ids=str)
@pytest.mark.parametrize("name", TYPES)
def test_the_largest_error_over_the_grid_is_within_two_or_three_of_torchs(name, row):
    # Which roundings meet in the worst number of one draw is luck, torch's as much as ours: a mean over draws.
    ours, theirs = np.mean([errors(row, *TYPES[name], seed) for seed in range(DRAWS)], 0)
    names = ("out", "dq", "dk", "dv", "dbias")
    ratios = dict(zip(names, ours / theirs, strict=False))
    assert all(ratio <= (2 if name == "out" else 3) for name, ratio in ratios.items()), ratios
