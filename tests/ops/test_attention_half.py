"""16-bit attention: what float32 gives for the same numbers, rounded once; and as near to the truth as torch's."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
import torch

import logitscope
from logitscope import _native
from logitscope.errors import DTypeError

TYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
TORCH_TYPES = {TYPES[0]: torch.float16, TYPES[1]: torch.bfloat16}
FIGURES = ("lse", "max_logit", "inv_sum", "entropy", "map")

OPTIONS = {
    "plain": {},
    "causal": {"is_causal": True},
    "everything": {
        "is_causal": True,
        "window": (90, 0),
        "kv_len": [131, 100],
        "softcap": 4.0,
        "bias": (1, 4, 67, 131),
        "alibi_slopes": (4,),
        "sinks": (4,),
        "inv_temperature": (2, 4, 67),
    },
    "sigmoid": {"kind": "sigmoid", "bias": (67, 131), "sigmoid_bias": (4,)},
}


@pytest.fixture(params=[*_native.available_isas(), "auto"])
def path(request):
    """Each instruction set, and what this CPU does best: there bfloat16 may be multiplied in pairs."""
    in_use = "auto" if _native.has_bf16_products() else _native.isa()
    _native.select_isa(request.param)
    yield request.param
    _native.select_isa(in_use)


def halves(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32).astype(dtype)


def wide(array):
    return np.asarray(array).astype(np.float32)


def inputs(dtype, size=40, value_size=21):
    shapes = [(2, 4, 67, size), (2, 2, 131, size), (2, 2, 131, value_size), (2, 4, 67, value_size)]
    return [halves(shape, dtype, seed) for seed, shape in enumerate(shapes)]


def options_of(name, dtype):
    arrays = {
        key: halves(value, dtype, 7) if key in _ARRAYS else value for key, value in OPTIONS[name].items()
    }
    return arrays, {key: wide(value) if key in _ARRAYS else value for key, value in arrays.items()}


_ARRAYS = ("bias", "alibi_slopes", "sinks", "inv_temperature", "sigmoid_bias")


def assert_rounded(got, exact, dtype):
    assert got.dtype == dtype
    np.testing.assert_array_equal(wide(got), wide(np.asarray(exact).astype(dtype)))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_results_and_gradients_are_those_of_float32_rounded_once(isa, name, dtype):
    q, k, v, dout = inputs(dtype)
    given, exact = options_of(name, dtype)
    asked = {"stats": ("entropy",), "map_bins": (9, 11)}
    got = logitscope.attention(q, k, v, **given, **asked)
    short = "bf16" if dtype == TYPES[1] else "f16"
    assert logitscope.last_kernel() == f"attention-{short}-{isa}"
    want = logitscope.attention(wide(q), wide(k), wide(v), **exact, **asked)
    assert_rounded(got.out, want.out, dtype)
    for figure in FIGURES:
        assert getattr(got, figure).dtype == np.float32
        np.testing.assert_array_equal(getattr(got, figure), getattr(want, figure))
    dlse, dentropy = halves((2, 4, 67), np.float32, 8), halves((2, 4, 67), np.float32, 9)
    upstream = {"dlse": dlse, "dentropy": dentropy}
    back = logitscope.attention_backward(dout, q, k, v, got, **given, **upstream)
    exact_back = logitscope.attention_backward(
        wide(dout), wide(q), wide(k), wide(v), replace(got, out=wide(got.out)), **exact, **upstream
    )
    for gradient in back.__slots__:
        part = getattr(back, gradient)
        if part is not None:
            assert_rounded(part, getattr(exact_back, gradient), dtype)


@pytest.fixture
def plain():
    """The best instruction set without products of pairs."""
    in_use = "auto" if _native.has_bf16_products() else _native.isa()
    _native.select_isa(_native.isa())
    yield
    _native.select_isa(in_use)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_gradients_of_few_key_heads_are_rounded_after_all_spans_are_added(dtype):
    shape = (1, 1, 2300, 8)
    q, k, v, dout = (halves(shape, dtype, seed) for seed in range(4))
    result = logitscope.attention(q, k, v, is_causal=True)
    got = logitscope.attention_backward(dout, q, k, v, result, is_causal=True)
    exact = replace(result, out=wide(result.out))
    want = logitscope.attention_backward(wide(dout), wide(q), wide(k), wide(v), exact, is_causal=True)
    for name in ("dq", "dk", "dv"):
        assert_rounded(getattr(got, name), getattr(want, name), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [64, 80])
@pytest.mark.parametrize("is_causal", [False, True])
def test_errors_are_within_those_of_torchs_plain_path(path, size, is_causal, dtype):
    shape = (1, 4, 150, size)
    q, k, v, dout = (halves(shape, dtype, seed) for seed in range(4))
    tensors = [torch.from_numpy(wide(x)).to(TORCH_TYPES[dtype]) for x in (q, k, v, dout)]

    def by_torch(wanted):
        leaves = [x.to(wanted).requires_grad_() for x in tensors[:3]]
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            out = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=is_causal)
        gradients = torch.autograd.grad(out, leaves, tensors[3].to(wanted))
        return [x.detach().double().numpy() for x in (out, *gradients)]

    truth, theirs = by_torch(torch.float64), by_torch(TORCH_TYPES[dtype])
    result = logitscope.attention(q, k, v, is_causal=is_causal)
    back = logitscope.attention_backward(dout, q, k, v, result, is_causal=is_causal)
    ours = [np.float64(wide(x)) for x in (result.out, back.dq, back.dk, back.dv)]
    for index, (exact, got, other) in enumerate(zip(truth, ours, theirs, strict=True)):
        error, limit = (np.abs(x - exact).max() for x in (got, other))
        assert error <= (3 if index else 2) * limit


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_strides_layouts_packed_sequences_and_maps(dtype):
    q, k, v, _ = inputs(dtype)
    want = logitscope.attention(q, k, v, is_causal=True)
    turned = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)]
    got = logitscope.attention(*turned, is_causal=True, layout="blhd")
    np.testing.assert_array_equal(wide(got.out.swapaxes(1, 2)), wide(want.out))
    starts_q, starts_k = [0, 30, 67], [0, 50, 131]
    packed = logitscope.attention_varlen(*(x[0] for x in turned), starts_q, starts_k, is_causal=True)
    alone = logitscope.attention(q[:1, :, 30:], k[:1, :, 50:], v[:1, :, 50:], is_causal=True)
    np.testing.assert_array_equal(wide(packed.out[30:].swapaxes(0, 1)), wide(alone.out[0]))
    part = logitscope.attention_map(q, k, rows=slice(3, 9), is_causal=True)
    assert part.dtype == np.float32
    whole = logitscope.attention_map(wide(q), wide(k), rows=slice(3, 9), is_causal=True)
    np.testing.assert_array_equal(part, whole)
    halved = [logitscope.attention(q, k[:, :, cut], v[:, :, cut]) for cut in (slice(0, 70), slice(70, 131))]
    merged = logitscope.merge_states(halved)
    assert merged.out.dtype == dtype
    np.testing.assert_allclose(
        wide(merged.out), wide(logitscope.attention(q, k, v).out), rtol=0.02, atol=2e-3
    )


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_edges_keep_the_contract(path, dtype):
    q, k, v, dout = inputs(dtype)
    result = logitscope.attention(q, k, v, kv_len=[0, 100])
    assert (wide(result.out[0]) == 0).all()
    assert np.isneginf(result.lse[0]).all()
    back = logitscope.attention_backward(dout, q, k, v, result, kv_len=[0, 100])
    assert (wide(back.dq[0]) == 0).all()
    assert (wide(back.dk[0]) == 0).all()
    spoilt_k, spoilt_v = k.copy(), v.copy()
    spoilt_k[1, :, 100:], spoilt_v[1, :, 100:] = np.nan, np.inf
    again = logitscope.attention(q, spoilt_k, spoilt_v, kv_len=[0, 100])
    np.testing.assert_array_equal(wide(again.out), wide(result.out))
    empty = logitscope.attention(q, k, v, kv_len=[0, 100], empty="nan")
    assert np.isnan(wide(empty.out[0])).all()
    assert np.isnan(empty.lse[0]).all()
    spoilt_k = k.copy()
    spoilt_k[1, 1, 70] = np.nan
    causal = logitscope.attention(q, spoilt_k, v, is_causal=True)
    reached = np.isnan(wide(causal.out)).any(-1)
    assert not reached[0].any()
    assert not reached[1, :2].any()
    # Position of query i is i + 64.
    np.testing.assert_array_equal(reached[1, 2], np.arange(67) + 64 >= 70)
    assert causal.first_nan == (1, 2, 6)
    # Beside what is hidden, all rows keep their bits.
    clean = logitscope.attention(q, k, v, is_causal=True)
    np.testing.assert_array_equal(wide(causal.out)[~reached], wide(clean.out)[~reached])
    got = logitscope.attention_backward(dout, q, spoilt_k, v, causal, is_causal=True)
    wanted = logitscope.attention_backward(dout, q, k, v, clean, is_causal=True)
    np.testing.assert_array_equal(wide(got.dq)[~reached], wide(wanted.dq)[~reached])


def test_bfloat16_scores_beyond_float32_are_computed_in_float64(path):
    q, k, v, _ = (x * np.asarray(1e18, TYPES[1]) for x in inputs(TYPES[1]))
    result = logitscope.attention(q * np.asarray(1e4, TYPES[1]), k, v)
    assert np.isfinite(wide(result.out)).all()
    largest = logitscope.attention_map(q * np.asarray(1e4, TYPES[1]), k).argmax(-1)
    np.testing.assert_array_equal(wide(result.out[1, 3]), wide(v[1, 1, largest[1, 3]]))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_results_have_the_same_bits_at_any_number_of_threads(path, dtype):
    q, k, v, dout = inputs(dtype)
    results = []
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            result = logitscope.attention(q, k, v, is_causal=True)
            back = logitscope.attention_backward(dout, q, k, v, result, is_causal=True)
            results.append(b"".join(x.tobytes() for x in (result.out, back.dq, back.dk, back.dv)))
    finally:
        logitscope.set_num_threads(None)
    assert len(set(results)) == 1


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("size", "value_size"), [(40, 21), (33, 64)])
def test_products_of_bfloat16_are_those_of_float32_but_for_the_rounding_of_weights(name, size, value_size):
    dtype = TYPES[1]
    q, k, v, _ = inputs(dtype, size, value_size)
    given, exact = options_of(name, dtype)
    asked = {"stats": ("entropy",), "map_bins": (9, 11)}
    in_use = "auto" if _native.has_bf16_products() else _native.isa()
    try:
        _native.select_isa("auto")
        got = logitscope.attention(q, k, v, **given, **asked)
    finally:
        _native.select_isa(in_use)
    want = logitscope.attention(wide(q), wide(k), wide(v), **exact, **asked)
    for figure in FIGURES:
        np.testing.assert_allclose(
            getattr(got, figure), getattr(want, figure), rtol=1e-5, atol=1e-5, err_msg=figure
        )
    largest = np.abs(want.out).max(-1, keepdims=True)
    assert (np.abs(wide(got.out) - want.out) <= 2**-7 * largest).all()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("size", "value_size", "queries"), [(40, 21, 67), (33, 64, 49), (32, 32, 1)])
def test_gradients_of_bfloat16_products_are_those_of_float32_but_for_the_rounding(
    name, size, value_size, queries
):
    dtype = TYPES[1]
    q, k, v, dout = inputs(dtype, size, value_size)
    q, dout = q[:, :, -queries:], dout[:, :, -queries:]
    given, exact = options_of(name, dtype)
    for options in (given, exact):
        for key in ("bias", "inv_temperature"):
            if key in options:
                options[key] = (
                    options[key][..., -queries:, :] if key == "bias" else options[key][..., -queries:]
                )
    asked = {"stats": ("entropy",)}
    upstream = {name: halves((2, 4, queries), np.float32, 8) for name in ("dlse", "dentropy")}
    in_use = "auto" if _native.has_bf16_products() else _native.isa()
    try:
        _native.select_isa("auto")
        result = logitscope.attention(q, k, v, **given, **asked)
        got = logitscope.attention_backward(dout, q, k, v, result, **given, **upstream)
    finally:
        _native.select_isa(in_use)
    floats = [wide(x) for x in (q, k, v)]
    wanted = logitscope.attention(*floats, **exact, **asked)
    want = logitscope.attention_backward(wide(dout), *floats, wanted, **exact, **upstream)
    for gradient in got.__slots__:
        part = getattr(got, gradient)
        if part is not None:
            error = np.abs(wide(part) - getattr(want, gradient)).max()
            assert error <= 2**-6 * np.abs(getattr(want, gradient)).max(), gradient


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_options_may_be_of_float32_and_mixtures_are_refused_by_name(dtype):
    q, k, v, dout = inputs(dtype)
    sinks = np.linspace(-1, 1, 4, dtype=np.float32)
    result = logitscope.attention(q, k, v, sinks=sinks)
    back = logitscope.attention_backward(dout, q, k, v, result, sinks=sinks)
    assert back.dsinks.dtype == np.float32
    assert back.dq.dtype == dtype
    with pytest.raises(DTypeError, match=f"attention: k has dtype float32, q has {dtype}; use one dtype"):
        logitscope.attention(q, wide(k), v)
    message = f"attention: sinks has dtype float64, q has {dtype}; use {dtype} or float32"
    with pytest.raises(DTypeError, match=message):
        logitscope.attention(q, k, v, sinks=sinks.astype(float))
    message = f"attention_backward: dout has dtype float32, q has {dtype}; use one dtype"
    with pytest.raises(DTypeError, match=message):
        logitscope.attention_backward(wide(dout), q, k, v, result, sinks=sinks)
