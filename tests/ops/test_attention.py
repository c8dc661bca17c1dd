"""Attention: values, statistics and gradients against a dense float64 computation; edges; bad input."""

import numpy as np
import pytest

import logitscope
import oracles
from logitscope.errors import ArgumentError, DTypeError, ShapeError

# batch, query heads, key heads, queries, keys, head_dim, value dim
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 2, 2, 16, 16, 8, 8),
    (1, 4, 2, 15, 17, 8, 40),
    (1, 4, 1, 31, 129, 64, 64),
    (2, 8, 1, 67, 67, 40, 13),
    (1, 2, 2, 127, 257, 80, 80),
    (1, 1, 1, 300, 211, 128, 128),
    (1, 1, 1, 33, 5, 16, 16),
]
LIMITS = {np.float64: 1e-12, np.float32: 2e-5}


def inputs(shape, dtype, seed=0):
    b, h, g, lq, lk, d, dv = shape
    rng = np.random.default_rng(seed)
    sizes = [(b, h, lq, d), (b, g, lk, d), (b, g, lk, dv)]
    return [rng.standard_normal(size).astype(dtype) for size in sizes]


def assert_close(name, got, wanted, limit):
    finite = np.isfinite(wanted)
    size = max(np.abs(wanted[finite]).max(initial=0.0), 1e-3)
    np.testing.assert_array_equal(got[~finite], wanted[~finite], err_msg=name)
    error = np.abs(got[finite] - wanted[finite]).max(initial=0.0) / size
    assert error <= limit, f"{name} is off by {error:.1e}, limit {limit:.0e}"


@pytest.mark.parametrize("causal", [None, "bottom_right", "top_left"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_gradients_agree_with_the_dense_computation(isa, shape, dtype, causal):
    q, k, v = inputs(shape, dtype)
    rng = np.random.default_rng(1)
    b, h, _, lq, lk, _, dv = shape
    temperature = rng.uniform(-1.5, 1.5, (b, h, lq)).astype(dtype)
    dout = rng.standard_normal((b, h, lq, dv)).astype(dtype)
    dlse, dentropy = rng.standard_normal((2, b, h, lq)).astype(dtype)
    options = {"inv_temperature": temperature, "is_causal": causal is not None}
    options["causal_align"] = causal or "bottom_right"
    visible = None if causal is None else oracles.causal(lq, lk, causal)
    wanted = oracles.attention(q, k, v, inv_temperature=temperature, visible=visible)
    got = logitscope.attention(q, k, v, stats=("entropy",), **options)
    gradients = logitscope.attention_backward(dout, q, k, v, got, dlse=dlse, dentropy=dentropy, **options)
    assert isa in logitscope.last_kernel()
    limit = LIMITS[dtype]
    for name in ("out", "lse", "max_logit", "entropy"):
        assert getattr(got, name).dtype == dtype
        assert_close(name, getattr(got, name), getattr(wanted, name), limit)
    wanted_gradients = wanted.gradients(dout, dlse, dentropy)
    for name, value in zip(("dq", "dk", "dv", "dinv_temperature"), wanted_gradients[:4], strict=True):
        assert_close(name, getattr(gradients, name), value, limit)


def test_strided_views_give_what_copies_give():
    rng = np.random.default_rng(0)
    packed = rng.standard_normal((2, 37, 3, 4, 16), dtype=np.float32)
    q, k, v = np.moveaxis(packed, 2, 0).swapaxes(2, 3)
    wanted = logitscope.attention(*(np.ascontiguousarray(x) for x in (q, k, v)), is_causal=True)
    got = logitscope.attention(q, k, v, is_causal=True)
    np.testing.assert_array_equal(got.out, wanted.out)
    backwards = logitscope.attention(q[:, :, ::-1][:, :, ::-1], k[..., ::-1][..., ::-1], v, is_causal=True)
    np.testing.assert_array_equal(backwards.out, wanted.out)
    reversed_heads = logitscope.attention(q[:, ::-1], k[:, ::-1], v[:, ::-1], is_causal=True)
    np.testing.assert_array_equal(reversed_heads.out[:, ::-1], wanted.out)


def test_results_lie_in_memory_in_the_order_of_the_inputs_with_the_same_bits(isa):
    rng = np.random.default_rng(0)
    # Query and key heads of one projection, positions before heads; the values heads first.
    packed = rng.standard_normal((2, 37, 6, 16), dtype=np.float32)
    q, k = packed[:, :, :4].swapaxes(1, 2), packed[:, :, 4:].swapaxes(1, 2)
    v = rng.standard_normal((2, 2, 37, 5), dtype=np.float32)
    dout = rng.standard_normal((2, 4, 37, 5), dtype=np.float32)
    got = logitscope.attention(q, k, v, is_causal=True)
    gradients = logitscope.attention_backward(dout, q, k, v, got, is_causal=True)
    copies = [np.ascontiguousarray(x) for x in (q, k, v)]
    wanted = logitscope.attention(*copies, is_causal=True)
    wanted_gradients = logitscope.attention_backward(dout, *copies, wanted, is_causal=True)
    for a, b in ((got, wanted), (gradients, wanted_gradients)):
        for name in a.__slots__:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert got.out.swapaxes(1, 2).flags.c_contiguous
    assert wanted.out.flags.c_contiguous
    assert gradients.dq.swapaxes(1, 2).flags.c_contiguous
    assert gradients.dk.swapaxes(1, 2).flags.c_contiguous
    assert gradients.dv.flags.c_contiguous


def test_positions_before_heads_are_the_same_arrays_turned():
    q, k, v = inputs((2, 4, 2, 19, 23, 8, 5), np.float32)
    dout = np.random.default_rng(1).standard_normal((2, 4, 19, 5)).astype(np.float32)
    wanted = logitscope.attention(q, k, v, is_causal=True)
    wanted_gradients = logitscope.attention_backward(dout, q, k, v, wanted, is_causal=True)
    turned = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)]
    got = logitscope.attention(*turned, is_causal=True, layout="blhd")
    assert got.out.flags.c_contiguous
    np.testing.assert_array_equal(got.out.swapaxes(1, 2), wanted.out)
    np.testing.assert_array_equal(got.lse, wanted.lse)
    gradients = logitscope.attention_backward(
        dout.swapaxes(1, 2), *turned, got, is_causal=True, layout="blhd"
    )
    for name in ("dq", "dk", "dv"):
        assert getattr(gradients, name).flags.c_contiguous
        np.testing.assert_array_equal(
            getattr(gradients, name).swapaxes(1, 2), getattr(wanted_gradients, name)
        )


def test_torch_tensors_give_torch_tensors_with_the_same_values():
    torch = pytest.importorskip("torch")
    q, k, v = inputs((1, 2, 2, 9, 9, 8, 8), np.float32)
    wanted = logitscope.attention(q, k, v, stats=("entropy",), map_bins=(3, 3))
    got = logitscope.attention(
        torch.tensor(q), torch.tensor(k), torch.tensor(v), stats=("entropy",), map_bins=(3, 3)
    )
    for name in ("out", "lse", "max_logit", "inv_sum", "entropy", "map"):
        assert isinstance(getattr(got, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(got, name).numpy(), getattr(wanted, name))


def test_rows_that_see_no_key_give_zeros_and_no_gradient():
    q, k, v = inputs((1, 1, 1, 40, 8, 16, 16), np.float32)
    got = logitscope.attention(q, k, v, is_causal=True, stats=("entropy",))
    unseen = slice(0, 32)
    assert (got.out[0, 0, unseen] == 0).all()
    assert np.isneginf(got.lse[0, 0, unseen]).all()
    assert (got.entropy[0, 0, unseen] == 0).all()
    dout = np.ones_like(q)
    dlse = np.full((1, 1, 40), 3.0, np.float32)
    gradients = logitscope.attention_backward(dout, q, k, v, got, is_causal=True, dlse=dlse, dentropy=dlse)
    assert (gradients.dq[0, 0, unseen] == 0).all()
    assert all(np.isfinite(x).all() for x in (gradients.dq, gradients.dk, gradients.dv))
    debug = logitscope.attention(q, k, v, is_causal=True, empty="nan")
    assert np.isnan(debug.out[0, 0, unseen]).all()
    np.testing.assert_array_equal(debug.out[0, 0, 32:], got.out[0, 0, 32:])


@pytest.mark.parametrize("lengths", [(0, 5), (5, 0), (0, 0)])
def test_empty_lengths_give_empty_or_zero_results(lengths):
    q, k, v = inputs((2, 2, 1, *lengths, 4, 3), np.float32)
    got = logitscope.attention(q, k, v)
    assert got.out.shape == (2, 2, lengths[0], 3)
    assert (got.out == 0).all()
    gradients = logitscope.attention_backward(np.ones_like(got.out), q, k, v, got)
    assert all((x == 0).all() for x in (gradients.dq, gradients.dk, gradients.dv))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 15, 16, 63, 64, 98])
def test_what_causality_hides_changes_nothing(isa, poison, position):
    clean = inputs((1, 1, 1, 99, 99, 24, 24), np.float32)
    wanted = logitscope.attention(*clean, is_causal=True)
    dout = np.random.default_rng(2).standard_normal(clean[0].shape).astype(np.float32)
    wanted_gradients = logitscope.attention_backward(dout, *clean, wanted, is_causal=True)
    for which in (1, 2):
        poisoned = [x.copy() for x in clean]
        poisoned[which][0, 0, position] = poison
        got = logitscope.attention(*poisoned, is_causal=True)
        np.testing.assert_array_equal(got.out[0, 0, :position], wanted.out[0, 0, :position])
        if which == 2:
            assert not np.isfinite(got.out[0, 0, position:]).any(), "the rows that see it"
        gradients = logitscope.attention_backward(dout, *poisoned, got, is_causal=True)
        np.testing.assert_array_equal(gradients.dq[0, 0, :position], wanted_gradients.dq[0, 0, :position])


def test_scores_at_large_offsets_keep_entropy_and_weights_exact():
    q, k, v = inputs((1, 1, 1, 64, 64, 8, 8), np.float32)
    q, k = np.zeros_like(q), np.zeros_like(k)
    for offset in (1e4, -1e4):
        q[..., 0], k[..., 0] = 100.0, offset / 100
        got = logitscope.attention(q, k, v, scale=1.0, stats=("entropy",))
        np.testing.assert_allclose(got.entropy, np.log(64), rtol=1e-6)
    k[0, 0, 7, 0] = 1e3
    one_hot = logitscope.attention(np.abs(q), k, v, scale=1.0, stats=("entropy",))
    assert (one_hot.entropy == 0).all()
    np.testing.assert_array_equal(one_hot.out[0, 0, 0], v[0, 0, 7])


def test_the_map_is_the_pooled_dense_map_and_its_rows_sum_to_one():
    q, k, v = inputs((2, 2, 1, 130, 150, 8, 8), np.float64)
    got = logitscope.attention(q, k, v, is_causal=True, map_bins=(13, 50)).map
    dense = oracles.attention(q, k, v, visible=oracles.causal(130, 150)).weights
    wanted = dense.reshape(2, 2, 13, 10, 50, 3).sum(-1).mean(3)
    np.testing.assert_allclose(got, wanted, atol=1e-14)
    np.testing.assert_allclose(got.sum(-1), 1.0, rtol=1e-12)


def test_results_have_the_same_bits_at_any_number_of_threads():
    q, k, v = inputs((2, 6, 3, 210, 210, 32, 32), np.float32)
    results = []
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(q, k, v, is_causal=True, stats=("entropy",), map_bins=(20, 20))
            gradients = logitscope.attention_backward(q, q, k, v, got, is_causal=True)
            results.append((got.out, got.lse, got.entropy, got.map, gradients.dq, gradients.dk, gradients.dv))
    finally:
        logitscope.set_num_threads(None)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


GOOD = np.zeros((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"q": GOOD[0]},
            ShapeError,
            "attention: q has shape (2, 3, 4); use (batch, heads, length, head_dim)",
        ),
        (
            {"k": GOOD[..., :3]},
            ShapeError,
            "attention: k has shape [1, 2, 3, 3]; use (1, key heads, keys, 4) as q has",
        ),
        (
            {"k": GOOD[:, :0], "v": GOOD[:, :0]},
            ShapeError,
            "use a number of heads that divides the 2 heads of q",
        ),
        ({"v": GOOD[:, :, :2]}, ShapeError, "attention: v has shape [1, 2, 2, 4]; use (1, 2, 3, any) as k"),
        (
            {"q": GOOD.astype(int)},
            DTypeError,
            "attention: q has dtype int64; use float32, float64, float16 or bfloat16",
        ),
        (
            {"q": GOOD.astype(np.float16)},
            DTypeError,
            "attention: k has dtype float32, q has float16; use one dtype",
        ),
        (
            {"v": GOOD.astype(float)},
            DTypeError,
            "attention: v has dtype float64, q has float32; use one dtype",
        ),
        ({"q": object()}, DTypeError, "attention: q is a object; use a NumPy array or a torch tensor"),
        ({"scale": float("nan")}, ArgumentError, "attention: scale is nan; use a finite number"),
        (
            {"inv_temperature": np.ones((7,), np.float32)},
            ShapeError,
            "use one that broadcasts to (batch, heads, queries)",
        ),
        (
            {"stats": ("entropie",)},
            ArgumentError,
            "attention: stats is ('entropie',); use a collection of 'entropy'",
        ),
        ({"stats": "entropy"}, ArgumentError, "attention: stats is 'entropy'; use a collection"),
        ({"empty": "none"}, ArgumentError, "attention: empty is 'none'; use 'zero' or 'nan'"),
        ({"causal_align": "left"}, ArgumentError, "use 'bottom_right' or 'top_left'"),
        ({"layout": "bld"}, ArgumentError, "attention: layout is 'bld'; use 'bhld' or 'blhd'"),
        (
            {"q": GOOD[0], "layout": "blhd"},
            ShapeError,
            "attention: q has shape (2, 3, 4); use (batch, length, heads, head_dim)",
        ),
        (
            {"map_bins": (4, 1)},
            ArgumentError,
            "attention: map_bins is (4, 1); use 1..3 bins of queries and 1..3 of keys",
        ),
        (
            {"map_bins": 3},
            ArgumentError,
            "attention: map_bins is 3; use (bins of queries, bins of keys), two integers",
        ),
        ({"top_keys": 1.5}, ArgumentError, "attention: top_keys is 1.5; use an integer, 0 for none"),
    ],
)
def test_bad_input_is_refused_by_name(change, error, message):
    arguments = {"q": GOOD, "k": GOOD, "v": GOOD} | change
    with pytest.raises(error) as caught:
        logitscope.attention(**arguments)
    assert message in str(caught.value)


def test_the_gradient_of_an_entropy_that_was_not_computed_is_refused():
    result = logitscope.attention(GOOD, GOOD, GOOD)
    dentropy = np.zeros((1, 2, 3), np.float32)
    with pytest.raises(ArgumentError, match="result holds no entropy"):
        logitscope.attention_backward(GOOD, GOOD, GOOD, GOOD, result, dentropy=dentropy)
