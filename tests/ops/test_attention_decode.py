"""Decoding over caches, packed sequences, merged states and windows of the map against plain attention."""

from itertools import pairwise

import numpy as np
import pytest

import logitscope
from logitscope import _native
from logitscope.errors import ArgumentError, DTypeError, ShapeError


def sequence(batch, heads, key_heads, length, dtype=np.float32, value_dim=8):
    rng = np.random.default_rng(length)
    sizes = [(batch, heads, length, 8), (batch, key_heads, length, 8), (batch, key_heads, length, value_dim)]
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


def filled(k, v, **options):
    cache = logitscope.KVCache(
        k.shape[0],
        k.shape[1],
        head_dim=k.shape[3],
        value_dim=v.shape[3],
        dtype=k.dtype,
        **(options or {"capacity": k.shape[2]}),
    )
    cache.append(k, v)
    return cache


@pytest.mark.parametrize("heads", [(2, 2), (4, 1), (8, 2)])
@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2100])
def test_one_query_gives_the_last_row_of_the_full_pass(isa, heads, length):
    q, k, v = sequence(2, *heads, length, value_dim=5)
    options = {"sinks": np.linspace(-1, 1, heads[0]).astype(np.float32), "softcap": 2.0}
    options["alibi_slopes"] = np.linspace(0, 0.1, heads[0]).astype(np.float32)
    # Of more queries than make a few tiles the last ones say the same.
    queries = q[:, :, max(0, length - 600) :]
    wanted = logitscope.attention(queries, k, v, is_causal=True, stats=("entropy",), **options)
    got = logitscope.attention_decode(q[:, :, -1:], filled(k, v), stats=("entropy",), **options)
    for name in ("out", "lse", "max_logit", "entropy"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name)[:, :, -1:], rtol=1e-5, atol=2e-6)


SINGLE = {
    "plain": {},
    "causal": {"is_causal": True},
    "window": {"window": (300, 0)},
    "lengths": {"kv_len": [1100, 0]},
    "scores": {
        "softcap": 2.0,
        "inv_temperature": np.float32(0.7),
        "sinks": np.linspace(-1, 1, 4, dtype=np.float32),
        "alibi_slopes": np.linspace(0, 0.1, 4, dtype=np.float32),
    },
    "top_left": {"causal_align": "top_left", "scale": -0.4},
}


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("poison", [None, np.nan, np.inf, -np.inf])
def test_a_single_query_is_decoded_with_the_results_of_the_tiles(name, poison):
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((2, heads, n, 32), np.float32) for heads, n in ((4, 1), (2, 1200), (2, 1200))
    )
    if poison is not None:
        # Two keys that all see, one that lengths hide, and a value.
        k[0, 0, [1000, 1099]], k[0, 1, 1150] = poison, poison
        v[1, 0, 1050, 3] = poison
    options = {"stats": ("entropy", "logits", "variance"), **SINGLE[name]}
    told = logitscope.explain(q, k, v, **options)
    assert told.steps[0].kernel.startswith("attention_decode")
    assert told.steps[0].tiles is None
    # Who wants the map gets it from tiles.
    tiled = logitscope.attention(q, k, v, map_bins=(1, 7), **options)
    names = ("out", "lse", "max_logit", "entropy", "logit_count", "logit_mean", "logit_m2", "variance")
    for part in names:
        got, wanted = getattr(told.result, part), getattr(tiled, part)
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5, err_msg=part)
    dout = rng.standard_normal(told.result.out.shape, np.float32)
    asked = {key: option for key, option in options.items() if key != "stats"}
    for part in ("dq", "dk", "dv"):
        got, wanted = (
            getattr(logitscope.attention_backward(dout, q, k, v, result, **asked), part)
            for result in (told.result, tiled)
        )
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-5, err_msg=part)


def test_a_single_query_at_the_first_key_is_not_decoded():
    q, k, v = (x[:, :, : 1 if i == 0 else 9] for i, x in enumerate(sequence(1, 2, 2, 9)))
    got = logitscope.attention(q, k, v, is_causal=True, causal_align="top_left")
    np.testing.assert_array_equal(got.out, v[:, :, :1])


def test_packed_single_queries_have_the_bits_of_calls_of_their_own():
    q, k, v = (x[0].swapaxes(0, 1) for x in sequence(1, 4, 2, 1500))
    for starts_q, starts_k in (([0, 1, 2], [0, 1100, 1500]), ([0, 1, 3, 4], [0, 1100, 1110, 1500])):
        got = logitscope.attention_varlen(
            q[: starts_q[-1]], k, v, starts_q, starts_k, is_causal=True, stats=("entropy",)
        )
        for (first, end), (start, stop) in zip(pairwise(starts_q), pairwise(starts_k), strict=True):
            own = logitscope.attention(
                *(q[None, first:end], k[None, start:stop], v[None, start:stop]),
                is_causal=True,
                layout="blhd",
                stats=("entropy",),
            )
            assert (got.out[first:end] == own.out[0]).all()
            for name in ("lse", "max_logit", "inv_sum", "entropy"):
                assert (getattr(got, name)[:, first:end] == getattr(own, name)[0]).all()


@pytest.mark.parametrize("options", [{}, {"sinks": np.zeros(4, np.float32), "window": (300, 0)}], ids=str)
def test_packed_single_queries_are_computed_once(monkeypatch, options):
    q, k, v = (x[0].swapaxes(0, 1) for x in sequence(1, 4, 2, 1500))
    pairs, native = [], _native.attention_varlen_forward

    def spy(problem, starts, *results):
        lengths = [[end - first for first, end in pairwise(of)] for of in starts]
        pairs.append(sum(queries * keys for queries, keys in zip(*lengths, strict=True)))
        native(problem, starts, *results)

    monkeypatch.setattr(_native, "attention_varlen_forward", spy)
    starts_q, starts_k = [0, 1, 4, 5, 5, 6], [0, 500, 530, 900, 950, 1500]
    told = logitscope.explain(
        *(q[:6], k, v, starts_q, starts_k), is_causal=True, function=logitscope.attention_varlen, **options
    )
    assert pairs == [3 * 30]
    tiled, decoded = told.steps
    assert tiled.kernel.startswith("attention_varlen-f32")
    assert tiled.tiles.all == 4
    assert decoded.kernel.startswith("attention_decode-f32")
    assert decoded.tiles is None
    for (first, end), (start, stop) in zip(pairwise(starts_q), pairwise(starts_k), strict=True):
        own = logitscope.attention(
            *(q[None, first:end], k[None, start:stop], v[None, start:stop]),
            is_causal=True,
            layout="blhd",
            **options,
        )
        np.testing.assert_array_equal(told.result.out[first:end], own.out[0])
        np.testing.assert_array_equal(told.result.lse[:, first:end], own.lse[0])


@pytest.mark.parametrize("tokens", [1, 3, 8])
def test_tokens_that_come_together_see_each_other_up_to_their_own_position(tokens):
    q, k, v = sequence(2, 4, 2, 1100, np.float64)
    temperature = np.random.default_rng(0).uniform(0.5, 2, (2, 4, 1100))
    for window in (-1, 40):
        wanted = logitscope.attention(
            q, k, v, is_causal=True, window=(window, 0), inv_temperature=temperature
        ).out[:, :, -tokens:]
        got = logitscope.attention_decode(
            q[:, :, -tokens:], filled(k, v), window=window, inv_temperature=temperature[:, :, -tokens:]
        )
        np.testing.assert_allclose(got.out, wanted, rtol=1e-12, atol=1e-13)


def test_sequences_of_a_batch_have_their_own_lengths_and_do_not_touch_each_other():
    q, k, v = sequence(3, 2, 1, 1200)
    cache = logitscope.KVCache(3, 1, 1200, 8)
    cache.append(k, v, counts=[1200, 3, 0])
    got = logitscope.attention_decode(q[:, :, :1], cache)
    for b, length in enumerate((1200, 3)):
        one = slice(b, b + 1)
        alone = logitscope.attention_decode(
            q[one, :, :1], filled(k[one, :, :length], v[one, :, :length], capacity=1200)
        )
        np.testing.assert_array_equal(got.out[one], alone.out)
    assert (got.out[2] == 0).all()
    assert np.isneginf(got.lse[2]).all()
    cache.clear()
    assert (logitscope.attention_decode(q[:, :, :1], cache).out == 0).all()


def test_a_ring_is_a_window():
    q, k, v = sequence(2, 4, 2, 40)
    slopes = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    wanted = logitscope.attention(q, k, v, is_causal=True, window=(6, 0), alibi_slopes=slopes).out
    cache = logitscope.KVCache(2, 2, window=7, head_dim=8)
    cache.append(k[:, :, :19], v[:, :, :19])
    for token in range(19, 40):
        at = slice(token, token + 1)
        cache.append(k[:, :, at], v[:, :, at])
        got = logitscope.attention_decode(q[:, :, at], cache, alibi_slopes=slopes)
        np.testing.assert_allclose(got.out, wanted[:, :, at], rtol=1e-5, atol=2e-6)
    with pytest.raises(
        ArgumentError, match=r"q has 2 tokens; use up to 1 at a time, .* KVCache\(..., tokens=2\)"
    ):
        logitscope.attention_decode(q[:, :, :2], cache)


@pytest.mark.parametrize("tokens", [2, 5])
def test_a_ring_with_room_answers_for_tokens_that_come_together(tokens):
    q, k, v = sequence(2, 4, 2, 41, np.float64)
    cache = logitscope.KVCache(2, 2, window=7, tokens=tokens, head_dim=8, dtype=np.float64)
    assert cache.capacity == 6 + tokens
    for window in (-1, 3, 20):
        cache.clear()
        reach = 6 if window < 0 else min(window, 6)
        wanted = logitscope.attention(q, k, v, is_causal=True, window=(reach, 0)).out
        for start in range(0, 41, tokens):
            at = slice(start, min(start + tokens, 41))
            cache.append(k[:, :, at], v[:, :, at])
            got = logitscope.attention_decode(q[:, :, at], cache, window=window)
            np.testing.assert_allclose(got.out, wanted[:, :, at], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("sigmoid_bias", [-2.0, "auto_row", np.linspace(-4, 0, 4, dtype=np.float32)], ids=str)
def test_sigmoid_weights_are_decoded_from_any_cache(dtype, tokens, sigmoid_bias):
    q, k, v = sequence(2, 4, 2, 50, dtype, value_dim=5)
    if dtype is np.float64 and isinstance(sigmoid_bias, np.ndarray):
        sigmoid_bias = sigmoid_bias.astype(dtype)
    options = {"kind": "sigmoid", "sigmoid_bias": sigmoid_bias, "softcap": 2.0, "stats": ("entropy",)}
    options["alibi_slopes"] = np.linspace(0, 0.1, 4).astype(np.float64 if dtype is np.float64 else np.float32)
    limit = {np.float64: 1e-12, np.float32: 1e-5, np.float16: 2e-3}[dtype]
    sizes = {"head_dim": 8, "value_dim": 5, "dtype": dtype}
    for cache, reach in (
        (logitscope.KVCache(2, 2, 64, **sizes), -1),
        (logitscope.KVCache(2, 2, window=7, tokens=tokens, **sizes), 6),
        (logitscope.PagedKVCache(2, 2, 8, page_size=16, **sizes), -1),
        (logitscope.PagedKVCache(2, 2, 2, page_size=100, capacity=100, **sizes), -1),
    ):
        # The first sequence is the longer one; the pages of both lie scattered.
        for start in (0, 20, 40):
            counts = [min(20, 50 - start), 20 if start == 20 else 0]
            cache.append(*(np.pad(x, ((0, 0), (0, 0), (0, 10), (0, 0)))[:, :, start : start + 20] for x in (k, v)),
                         counts=counts)  # fmt: skip
        got = logitscope.attention_decode(q[:, :, -tokens:], cache, **options)
        for index, keys in enumerate((slice(0, 50), slice(20, 40))):
            one = slice(index, index + 1)
            wanted = logitscope.attention(
                q[one, :, -tokens:],
                k[one, :, keys],
                v[one, :, keys],
                is_causal=True,
                window=(reach, 0),
                **options,
            )
            for name in ("out", "lse", "entropy", "max_logit"):
                np.testing.assert_allclose(
                    getattr(got, name)[one], getattr(wanted, name), rtol=limit, atol=limit, err_msg=name
                )
    with pytest.raises(
        ArgumentError, match="attention_decode: sigmoid_bias is 'auto', which is of a training"
    ):
        logitscope.attention_decode(q[:, :, -1:], cache, kind="sigmoid")


def test_decoding_has_the_same_bits_at_any_number_of_threads():
    q, k, v = sequence(1, 8, 2, 1500)
    cache, results = filled(k, v), []
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            results.append(logitscope.attention_decode(q[:, :, -1:], cache).out.tobytes())
    finally:
        logitscope.set_num_threads(None)
    assert len(set(results)) == 1


def test_merged_states_are_attention_over_all_keys():
    q, k, v = sequence(2, 4, 2, 60, np.float64)
    sinks = np.array([0.5, -1, 3, -np.inf])
    wanted = logitscope.attention(q, k, v, stats=("entropy",), sinks=sinks)
    cuts = [slice(0, 7), slice(7, 7), slice(7, 50), slice(50, 60)]
    states = [logitscope.attention(q, k[:, :, cut], v[:, :, cut], stats=("entropy",)) for cut in cuts]
    got = logitscope.merge_states(states, sinks=sinks)
    for name in ("out", "lse", "max_logit", "inv_sum", "entropy"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-12, atol=1e-13)
    assert logitscope.merge_states(states[1:2]).lse.max() == -np.inf
    far = [logitscope.attention(q * 300, k[:, :, cut], v[:, :, cut]) for cut in cuts]
    np.testing.assert_allclose(
        logitscope.merge_states(far).out, logitscope.attention(q * 300, k, v).out, rtol=1e-10, atol=1e-12
    )
    with pytest.raises(ArgumentError, match="merge_states: no states"):
        logitscope.merge_states([])
    with pytest.raises(ShapeError, match=r"states\[1\].out has shape \(2, 4, 5, 8\), states\[0\] has"):
        logitscope.merge_states([states[0], logitscope.attention(q[:, :, :5], k, v)])
    with pytest.raises(ArgumentError, match=r"states\[1\].kind is 'sigmoid', states\[0\] has 'softmax'"):
        logitscope.merge_states([states[0], logitscope.attention(q, k, v, kind="sigmoid")])
    with pytest.raises(ArgumentError, match="merge_states: sinks are given with kind='sigmoid'"):
        logitscope.merge_states([logitscope.attention(q, k, v, kind="sigmoid")], sinks=sinks)


@pytest.mark.parametrize("sigmoid_bias", [-1.5, np.linspace(-3, 1, 4)], ids=["a number", "of heads"])
def test_merged_sigmoid_states_are_sums(sigmoid_bias):
    q, k, v = sequence(2, 4, 2, 60, np.float64)
    options = {"kind": "sigmoid", "sigmoid_bias": sigmoid_bias, "stats": ("entropy", "logits")}
    cuts = [slice(0, 7), slice(7, 7), slice(7, 50), slice(50, 60)]
    got = logitscope.merge_states(
        [logitscope.attention(q, k[:, :, cut], v[:, :, cut], **options) for cut in cuts]
    )
    wanted = logitscope.attention(q, k, v, **options)
    for name in ("out", "lse", "max_logit", "inv_sum", "entropy", "logit_mean", "logit_m2"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-12, atol=1e-13)
    assert got.kind == "sigmoid"


def test_merged_states_lie_as_their_parts():
    # As many heads as positions: the shapes do not say which is which.
    q, k, v = (x.swapaxes(1, 2).copy() for x in sequence(1, 6, 3, 6))
    cuts = [slice(0, 2), slice(2, 6)]
    got = logitscope.merge_states(
        [logitscope.attention(q, k[:, cut], v[:, cut], layout="blhd") for cut in cuts]
    )
    wanted = logitscope.attention(q, k, v, layout="blhd")
    np.testing.assert_allclose(got.out, wanted.out, rtol=1e-6, atol=1e-6)
    # Two sequences of three queries, whose keys lie in two places.
    starts, sinks = [0, 3, 6], np.linspace(-1, 1, 6, dtype=np.float32)
    states = [
        logitscope.attention_varlen(q[0], k[0, place], v[0, place], starts, [0, 1, 3])
        for place in ([0, 3, 4], [1, 2, 5])
    ]
    got = logitscope.merge_states(states, sinks=sinks)
    wanted = logitscope.attention_varlen(q[0], k[0], v[0], starts, [0, 2, 6], sinks=sinks)
    for name in ("out", "lse"):
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-6, atol=1e-6)
    assert got.layout == "blhd"


@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("key_heads", [4, 1])
def test_ranks_that_hold_parts_of_a_sequence_have_the_results_and_gradients_of_the_whole(
    dtype, limit, key_heads
):
    q, k, v = sequence(2, 4, key_heads, 50, dtype)
    rng = np.random.default_rng(1)
    dout = rng.standard_normal(q.shape).astype(dtype)
    dlse, dentropy = rng.standard_normal((2, 2, 4, 50)).astype(dtype)
    stats, sinks = {"stats": ("entropy",)}, np.linspace(-1, 1, 4).astype(dtype)
    wanted = logitscope.attention(q, k, v, is_causal=True, sinks=sinks, **stats)
    gradients = logitscope.attention_backward(
        dout, q, k, v, wanted, is_causal=True, sinks=sinks, dlse=dlse, dentropy=dentropy
    )
    dq, dk, dv, dsinks = (np.zeros_like(x) for x in (q, k, v, sinks))
    ranks = [slice(0, 20), slice(20, 21), slice(21, 50)]
    for mine, own in enumerate(ranks):
        seen = ranks[: mine + 1]
        # Of its own keys a rank sees the past, of those of the ranks before all.
        states = [
            logitscope.attention(q[:, :, own], k[:, :, keys], v[:, :, keys], is_causal=keys == own, **stats)
            for keys in seen
        ]
        merged = logitscope.merge_states(states, sinks=sinks)
        np.testing.assert_allclose(merged.out, wanted.out[:, :, own], rtol=limit, atol=limit)
        for keys in seen:
            parts = logitscope.attention_backward(
                dout[:, :, own], q[:, :, own], k[:, :, keys], v[:, :, keys], merged, is_causal=keys == own,
                sinks=sinks, dlse=dlse[:, :, own], dentropy=dentropy[:, :, own],
            )  # fmt: skip
            dq[:, :, own] += parts.dq
            dk[:, :, keys] += parts.dk
            dv[:, :, keys] += parts.dv
        dsinks += parts.dsinks
    for name, got in {"dq": dq, "dk": dk, "dv": dv, "dsinks": dsinks}.items():
        expected = getattr(gradients, name)
        assert np.abs(got - expected).max() <= 5 * limit * np.abs(expected).max(), name


def test_a_window_of_the_map_is_cut_from_the_whole():
    rng = np.random.default_rng(0)
    q, k, _ = sequence(2, 4, 2, 50, np.float64)
    k = k[:, :, :45]
    mask = rng.random((2, 1, 50, 45)) < 0.8
    bias = rng.standard_normal((4, 50, 45))
    bias[0, 3, 5:9] = -np.inf
    options = {
        "mask": mask, "bias": bias, "softcap": 3.0, "alibi_slopes": np.linspace(0, 0.2, 4), "window": (30, 2),
        "q_len": [50, 44], "kv_len": [45, 40], "inv_temperature": rng.uniform(0.5, 2, (2, 4, 50)),
    }  # fmt: skip
    for weighting in (
        {},
        {"sinks": np.array([0.0, 1, -1, -np.inf])},
        {"kind": "sigmoid"},
        {"kind": "sigmoid", "sigmoid_bias": "auto_row"},
    ):
        for align in ("bottom_right", "top_left"):
            both = options | weighting | {"causal_align": align}
            wanted = logitscope.attention(q, k, k, map_bins=(50, 45), **both).map
            whole = logitscope.attention_map(q, k, **both)
            np.testing.assert_allclose(whole, wanted, rtol=1e-11, atol=1e-13)
            part = logitscope.attention_map(q, k, rows=slice(40, 48), cols=slice(3, 30, 2), **both)
            np.testing.assert_array_equal(part, whole[:, :, 40:48, 3:30:2])


def test_bad_input_is_refused_by_name():
    q, k, v = sequence(1, 2, 2, 4)
    cache = filled(k, v)
    packed = q[0].swapaxes(0, 1)
    decode, varlen = logitscope.attention_decode, logitscope.attention_varlen
    for error, message, call in (
        (ArgumentError, "capacity is None and window is None; use one", lambda: logitscope.KVCache(1, 1)),
        (ArgumentError, "KVCache: batch is 0; use 1 or more", lambda: logitscope.KVCache(0, 1, 4)),
        (DTypeError, "dtype is int64; use float32", lambda: logitscope.KVCache(1, 1, 4, dtype=np.int64)),
        (
            ArgumentError,
            "append: 5 tokens are more than the capacity of 4",
            lambda: cache.append(k[:, :, :1], v[:, :, :1]),
        ),
        (
            ShapeError,
            r"append: v has shape \(1, 2, 1, 8\); use \(1, 2, tokens, 8\)",
            lambda: cache.append(k, v[:, :, :1]),
        ),
        (DTypeError, "append: k has dtype float64; use float32", lambda: cache.append(k.astype(float), v)),
        (ArgumentError, r"counts is \[5\]; use 0..4", lambda: cache.append(k, v, counts=5)),
        (
            ShapeError,
            r"counts has shape \(2,\); use one integer, or \(1,\)",
            lambda: cache.append(k, v, counts=[1, 2]),
        ),
        (
            DTypeError,
            "append: counts has dtype float64; use integers",
            lambda: cache.append(k, v, counts=[1.5]),
        ),
        (ArgumentError, "attention_decode: window is -2; use", lambda: decode(q, cache, window=-2)),
        (ArgumentError, "attention_decode: window is 1.5; use", lambda: decode(q, cache, window=1.5)),
        (
            ArgumentError,
            "attention_decode: scale is nan; use a finite",
            lambda: decode(q, cache, scale=np.nan),
        ),
        (
            ArgumentError,
            "attention_decode: sinks are given with kind='sigmoid'",
            lambda: decode(q, cache, kind="sigmoid", sigmoid_bias=0.0, sinks=np.zeros(2, np.float32)),
        ),
        (ShapeError, r"attention_decode: q has shape \(1, 2, 4, 7\)", lambda: decode(q[..., :7], cache)),
        (
            DTypeError,
            "attention_decode: cache has dtype float32, q has float64",
            lambda: decode(q.astype(float), cache),
        ),
        (ShapeError, r"varlen: q has shape \(1, 2, 4, 8\)", lambda: varlen(q, k, v, [0, 4], [0, 4])),
        (
            ArgumentError,
            r"cu_seqlens_q is \[0, 3\]; use ascending numbers from 0 to 4",
            lambda: varlen(packed, packed, packed, [0, 3], [0, 4]),
        ),
        (
            DTypeError,
            "cu_seqlens_k has dtype float64",
            lambda: varlen(packed, packed, packed, [0, 4], [0.0, 4.0]),
        ),
        (
            ArgumentError,
            "attention_map: rows is 3; use a slice",
            lambda: logitscope.attention_map(q, k, rows=3),
        ),
        (ShapeError, "attention_map: k has shape", lambda: logitscope.attention_map(q, k[..., :3])),
    ):
        with pytest.raises(error, match=message):
            call()
    assert cache.lengths.tolist() == [4], "nothing was added"
    far = logitscope.attention_decode(q, cache, window=2**70)
    np.testing.assert_array_equal(far.out, decode(q, cache).out)
