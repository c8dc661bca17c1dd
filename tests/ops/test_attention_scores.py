"""Softcap, bias, slopes and sigmoid weighting of attention: against a dense computation, and against differences."""

from itertools import product

import numpy as np
import pytest

import logitscope
import oracles
from logitscope.errors import ArgumentError, DTypeError, ShapeError

LIMITS = {np.float64: 1e-12, np.float32: 2e-5}
SHAPE = (2, 4, 2, 67, 151)
WEIGHTINGS = [
    {},
    {"sinks": np.linspace(-1, 1, 4)},
    {"kind": "sigmoid"},
    {"kind": "sigmoid", "sigmoid_bias": "auto_row"},
    {"kind": "sigmoid", "sigmoid_bias": np.linspace(-4, 0, 4)},
]


def problem(shape, dtype, seed=0):
    b, h, g, lq, lk = shape
    rng = np.random.default_rng(seed)
    sizes = [(b, h, lq, 8), (b, g, lk, 8), (b, g, lk, 5)]
    return [rng.standard_normal(size).astype(dtype) for size in sizes], rng


def steps(rng, shape, dtype, bias_shape=(2, 4, 67, 151)):
    """Every step of the pipeline, with numbers that matter."""
    b, h, _, lq, _ = shape
    return {
        "inv_temperature": rng.uniform(-1.5, 1.5, (b, h, lq)).astype(dtype),
        "softcap": 1.5,
        "bias": rng.standard_normal(bias_shape).astype(dtype),
        "alibi_slopes": rng.uniform(-0.01, 0.05, h).astype(dtype),
    }


def of_dtype(options, dtype):
    return {name: x.astype(dtype) if isinstance(x, np.ndarray) else x for name, x in options.items()}


def dense(q, k, v, visible, distance, *, inv_temperature, softcap, bias, alibi_slopes, sinks=None, kind="softmax",
          sigmoid_bias="auto"):  # fmt: skip
    """Output, lse and entropy, as the formulas are written, in float64."""
    q, k, v, bias = (np.asarray(x, np.float64) for x in (q, k, v, bias))
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    s = np.asarray(inv_temperature, np.float64)[..., None] * np.einsum("bhic,bhjc->bhij", q, k) / np.sqrt(8)
    s = (
        softcap * np.tanh(s / softcap)
        + bias
        - np.asarray(alibi_slopes, np.float64)[:, None, None] * abs(distance)
    )
    s = np.where(visible, s, -np.inf)
    if kind == "softmax":
        sink = np.full(4, -np.inf) if sinks is None else np.asarray(sinks, np.float64)
        s = np.concatenate([s, np.broadcast_to(sink[:, None, None], (*s.shape[:3], 1))], axis=-1)
        m = s.max(-1, keepdims=True)
        m = np.where(np.isfinite(m), m, 0.0)
        w = np.exp(s - m)
    else:
        if isinstance(sigmoid_bias, str):
            keys = np.isfinite(s).sum(-1) if sigmoid_bias == "auto_row" else np.full(s.shape[:3], s.shape[3])
            b = -np.log(np.maximum(keys, 1))
        else:
            b = np.broadcast_to(np.asarray(sigmoid_bias, np.float64)[:, None], s.shape[:3])
        m = np.zeros((*s.shape[:3], 1))
        w = 1 / (1 + np.exp(-(s + b[..., None])))
    total = w.sum(-1)
    with np.errstate(divide="ignore"):
        lse = m[..., 0] + np.log(total)
    p = w / np.where(total > 0, total, 1)[..., None]
    entropy = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(-1)
    mixed = p[..., :-1] if kind == "softmax" else w
    return np.einsum("bhij,bhjc->bhic", mixed, v), lse, entropy


def distances(lq, lk, align):
    return np.arange(lk) - (np.arange(lq)[:, None] + (lk - lq if align == "bottom_right" else 0))


def assert_close(name, got, wanted, limit):
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite], err_msg=name)
    size = max(np.abs(wanted[finite]).max(initial=0.0), 1e-3)
    error = np.abs(got[finite] - wanted[finite]).max(initial=0.0) / size
    assert error <= limit, f"{name} is off by {error:.1e}, limit {limit:.0e}"


@pytest.mark.parametrize("dtype", LIMITS, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
def test_scores_take_every_step_in_the_order_of_the_formula(isa, dtype, weighting):
    for align, causal in product(["bottom_right", "top_left"], [False, True]):
        inputs, rng = problem(SHAPE, dtype)
        options = steps(rng, SHAPE, dtype) | of_dtype(weighting, dtype)
        distance = distances(67, 151, align)
        visible = distance <= 0 if causal else distance < 1000
        wanted = dense(*inputs, visible, distance, **options)
        got = logitscope.attention(
            *inputs, is_causal=causal, causal_align=align, stats=("entropy",), **options
        )
        for name, value in zip(("out", "lse", "entropy"), wanted, strict=True):
            assert_close(name, getattr(got, name), value, LIMITS[dtype])
    assert isa in logitscope.last_kernel()


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
@pytest.mark.parametrize(
    "axes", [(1, 1, 1, 1), (0, 1, 1, 1), (1, 0, 0, 1), (0, 0, 1, 1), (0, 1, 1, 0), (0, 1, 0, 0)]
)
def test_gradients_are_those_of_differences_and_the_bias_is_summed_where_it_is_shared(weighting, axes):
    inputs, rng = problem(SHAPE, np.float64)
    full = (2, 4, 67, 151)
    options = steps(rng, SHAPE, np.float64, [n if kept else 1 for n, kept in zip(full, axes, strict=True)])
    options |= weighting
    fixed = {"is_causal": True, "kv_len": [151, 90], "q_len": [67, 60], "stats": ("entropy",)}
    values = dict(zip("qkv", inputs, strict=True)) | {
        name: x for name, x in options.items() if isinstance(x, np.ndarray)
    }
    rest = {name: x for name, x in options.items() if name not in values} | fixed
    dout = rng.standard_normal((2, 4, 67, 5))
    dlse, dentropy = rng.standard_normal((2, 2, 4, 67))

    def loss(values):
        got = logitscope.attention(**values, **rest)
        lse = np.where(np.isfinite(got.lse), got.lse, 0)
        return (got.out * dout).sum() + (lse * dlse).sum() + (got.entropy * dentropy).sum()

    result = logitscope.attention(**values, **rest)
    rest_back = {name: x for name, x in rest.items() if name != "stats"}
    gradients = logitscope.attention_backward(
        dout, result=result, dlse=dlse, dentropy=dentropy, **values, **rest_back
    )
    for name, value in values.items():
        gradient = getattr(gradients, f"d{name}")
        assert gradient.shape == value.shape
        direction = rng.standard_normal(value.shape)
        step = 1e-5
        ahead, behind = (loss(values | {name: value + sign * step * direction}) for sign in (1, -1))
        wanted = (ahead - behind) / (2 * step)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(direction.size) + 1e-3
        assert abs((gradient * direction).sum() - wanted) < 1e-6 * size, name


def test_a_bias_of_minus_infinity_is_a_mask_bit_for_bit(isa):
    inputs, rng = problem(SHAPE, np.float32)
    for visible in (
        rng.random((2, 1, 67, 151)) < 0.7,
        np.tri(67, 151, 84, dtype=bool),
        np.arange(151) % 5 != 2,
    ):
        bias = np.where(visible, np.float32(0), np.float32(-np.inf))
        masked = logitscope.attention(*inputs, mask=visible, stats=("entropy",))
        got = logitscope.attention(*inputs, bias=bias, stats=("entropy",))
        for name in ("out", "lse", "entropy", "inv_sum"):
            np.testing.assert_array_equal(getattr(got, name), getattr(masked, name))
        dout = rng.standard_normal(got.out.shape).astype(np.float32)
        wanted = logitscope.attention_backward(dout, *inputs, masked, mask=visible)
        gradients = logitscope.attention_backward(dout, *inputs, got, bias=bias)
        for name in ("dq", "dk", "dv"):
            np.testing.assert_array_equal(getattr(gradients, name), getattr(wanted, name))
        assert (gradients.dbias[bias == -np.inf] == 0).all()
        assert logitscope.attention_backward(dout, *inputs, got, bias=bias, with_dbias=False).dbias is None


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_what_a_bias_hides_everywhere_changes_nothing(kind):
    (q, k, v), rng = problem(SHAPE, np.float32)
    bias = rng.standard_normal((67, 151)).astype(np.float32)
    bias[:, 40:60] = -np.inf
    dout = rng.standard_normal((2, 4, 67, 5)).astype(np.float32)
    results = []
    for poison in (0.0, np.nan, np.inf):
        k[:, :, 40:60], v[:, :, 40:60] = poison, poison
        got = logitscope.attention(q, k, v, bias=bias, kind=kind)
        gradients = logitscope.attention_backward(dout, q, k, v, got, bias=bias, kind=kind)
        results.append((got.out, gradients.dq, gradients.dk, gradients.dv, gradients.dbias))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_slopes_are_a_dense_bias_of_distances():
    inputs, _ = problem((1, 2, 1, 40, 60), np.float64)
    slopes = np.array([0.5, 0.125])
    bias = -slopes[:, None, None] * abs(distances(40, 60, "bottom_right"))
    for kind in ("softmax", "sigmoid"):
        got = logitscope.attention(*inputs, alibi_slopes=slopes, kind=kind)
        wanted = logitscope.attention(*inputs, bias=bias, kind=kind)
        np.testing.assert_allclose(got.out, wanted.out, rtol=1e-12, atol=1e-13)
    # Of the real ones, where lengths are given.
    got = logitscope.attention(*inputs, alibi_slopes=slopes, q_len=30, kv_len=50)
    np.testing.assert_allclose(
        got.out[:, :, :30],
        logitscope.attention(
            inputs[0][:, :, :30], *(x[:, :, :50] for x in inputs[1:]), bias=bias[:, :30, :50]
        ).out,
        rtol=1e-12,
        atol=1e-13,
    )


def test_sigmoid_weights_are_those_of_each_key_alone():
    q = np.zeros((1, 1, 5, 8), np.float32)
    v = np.ones((1, 1, 5, 1), np.float32)
    got = logitscope.attention(q, q, v, is_causal=True, kind="sigmoid")
    np.testing.assert_allclose(got.out[0, 0, :, 0], np.arange(1, 6) / 6, rtol=1e-6)
    np.testing.assert_allclose(np.exp(got.lse), got.out[..., 0], rtol=1e-6)
    np.testing.assert_allclose(got.inv_sum, 1 / got.out[..., 0], rtol=1e-6)
    by_row = logitscope.attention(q, q, v, is_causal=True, kind="sigmoid", sigmoid_bias="auto_row")
    visible = np.arange(1, 6)
    np.testing.assert_allclose(by_row.out[0, 0, :, 0], visible / (1 + visible), rtol=1e-6)
    tiny = logitscope.attention(q, q[:, :, :1], v[:, :, :1], kind="sigmoid", sigmoid_bias=-60.0)
    np.testing.assert_allclose(tiny.out, np.exp(-60.0), rtol=1e-5)
    of_numpy = logitscope.attention(q, q[:, :, :1], v[:, :, :1], kind="sigmoid", sigmoid_bias=np.float32(-60))
    np.testing.assert_array_equal(of_numpy.out, tiny.out)
    closed = logitscope.attention(q, q, v, kind="sigmoid", sigmoid_bias=-np.inf)
    assert (closed.out == 0).all()
    whole = logitscope.attention(q, q, v, is_causal=True, kind="sigmoid", map_bins=(5, 5))
    np.testing.assert_allclose(whole.map.sum(-1)[0, 0], np.arange(1, 6) / 6, rtol=1e-6)


def test_rows_that_see_nothing_have_no_sigmoid_weight_and_no_gradient():
    (q, k, v), _ = problem((1, 2, 1, 40, 8), np.float32)
    for bias in ("auto", "auto_row", np.zeros(2, np.float32)):
        options = {"is_causal": True, "kind": "sigmoid", "sigmoid_bias": bias}
        got = logitscope.attention(q, k, v, stats=("entropy",), **options)
        assert (got.out[:, :, :32] == 0).all()
        assert (got.entropy[:, :, :32] == 0).all()
        assert np.isneginf(got.lse[:, :, :32]).all()
        ones = np.ones((1, 2, 40), np.float32)
        gradients = logitscope.attention_backward(
            np.ones_like(got.out), q, k, v, got, dlse=ones, dentropy=ones, **options
        )
        assert (gradients.dq[:, :, :32] == 0).all()
        assert all(np.isfinite(x).all() for x in (gradients.dq, gradients.dk, gradients.dv))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_results_have_the_same_bits_at_any_number_of_threads(kind):
    shape = (2, 4, 2, 210, 310)
    inputs, rng = problem(shape, np.float32)
    options = steps(rng, shape, np.float32, (4, 210, 310)) | {"kind": kind, "is_causal": True}
    dout = rng.standard_normal((2, 4, 210, 5)).astype(np.float32)
    results = []
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(*inputs, **options)
            gradients = logitscope.attention_backward(dout, *inputs, got, **options)
            parts = (getattr(gradients, name) for name in gradients.__slots__)
            results.append([got.out.tobytes(), *(part.tobytes() for part in parts if part is not None)])
    finally:
        logitscope.set_num_threads(None)
    assert all(other == results[0] for other in results[1:])


def test_a_large_common_bias_costs_no_accuracy():
    inputs, _ = problem((1, 1, 1, 64, 64), np.float32)
    for offset in (1e5, 1e7):
        bias = np.full((1, 1), offset, np.float32)
        got = logitscope.attention(*inputs, bias=bias)
        gradients = logitscope.attention_backward(np.ones_like(got.out), *inputs, got, bias=bias)
        np.testing.assert_allclose(gradients.dv.sum(2), 64, rtol=1e-5)


def test_scores_beyond_float32_give_finite_results_where_they_are_finite(isa):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, 2, 70, 8)).astype(np.float32)
    q, k = q * np.float32(1e20), k * np.float32(1e20)
    got = logitscope.attention(q, k, v, is_causal=True, stats=("entropy",), map_bins=(7, 7))
    wanted = oracles.attention(q, k, v, visible=oracles.causal(70, 70))
    np.testing.assert_allclose(got.out, wanted.out, rtol=1e-5)
    np.testing.assert_allclose(got.entropy, wanted.entropy, atol=1e-6)
    np.testing.assert_allclose(got.map.sum(-1), 1, rtol=1e-6)
    gradients = logitscope.attention_backward(np.ones_like(v), q, k, v, got, is_causal=True)
    np.testing.assert_allclose(gradients.dv.sum(2), 70, rtol=1e-5)
    assert np.isfinite(gradients.dq).all()
    # All scores of a row below the range are no row without keys.
    low = np.concatenate([np.abs(q[..., :1]), np.zeros_like(q[..., 1:])], axis=-1)
    got = logitscope.attention(low, -np.abs(k), v)
    np.testing.assert_allclose(got.out, oracles.attention(low, -np.abs(k), v).out, rtol=1e-5)
    k[0, 0, 3] = np.nan
    assert np.isnan(logitscope.attention(q, k, v).out[0, 0]).all()


def test_a_softcap_does_not_hide_that_scores_are_beyond_float32(isa):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, 2, 70, 8)).astype(np.float32)
    q, k = q * np.float32(1e20), k * np.float32(1e20)
    wide = [x.astype(np.float64) for x in (q, k, v)]
    got, wanted = (logitscope.attention(*x, softcap=5.0, is_causal=True) for x in ((q, k, v), wide))
    np.testing.assert_allclose(got.out, wanted.out, rtol=1e-5, atol=1e-6)
    options = {"softcap": 5.0, "is_causal": True}
    gradients = logitscope.attention_backward(np.ones_like(v), q, k, v, got, **options)
    expected = logitscope.attention_backward(np.ones_like(wide[2]), *wide, wanted, **options)
    np.testing.assert_allclose(gradients.dv, expected.dv, rtol=1e-5, atol=1e-6)
    cache = logitscope.KVCache(1, 2, 70, 8)
    cache.append(k, v)
    last = logitscope.attention_decode(q[:, :, -1:], cache, softcap=5.0)
    np.testing.assert_allclose(last.out, wanted.out[:, :, -1:], rtol=1e-5, atol=1e-6)


def test_the_first_row_with_a_nan_is_named():
    (q, k, v), _ = problem((2, 2, 1, 9, 9), np.float32)
    assert logitscope.attention(q, k, v).first_nan is None
    k[1, 0, 4] = np.nan
    assert logitscope.attention(q, k, v, is_causal=True).first_nan == (1, 0, 4)
    k[1, 0, 4], v[0, 0, 7, 2] = 0, np.nan
    assert logitscope.attention(q, k, v, is_causal=True).first_nan == (0, 0, 7)
    turned = [x.swapaxes(1, 2) for x in (q, k, v)]
    assert logitscope.attention(*turned, is_causal=True, layout="blhd").first_nan == (0, 0, 7)
    # As many heads as positions: the shapes do not say which is which.
    square = np.zeros((1, 4, 4, 2), np.float32)
    v = square.copy()
    v[0, 2, 1] = np.nan
    assert logitscope.attention(square, square, v, is_causal=True, layout="blhd").first_nan == (0, 1, 2)
    assert logitscope.attention(square, square, v, is_causal=True).first_nan == (0, 2, 1)
    packed = [x[0] for x in (square, square, v)]
    assert logitscope.attention_varlen(*packed, [0, 1, 4], [0, 1, 4]).first_nan == (0, 1, 1)
    assert logitscope.attention_varlen(*packed[:2], square[0], [0, 4], [0, 4]).first_nan is None


GOOD = np.zeros((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"softcap": -1.0}, ArgumentError, "softcap is -1.0; use a positive number, or 0 for none"),
        ({"softcap": np.inf}, ArgumentError, "softcap is inf; use a positive number, or 0 for none"),
        (
            {"bias": np.zeros((3, 4), np.float32)},
            ShapeError,
            "bias has shape (3, 4); use one that broadcasts to (batch, heads, queries, keys) = (1, 2, 3, 3)",
        ),
        ({"bias": np.zeros((3, 3))}, DTypeError, "bias has dtype float64, q has float32; use one dtype"),
        (
            {"alibi_slopes": np.zeros(3, np.float32)},
            ShapeError,
            "alibi_slopes has shape (3,); use (2,), one number for each head of q",
        ),
        ({"kind": "linear"}, ArgumentError, "kind is 'linear'; use 'softmax' or 'sigmoid'"),
        (
            {"kind": "sigmoid", "sinks": np.zeros(2, np.float32)},
            ArgumentError,
            "sinks are given with kind='sigmoid'; use kind='softmax', or no sinks",
        ),
        (
            {"kind": "sigmoid", "sigmoid_bias": "none"},
            ArgumentError,
            "sigmoid_bias is 'none'; use 'auto', 'auto_row', a number or one for each head of q",
        ),
        (
            {"kind": "sigmoid", "sigmoid_bias": None},
            ArgumentError,
            "sigmoid_bias is None; use 'auto', 'auto_row', a number or one for each head of q",
        ),
        (
            {"sigmoid_bias": 0.0},
            ArgumentError,
            "sigmoid_bias is given with kind='softmax'; use kind='sigmoid'",
        ),
        (
            {"kind": "sigmoid", "sigmoid_bias": np.zeros(3, np.float32)},
            ShapeError,
            "sigmoid_bias has shape (3,); use (2,), one number for each head of q",
        ),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(change, error, message):
    with pytest.raises(error) as caught:
        logitscope.attention(GOOD, GOOD, GOOD, **change)
    assert f"attention: {message}" in str(caught.value)
