"""Attention on a GPU gives what the CPU gives: masks, scores, weightings, statistics, map and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import logitscope
from gpu_agreement import assert_agree
from gpu_attention_cases import (
    BIAS,
    FIGURES,
    HQ,
    LK,
    LQ,
    MASK,
    OPTIONS,
    B,
    D,
    in_layout,
    inputs,
    parted_device,
)
from gpu_device import open_device
from logitscope.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GpuOutOfMemoryError,
    ShapeError,
)
from logitscope.gpu import GpuArray

INF, NAN = np.inf, np.nan


def assert_same_attention(device, q, k, v, dout, tolerance=1e-4, **options):
    """Results and gradients on a device and on the CPU."""
    wanted = {
        "stats": ("entropy", "logits", "variance"),
        "map_bins": options.pop("bins", None),
        "map_pooling": options.pop("pooling", "mean"),
        "top_keys": options.pop("top", 0),
    }
    given = [GpuArray(x, device) for x in (q, k, v)]
    found = logitscope.attention(*given, **wanted, **options)
    expected = logitscope.attention(q, k, v, **wanted, **options)
    for name in (*FIGURES, "map", "top_weights"):
        if name != "logit_mean" and getattr(expected, name) is not None:
            assert_agree(getattr(found, name).numpy(), getattr(expected, name), tolerance, name)
    # A mean is a sum of terms of both signs: its error is of the size of the spread.
    spread = np.nanmax(np.where(np.isfinite(expected.logit_m2), expected.logit_std, 0.0), initial=0.0)
    mean = found.logit_mean.numpy()
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(expected.logit_mean))
    np.testing.assert_allclose(mean, expected.logit_mean, rtol=tolerance, atol=tolerance * max(spread, 1e-6))
    if wanted["top_keys"]:
        np.testing.assert_array_equal(found.top_keys, expected.top_keys)
        assert found.top_keys.dtype == np.int64
    if dout is None:
        return
    with_dbias = options.get("bias") is not None
    upstream = {
        name: np.random.default_rng(seed).standard_normal(expected.lse.shape).astype(q.dtype)
        for seed, name in enumerate(("dlse", "dentropy"))
    }
    gradients = logitscope.attention_backward(
        GpuArray(dout, device), *given, found, with_dbias=with_dbias, **upstream, **options
    )
    wanted = logitscope.attention_backward(
        dout, q, k, v, expected, with_dbias=with_dbias, **upstream, **options
    )
    of_heads = ("dinv_temperature", "dsinks", "dbias", "dalibi_slopes", "dsigmoid_bias")
    names = ("dq", "dk", "dv", *of_heads, "dvalue_gate")
    for name in names:
        one = getattr(wanted, name)
        assert (one is None) == (getattr(gradients, name) is None), name
        if one is not None:
            # A gradient is a sum of terms of both signs: its error is of their size.
            got = getattr(gradients, name).numpy()
            assert got.shape == one.shape, name
            np.testing.assert_array_equal(np.isnan(got), np.isnan(one), name)
            np.testing.assert_allclose(
                got,
                one,
                rtol=tolerance,
                atol=tolerance * max(1e-3, np.nanmax(np.abs(one), initial=0.0)),
                err_msg=name,
            )


@pytest.mark.parametrize("name", OPTIONS)
def test_that_every_option_agrees_with_the_cpu(name, gpu_device):
    options = {"bins": (4, 6), "top": 5} | OPTIONS[name]
    assert_same_attention(gpu_device, *in_layout(inputs(), OPTIONS[name]), **options)
    assert logitscope.last_kernel().startswith("attention")


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1, 1, 1, 1),
        (1, 2, 1, 33, 31, 8, 8),
        (2, 2, 2, 5, 70, 40, 64),
        (1, 8, 1, 40, 17, 64, 40),
        (1, 1, 1, 9, 12, 128, 80),
        (1, 2, 2, 7, 9, 200, 256),
        (1, 2, 1, 3, 5, 300, 512),
    ],
)
def test_that_every_shape_agrees_with_the_cpu(shape, gpu_device):
    assert_same_attention(gpu_device, *inputs(shape=shape), is_causal=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_that_the_largest_weights_of_bins_agree_with_the_cpu(name, gpu_device):
    q, k, v, _ = in_layout(inputs(), OPTIONS[name])
    options = {"bins": (4, 6), "pooling": "max"} | OPTIONS[name]
    assert_same_attention(gpu_device, q, k, v, None, **options)


PARTS = ["plain", "all", "sigmoid of heads", "sigmoid by rows", "lengths and causal", "bias of keys", "gates"]


MARKED = {
    "infinite": [INF, 1.0],
    "minus infinite": [-INF, 1.0],
    "minus infinite alone": [-INF, -INF],
    "nan": [NAN, 1.0],
}


@pytest.mark.parametrize("name", MARKED)
def test_that_infinite_keys_in_parts_give_what_they_give_in_one(name, gpu_device):
    q, k, v, _ = inputs(shape=(1, 1, 1, 3, 100, 4, 4))
    q[0, 0, 1], q[0, 0, 0], q[0, 0, 2] = 1.0, 0.5, 0.25
    k[...] = MARKED[name][1]
    k[0, 0, 60] = MARKED[name][0]
    classes = []
    for device in (gpu_device, parted_device(1024)):
        given = [GpuArray(x, device) for x in (q, k, v)]
        results = [
            getattr(logitscope.attention(*given, stats=("entropy", "logits", "variance")), figure).numpy()
            for figure in FIGURES
        ]
        classes.append(results)
    for figure, whole, parted in zip(FIGURES, *classes, strict=True):
        assert_agree(parted, whole, label=figure)
    assert_same_attention(parted_device(1024), q, k, v, None)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("limit", [16384, 1024])
def test_that_maps_of_more_than_a_binding_holds_agree(name, limit, pooling):
    options = {"bins": (4, 6), "pooling": pooling} | OPTIONS[name]
    q, k, v, _ = inputs()
    assert_same_attention(parted_device(limit), q, k, v, None, **options)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("limit", [16384, 4096, 2048, 1024])
def test_that_more_than_a_binding_holds_is_worked_on_in_parts(name, limit):
    # Of two batch elements with four heads each: one, two heads, some queries of one, or some keys of those.
    device = open_device(binding_bytes=limit)
    # What the pool hands out next is not 0.
    for size in (256, 512, 1024, 4096):
        GpuArray(np.full(size // 4, NAN, np.float32), device).numpy()
    options = {"bins": (4, 6), "top": 5} | OPTIONS[name]
    assert_same_attention(device, *inputs(), **options)


def test_that_more_keys_than_a_software_driver_counts_are_worked_on_in_parts(gpu_device):
    shape = (1, 2, 1, 3, 9001, 16, 8)
    assert_same_attention(gpu_device, *inputs(shape=shape), top=3, is_causal=True)


def test_that_float16_in_parts_of_the_keys_is_as_good():
    device = open_device(binding_bytes=1024)
    if not device.has_f16:
        pytest.skip(f"{device!r} stores no float16")
    q, k, v, _ = inputs(dtype=np.float16)
    found = logitscope.attention(*(GpuArray(x, device) for x in (q, k, v)), is_causal=True)
    expected = logitscope.attention(*(x.astype(np.float32) for x in (q, k, v)), is_causal=True)
    np.testing.assert_allclose(found.out.numpy(), expected.out, rtol=2e-3, atol=2e-3)


def test_that_a_row_over_the_binding_limit_is_refused():
    device = open_device(binding_bytes=256)
    q, k, v, _ = (GpuArray(x, device) for x in inputs(shape=(1, 1, 1, 2, 2, 80, 80)))
    with pytest.raises(GpuOutOfMemoryError, match=r"attention: a row takes \d+ bytes; .* can bind"):
        logitscope.attention(q, k, v)


@pytest.mark.parametrize("shape", [(HQ, LQ, LK), (1, 1, LK), (LQ, 1), (1,), (B, 1, 1, LK), (B, HQ, LQ, LK)])
def test_that_the_gradient_of_a_bias_has_its_shape(shape, gpu_device):
    bias = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert_same_attention(gpu_device, *inputs(), bias=bias, mask=MASK)


def test_that_rows_without_keys_are_nan_where_that_is_asked_for(gpu_device):
    options = {
        "kv_len": [0, 35],
        "is_causal": True,
        "empty": "nan",
        "map_bins": (4, 6),
        "stats": ("entropy",),
    }
    q, k, v, dout = inputs()
    given = [GpuArray(x, gpu_device) for x in (q, k, v)]
    found, expected = logitscope.attention(*given, **options), logitscope.attention(q, k, v, **options)
    for name in ("out", "lse", "max_logit", "inv_sum", "entropy", "map"):
        assert_agree(getattr(found, name).numpy(), getattr(expected, name), label=name)
    options = {name: options[name] for name in ("kv_len", "is_causal")}
    gradients = logitscope.attention_backward(GpuArray(dout, gpu_device), *given, found, **options)
    assert (gradients.dq.numpy()[0] == 0).all()


def test_that_gradients_read_nothing_back(gpu_device, monkeypatch):
    q, k, v, dout = (GpuArray(x, gpu_device) for x in inputs())
    sinks = np.zeros(HQ, np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(GpuArray, "numpy", lambda _: pytest.fail("something was read"))
        result = logitscope.attention(q, k, v, sinks=sinks, stats=("entropy",))
        gradients = logitscope.attention_backward(
            dout, q, k, v, result, sinks=sinks, dlse=result.lse, dentropy=result.entropy
        )
    assert np.isfinite(gradients.dsinks.numpy()).all()


@pytest.mark.parametrize("shape", [(0, 2, 2, 3, 3, 8, 8), (1, 2, 2, 0, 3, 8, 8), (1, 2, 2, 3, 0, 8, 8)])
def test_that_nothing_gives_empty_or_zero_results(shape, gpu_device):
    assert_same_attention(gpu_device, *inputs(shape=shape))


@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38])
def test_that_what_masks_hide_reaches_no_result(value, gpu_device):
    q, k, v, dout = inputs()
    clean = logitscope.attention(
        *(GpuArray(x, gpu_device) for x in (q, k, v)), kv_len=[35, 20], is_causal=True
    )
    k[1, :, 20:], v[1, :, 20:] = value, value
    given = [GpuArray(x, gpu_device) for x in (q, k, v)]
    found = logitscope.attention(*given, kv_len=[35, 20], is_causal=True)
    for name in ("out", "lse", "max_logit", "inv_sum"):
        np.testing.assert_array_equal(getattr(found, name).numpy(), getattr(clean, name).numpy(), name)
    gradients = logitscope.attention_backward(
        GpuArray(dout, gpu_device), *given, found, kv_len=[35, 20], is_causal=True
    )
    assert all(np.isfinite(getattr(gradients, name).numpy()).all() for name in ("dq", "dk", "dv"))


def test_that_a_nan_reaches_the_rows_that_see_it_and_no_other(gpu_device):
    for place in range(3):
        q, k, v, _ = inputs(shape=(1, 2, 2, 6, 6, 8, 8))
        (q, k, v)[place][0, 1, 3, 2] = NAN
        assert_same_attention(gpu_device, q, k, v, None, is_causal=True)


FAR_KEYS = {
    "one above": [1e20, 2e20, 1.0],
    "two above": [2e20, 2e20, 1.0],
    "all below": [-1e20, -2e20, -1e20],
    "one below": [-1e20, 1.0, 2.0],
}
FAR_OPTIONS = {
    "plain": {},
    "brought back": {"scale": 2e-38},
    "softcap": {"softcap": 2.0},
    "sigmoid": {"kind": "sigmoid"},
    "sinks": {"sinks": np.array([1.0], np.float32)},
    "bias": {"bias": np.array([0.5, -INF, 0.0], np.float32)},
}


def far_case(keys, options, places, count):
    """Inputs with three keys that lie far out, all that are seen, and options."""
    q, v = np.zeros((1, 1, 2, 4), np.float32), np.zeros((1, 1, count, 4), np.float32)
    k, given = np.zeros((1, 1, count, 4), np.float32), dict(FAR_OPTIONS[options])
    # The second row is an ordinary one. In the other column infinities of both signs would meet.
    q[0, 0, :, :2] = [[1e20, 1e20], [1e-20, 0.0]]
    k[0, 0, places, 0] = FAR_KEYS[keys]
    k[0, 0, places, 1] = [-0.25 * key for key in FAR_KEYS[keys]]
    v[0, 0, places] = np.eye(3, 4)
    bias = np.full(count, -INF, np.float32)
    bias[places] = given.get("bias", 0.0)
    return q, k, v, given | {"bias": bias}


@pytest.mark.parametrize("limit", [None, 1024])
@pytest.mark.parametrize("options", FAR_OPTIONS)
@pytest.mark.parametrize("keys", FAR_KEYS)
def test_that_scores_beyond_the_range_give_what_float64_gives(keys, options, limit, gpu_device):
    # Keys in three of the parts that a binding holds, or in one.
    device, places = (gpu_device, [0, 1, 2]) if limit is None else (parted_device(limit), [5, 50, 98])
    q, k, v, given = far_case(keys, options, places, 3 if limit is None else 100)
    dout = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    there = [GpuArray(x, device) for x in (q, k, v)]
    wanted = {"stats": ("entropy", "logits", "variance"), "map_bins": (2, 3), "top_keys": 2}
    found, expected = (
        logitscope.attention(*there, **given, **wanted),
        logitscope.attention(q, k, v, **given, **wanted),
    )
    for name in ("out", "lse", "max_logit", "entropy", "map"):
        assert_agree(getattr(found, name).numpy() + 0.0, getattr(expected, name) + 0.0, label=name)
    # The CPU takes a score below the range for no score where another one of the row is within.
    wide = {name: x.astype(float) if isinstance(x, np.ndarray) else x for name, x in given.items()}
    exact = logitscope.attention(*(x.astype(float) for x in (q, k, v)), **wide, **wanted)
    marked = np.signbit(found.inv_sum.numpy())
    for name in ("logit_count", "logit_mean", "logit_m2", "variance"):
        with np.errstate(over="ignore"):
            wished = np.where(marked, getattr(exact, name).astype(np.float32), getattr(expected, name))
        assert_agree(getattr(found, name).numpy() + 0.0, wished + 0.0, label=name)
    for pooling in ("mean", "max"):
        maps = (
            logitscope.attention(*inputs, **given, map_bins=(1, 2), map_pooling=pooling).map
            for inputs in (there, (q, k, v))
        )
        assert_agree(next(maps).numpy(), next(maps), label=pooling)
    # The order of keys of equal or of no weight depends on how such a row is computed.
    counted = (expected.top_weights > 0.9) & (options != "sigmoid")
    np.testing.assert_array_equal(found.top_keys[counted], expected.top_keys[counted])
    assert_agree(found.top_weights.numpy(), expected.top_weights)
    # The sign of 1 / sum marks rows that were computed anew, which are not the same.
    assert_agree(abs(found.inv_sum.numpy()), abs(expected.inv_sum))
    gradients = logitscope.attention_backward(GpuArray(dout, device), *there, found, **given)
    wished = logitscope.attention_backward(dout, q, k, v, expected, **given)
    for name, factor in (("dq", 1e20), ("dk", 1e20), ("dv", 1.0)):
        # Factors of 1e20 times a rounding.
        rounding = 1e-6 * factor * given.get("scale", 0.5) if factor > 1 else 1e-5
        one = getattr(wished, name)
        np.testing.assert_allclose(getattr(gradients, name).numpy(), one, 1e-4, 10 * rounding, err_msg=name)


@pytest.mark.parametrize("name", OPTIONS)
def test_that_float16_is_stored_where_the_device_can(name, gpu_device):
    if not gpu_device.has_f16:
        pytest.skip(f"{gpu_device!r} stores no float16")
    options = OPTIONS[name]
    q, k, v, dout = in_layout(inputs(dtype=np.float16), options)
    given = [GpuArray(x, gpu_device) for x in (q, k, v)]
    found = logitscope.attention(*given, **options)
    expected = logitscope.attention(q, k, v, **options)
    assert found.out.dtype == np.float16
    assert_agree(found.out.numpy(), expected.out, 2e-3)
    assert_agree(found.lse.numpy(), expected.lse)
    gradients = logitscope.attention_backward(GpuArray(dout, gpu_device), *given, found, **options)
    wanted = logitscope.attention_backward(dout, q, k, v, expected, **options)
    for part in ("dq", "dk", "dv"):
        one, got = getattr(wanted, part), getattr(gradients, part).numpy()
        assert got.dtype == np.float16
        np.testing.assert_allclose(got, one, rtol=2e-3, atol=2e-3 * np.abs(one).max(), err_msg=part)


def test_that_a_large_offset_costs_the_gradient_no_digits(gpu_device):
    q, k, v, dout = inputs(shape=(1, 1, 1, 8, 8, 8, 8))
    dout[:] = 1
    given = [GpuArray(x, gpu_device) for x in (q, k, v)]
    bias = np.full((1, 1, 1, 1), 1e5, np.float32)
    result = logitscope.attention(*given, bias=bias)
    gradients = logitscope.attention_backward(
        GpuArray(dout, gpu_device), *given, result, bias=bias, with_dbias=False
    )
    np.testing.assert_allclose(gradients.dv.numpy().sum(2), 8, rtol=1e-5)


def test_that_what_does_not_fit_is_named(gpu_device):
    q, k, v, dout = (GpuArray(x, gpu_device) for x in inputs())
    with pytest.raises(DeviceError, match="attention: k is a ndarray; use a GpuArray on"):
        logitscope.attention(q, inputs()[1], v)
    with pytest.raises(ShapeError, match="attention: k has shape"):
        logitscope.attention(q, GpuArray(np.zeros((B, 3, LK, D), np.float32), gpu_device), v)
    with pytest.raises(ShapeError, match=r"attention: v has shape .*; use .* as k"):
        logitscope.attention(q, k, v[:1])
    with pytest.raises(ShapeError, match="attention: bias has shape"):
        logitscope.attention(q, k, v, bias=np.zeros((3, 3), np.float32))
    with pytest.raises(
        ShapeError, match=r"attention: heads of 9000 numbers; use at most \d+ on .*, or the CPU"
    ):
        logitscope.attention(*(GpuArray(np.zeros((1, 1, 1, 9000), np.float32), gpu_device) for _ in range(3)))
    with pytest.raises(ShapeError, match="attention: value_gate has shape"):
        logitscope.attention(q, k, v, value_gate=np.ones(3, np.float32))
    with pytest.raises(ArgumentError, match="attention: top_keys is 99; use 0 for none, or up to"):
        logitscope.attention(q, k, v, top_keys=99)
    with pytest.raises(ArgumentError, match=r"attention: seed is None with dropout_p=0.5"):
        logitscope.attention(q, k, v, dropout_p=0.5)
    result = logitscope.attention(q, k, v, bias=BIAS)
    with pytest.raises(
        ArgumentError, match="attention_backward: dentropy is given but result holds no entropy"
    ):
        logitscope.attention_backward(dout, q, k, v, result, dentropy=result.lse)
    if gpu_device.has_f16:
        with pytest.raises(DTypeError, match="attention: v has dtype float16; use float32"):
            logitscope.attention(q, k, GpuArray(v.numpy(), gpu_device, dtype=np.float16))
