"""Dropout of attention: the draws, the output, the gradients, and what it leaves alone."""

import numpy as np
import pytest

import logitscope
import oracles
from logitscope.errors import ArgumentError

SEED = (7 << 40) + 11


def problem(dtype, lq=67, lk=151):
    rng = np.random.default_rng(3)
    shapes = [(2, 4, lq, 8), (2, 2, lk, 8), (2, 2, lk, 5), (2, 4, lq, 5)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def dense_weights(q, k, is_causal):
    """Weights in float64, (B, H, T, S)."""
    q, k = np.asarray(q, np.float64), np.repeat(np.asarray(k, np.float64), 2, axis=1)
    s = np.einsum("bhic,bhjc->bhij", q, k) / np.sqrt(8)
    if is_causal:
        i, j = np.indices(s.shape[2:])
        s = np.where(j <= i + s.shape[3] - s.shape[2], s, -np.inf)
    w = np.exp(s - s.max(-1, keepdims=True))
    return w / w.sum(-1, keepdims=True)


def test_that_the_oracle_gives_the_known_answers_of_random123():
    for key, counter, wanted in [
        ((0, 0), [0] * 4, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ((2**32 - 1,) * 2, [2**32 - 1] * 4, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            (0xA4093822, 0x299F31D0),
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]:
        assert oracles.philox4x32(counter, key).tolist() == wanted


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_that_weights_are_dropped_as_the_generator_says(isa, dtype, limit, is_causal):
    q, k, v, _ = problem(dtype)
    got = logitscope.attention(q, k, v, is_causal=is_causal, dropout_p=0.3, seed=SEED)
    w = dense_weights(q, k, is_causal)
    factors = oracles.dropout_factors(w.shape, 0.3, SEED)
    wanted = np.einsum("bhij,bhjc->bhic", w * factors, np.repeat(v.astype(np.float64), 2, axis=1))
    assert np.abs(got.out - wanted).max() < limit
    assert isa in logitscope.last_kernel()


def test_that_statistics_map_and_top_keys_are_those_of_all_weights():
    q, k, v, _ = problem(np.float32)
    asked = {"stats": ("entropy",), "map_bins": (67, 151), "top_keys": 3}
    plain = logitscope.attention(q, k, v, **asked)
    got = logitscope.attention(q, k, v, **asked, dropout_p=0.5, seed=1)
    for name in ("lse", "max_logit", "inv_sum", "entropy", "map", "top_keys", "top_weights"):
        np.testing.assert_array_equal(getattr(got, name), getattr(plain, name), err_msg=name)
    assert not np.allclose(got.out, plain.out)


@pytest.mark.parametrize("weighting", [{}, {"sinks": np.linspace(-1, 1, 4)}, {"kind": "sigmoid"}], ids=str)
def test_that_gradients_are_those_of_differences(weighting):
    q, k, v, dout = problem(np.float64, 19, 41)
    rng = np.random.default_rng(5)
    options = {"dropout_p": 0.4, "seed": SEED, "is_causal": True, "softcap": 2.0, **weighting}
    bias, dentropy = rng.standard_normal((4, 19, 41)), rng.standard_normal((2, 4, 19))

    def loss(q, k, v, bias):
        got = logitscope.attention(q, k, v, bias=bias, stats=("entropy",), **options)
        return (got.out * dout).sum() + (got.entropy * dentropy).sum()

    result = logitscope.attention(q, k, v, bias=bias, stats=("entropy",), **options)
    got = logitscope.attention_backward(dout, q, k, v, result, bias=bias, dentropy=dentropy, **options)
    values = {"q": q, "k": k, "v": v, "bias": bias}
    for name, value in values.items():
        direction = rng.standard_normal(value.shape)
        ahead, behind = (loss(**{**values, name: value + step * direction}) for step in (1e-5, -1e-5))
        wanted = (ahead - behind) / 2e-5
        assert (getattr(got, f"d{name}") * direction).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-7)


def test_that_neither_threads_nor_lengths_change_what_is_dropped():
    q, k, v, dout = problem(np.float32, 200, 300)
    options = {"dropout_p": 0.2, "seed": 9}
    wanted = logitscope.attention(q, k, v, **options)
    gradients = logitscope.attention_backward(dout, q, k, v, wanted, **options)
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(q, k, v, **options)
            assert (got.out == wanted.out).all()
            again = logitscope.attention_backward(dout, q, k, v, got, **options)
            assert all((getattr(again, x) == getattr(gradients, x)).all() for x in ("dq", "dk", "dv"))
    finally:
        logitscope.set_num_threads(None)
    # The first queries alone draw what they draw among all.
    part = logitscope.attention(q[:, :, :70], k, v, **options)
    assert np.allclose(part.out, wanted.out[:, :, :70], atol=1e-6)
    assert not np.allclose(logitscope.attention(q, k, v, dropout_p=0.2, seed=10).out, wanted.out)


def test_that_the_mean_over_seeds_is_the_output_without_dropout():
    q, k, v, _ = problem(np.float32, 5, 40)
    outs = [logitscope.attention(q, k, v, dropout_p=0.25, seed=seed).out for seed in range(400)]
    plain = logitscope.attention(q, k, v).out
    error = np.std(outs, axis=0) / np.sqrt(len(outs))
    assert (np.abs(np.mean(outs, axis=0) - plain) < 5 * error).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout_p": 1.0, "seed": 1}, r"attention: dropout_p is 1.0; use 0 or more, below 1"),
        ({"dropout_p": -0.1, "seed": 1}, r"attention: dropout_p is -0.1; use 0 or more, below 1"),
        ({"dropout_p": 0.1}, r"attention: seed is None with dropout_p=0.1; use an integer of 0..2\*\*64 - 1"),
        ({"dropout_p": 0.1, "seed": -1}, r"attention: seed is -1 with"),
        ({"dropout_p": 0.1, "seed": 2**64}, r"attention: seed is 18446744073709551616 with"),
        ({"dropout_p": 0.1, "seed": 0.5}, r"attention: seed is 0.5 with"),
    ],
)
def test_that_bad_options_are_refused_by_name(options, message):
    q, k, v, _ = problem(np.float32)
    with pytest.raises(ArgumentError, match=message):
        logitscope.attention(q, k, v, **options)


def test_that_the_largest_seed_is_taken():
    q, k, v, _ = problem(np.float32)
    got = logitscope.attention(q, k, v, dropout_p=0.1, seed=2**64 - 1)
    factors = oracles.dropout_factors((2, 4, 67, 151), 0.1, 2**64 - 1)
    wanted = np.einsum("bhij,bhjc->bhic", dense_weights(q, k, False) * factors, np.repeat(v, 2, axis=1))
    assert np.abs(got.out - wanted).max() < 1e-5
