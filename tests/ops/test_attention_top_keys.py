"""The keys with the largest scores of each row of attention."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError


def problem(dtype, lq=67, lk=300, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal(shape).astype(dtype) for shape in ((2, 4, lq, 8), (2, 2, lk, 8), (2, 2, lk, 5))
    ]


OPTIONS = [
    {},
    {"is_causal": True},
    {"window": (20, 3), "kv_len": [300, 7]},
    {"mask": np.arange(300) % 3 > 0, "sinks": np.linspace(-1, 4, 4)},
    {"kind": "sigmoid", "is_causal": True, "softcap": 1.5},
    {"kind": "sigmoid", "sigmoid_bias": "auto_row", "alibi_slopes": np.full(4, 0.02)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("top", [1, 5, 40])
def test_that_they_are_those_of_the_sorted_weights(isa, options, top):
    q, k, v = problem(np.float64)
    got = logitscope.attention(q, k, v, top_keys=top, **options)
    weights = logitscope.attention_map(q, k, **options)
    order = np.argsort(-weights, axis=-1, kind="stable")[..., :top]
    chosen = np.take_along_axis(weights, order, axis=-1)
    assert got.top_keys.dtype == np.int64
    np.testing.assert_array_equal(got.top_keys, np.where(chosen > 0, order, -1))
    np.testing.assert_allclose(got.top_weights, chosen, rtol=1e-10)
    assert isa in logitscope.last_kernel()


def test_that_float32_and_threads_agree_and_nothing_else_changes():
    q, k, v = problem(np.float32, 200, 400)
    plain = logitscope.attention(q, k, v, is_causal=True)
    wanted = logitscope.attention(q, k, v, is_causal=True, top_keys=6)
    assert (plain.out == wanted.out).all()
    assert plain.top_keys is None
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(q, k, v, is_causal=True, top_keys=6)
            assert (got.top_keys == wanted.top_keys).all()
            assert (got.top_weights == wanted.top_weights).all()
    finally:
        logitscope.set_num_threads(None)
    assert np.allclose(got.top_weights.sum(-1)[:, :, :0], 1)
    exact = np.take_along_axis(logitscope.attention_map(q, k, is_causal=True), wanted.top_keys, axis=-1)
    assert np.allclose(wanted.top_weights, exact, atol=1e-6)


def test_that_of_equal_scores_the_first_keys_are_the_top():
    q, k, v = problem(np.float32)
    got = logitscope.attention(q * 0, k, v, is_causal=True, causal_align="top_left", top_keys=4)
    assert got.top_keys[0, 0, :5].tolist() == [
        [0, -1, -1, -1], [0, 1, -1, -1], [0, 1, 2, -1], [0, 1, 2, 3], [0, 1, 2, 3],
    ]  # fmt: skip
    assert got.top_weights[0, 0, 1].tolist() == [0.5, 0.5, 0, 0]
    assert got.top_keys[0, 0, 66].tolist() == [0, 1, 2, 3]


def test_that_rows_computed_in_float64_have_theirs():
    q, k, v = problem(np.float32, 70, 40)
    # Two products that overflow, and cancel.
    q[0, 0, 3, :2], k[..., 0] = 1e30, 1e15 * (k[..., 0] + 3)
    k[..., 1] = -k[..., 0]
    got = logitscope.attention(q, k, v, top_keys=3)
    assert got.inv_sum[0, 0, 3] < 0
    scores = k[0, 0, :, 2:].astype(np.float64) @ q[0, 0, 3, 2:] / np.sqrt(8)
    order = np.argsort(-scores)[:3]
    np.testing.assert_array_equal(got.top_keys[0, 0, 3], order)
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(got.top_weights[0, 0, 3], weights[order], rtol=1e-5)


@pytest.mark.parametrize("top", [-1, 301])
def test_that_a_number_that_does_not_fit_is_refused(top):
    q, k, v = problem(np.float32)
    with pytest.raises(
        ArgumentError, match=rf"attention: top_keys is {top}; use 0 for none, or up to the number"
    ):
        logitscope.attention(q, k, v, top_keys=top)
