"""16-bit numbers: every operation on rows computes in float32 and rounds once."""

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitscope
from box_oracles import scene
from logitscope import _dtypes, activation, detection, loss
from logitscope.errors import DTypeError
from logitscope.nn.functional import soft_nms
from row_oracles import normal

TYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
TORCH_TYPES = {TYPES[0]: torch.float16, TYPES[1]: torch.bfloat16}

ROWS = {
    "softmax": logitscope.softmax,
    "softmax, warm": lambda x, axis=-1: logitscope.softmax(x, axis, temperature=3.0),
    "log_softmax": logitscope.log_softmax,
    "logsumexp": logitscope.logsumexp,
    "sparsemax": logitscope.sparsemax,
    "entmax15": logitscope.entmax15,
    "stablemax": logitscope.stablemax,
    "log_stablemax": logitscope.log_stablemax,
}
GRADIENTS = {
    "softmax": logitscope.softmax_backward,
    "log_softmax": logitscope.log_softmax_backward,
    "sparsemax": logitscope.sparsemax_backward,
    "entmax15": logitscope.entmax15_backward,
}
LOSSES = {
    "cross_entropy": loss.cross_entropy,
    "cross_entropy, all options": lambda x, y, **more: loss.cross_entropy(
        x,
        y,
        label_smoothing=0.1,
        softcap=9.0,
        temperature=0.7,
        lse_square_scale=0.01,
        entropy_weight=0.1,
        **more,
    ),
    "focal": loss.focal_loss,
    "stablemax": loss.stablemax_cross_entropy,
    "margin": loss.margin_loss,
    "taylor": loss.taylor_softmax_loss,
    "spherical": loss.spherical_softmax_loss,
    "standardized": loss.z_standardized_loss,
}


def halves(shape, dtype, deviation=3.0, seed=0):
    return normal(shape, np.float32, deviation, seed).astype(dtype)


def wide(x):
    return np.asarray(x, np.float32)


def assert_rounded(got, exact, dtype):
    """Whether ``got`` is what was computed in float32, rounded once."""
    assert got.dtype == dtype
    np.testing.assert_array_equal(wide(got), wide(np.asarray(exact).astype(dtype)))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 16), (5, 33), (2, 1000), (1, 20001)])
def test_rows_are_computed_in_float32_and_rounded_once(isa, name, shape, dtype):
    x = halves(shape, dtype)
    assert_rounded(ROWS[name](x), ROWS[name](wide(x)), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_computed_in_float32_and_rounded_once(isa, name, dtype):
    x, dy = halves((5, 77), dtype), halves((5, 77), dtype, seed=1)
    y = ROWS[name](x)
    assert_rounded(GRADIENTS[name](y, dy), GRADIENTS[name](wide(y), wide(dy)), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_other_gradients_and_results_of_rows(dtype):
    x, dy = halves((5, 77), dtype), halves((5, 77), dtype, seed=1)
    for forward, backward in (
        (logitscope.stablemax, logitscope.stablemax_backward),
        (logitscope.log_stablemax, logitscope.log_stablemax_backward),
    ):
        y = forward(x)
        assert_rounded(backward(x, y, dy), backward(wide(x), wide(y), wide(dy)), dtype)
    lse, dlse = logitscope.logsumexp(x), dy[:, 0]
    exact = logitscope.logsumexp_backward(wide(x), wide(lse), wide(dlse))
    assert_rounded(logitscope.logsumexp_backward(x, lse, dlse), exact, dtype)
    mantissa, exponent = logitscope.logsumexp(x, return_pair=True)
    assert mantissa.dtype == exponent.dtype == np.float32
    for got, want in zip(logitscope.softmax_stats(x), logitscope.softmax_stats(wide(x)), strict=True):
        np.testing.assert_array_equal(got, want)
    assert_rounded(logitscope.topk_softmax(x, 3), logitscope.topk_softmax(wide(x), 3), dtype)
    indices, weights = logitscope.topk_softmax(x, 3, return_indices=True)
    places, want = logitscope.topk_softmax(wide(x), 3, return_indices=True)
    assert_rounded(weights, want, dtype)
    np.testing.assert_array_equal(indices, places)
    options = {"indices": indices, "size": 77}
    exact = logitscope.topk_softmax_backward(wide(weights), wide(dy[:, :3]), **options)
    assert_rounded(logitscope.topk_softmax_backward(weights, dy[:, :3], **options), exact, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    "algorithm", ["auto", "two_pass", "online", "three_pass_reload", "three_pass_recompute"]
)
def test_long_rows_need_no_wide_copy_and_keep_their_digits(isa, algorithm, dtype):
    x = halves((2, 140_001), dtype, 2.0)
    y = logitscope.softmax(x, algorithm=algorithm)
    ran = {"auto": "online", "three_pass_reload": "three_pass_recompute"}.get(algorithm, algorithm)
    name = "bf16" if dtype == TYPES[1] else "f16"
    assert logitscope.last_kernel() == f"softmax_{ran}-{name}-{isa}"
    truth = np.exp(np.float64(wide(x)) - wide(x).max(-1, keepdims=True))
    truth /= truth.sum(-1, keepdims=True)
    # The nearest number, or its neighbour where float32 lies on the other side of the middle.
    steps = y.view(np.int16).astype(int) - truth.astype(np.float32).astype(dtype).view(np.int16)
    assert np.abs(steps).max() <= 1
    assert (steps != 0).mean() < 1e-3
    for name in ("log_softmax", "logsumexp"):
        assert_rounded(ROWS[name](x), ROWS[name](wide(x)), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_and_their_gradients_rounded_once(isa, name, dtype):
    x = halves((9, 51), dtype)
    classes = np.arange(9) * 5
    classes[3] = -100
    for reduction in ("mean", "sum", "none"):
        got, gradient = LOSSES[name](x, classes, reduction=reduction, return_grad=True)
        want, exact = LOSSES[name](wide(x), classes, reduction=reduction, return_grad=True)
        assert np.asarray(got).dtype == np.float32
        np.testing.assert_array_equal(got, want)
        assert_rounded(gradient, exact, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_soft_targets_weights_strides_and_statistics_of_losses(dtype):
    x = halves((4, 6, 40), dtype)
    masses = logitscope.softmax(halves((4, 6, 40), dtype, seed=2))
    weight = np.linspace(0.5, 2.0, 40).astype(dtype)
    for logits, targets in (
        (x, masses),
        (x.transpose(1, 0, 2), masses.transpose(1, 0, 2)),
        (x[:, ::2], masses[:, ::2]),
    ):
        options = {"weight": weight, "return_grad": True, "return_stats": True}
        got, gradient, stats = loss.cross_entropy(logits, targets, **options)
        options["weight"] = wide(weight)
        want, exact, others = loss.cross_entropy(wide(logits), wide(targets), **options)
        assert got == want
        assert_rounded(gradient, exact, dtype)
        for name in ("lse", "argmax", "margin", "v", "entropy", "collapsed"):
            np.testing.assert_array_equal(getattr(stats, name), getattr(others, name))
    dloss = halves((4, 6), dtype)
    classes = np.zeros((4, 6), int)
    got = loss.cross_entropy_backward(dloss, x, classes, reduction="none")
    assert_rounded(got, loss.cross_entropy_backward(wide(dloss), wide(x), classes, reduction="none"), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_elementwise_losses_and_penalties(dtype):
    x, targets = halves((7, 19), dtype), (halves((7, 19), dtype, seed=3) > 0).astype(dtype)
    for reduction in ("mean", "none"):
        options = {"reduction": reduction, "return_grad": True}
        for got, want in (
            (
                loss.binary_cross_entropy_with_logits(x, targets, **options),
                loss.binary_cross_entropy_with_logits(wide(x), wide(targets), **options),
            ),
            (loss.logsumexp_penalty(x, **options), loss.logsumexp_penalty(wide(x), **options)),
        ):
            np.testing.assert_array_equal(got[0], want[0])
            assert np.asarray(got[0]).dtype == np.float32
            assert_rounded(got[1], want[1], dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_axes_strides_out_and_tensors(dtype):
    x = halves((6, 5, 70), dtype)
    for axis in (0, 1, 2):
        assert_rounded(logitscope.softmax(x, axis), logitscope.softmax(wide(x), axis), dtype)
        assert_rounded(
            logitscope.logsumexp(x, axis, keepdims=True),
            logitscope.logsumexp(wide(x), axis, keepdims=True),
            dtype,
        )
    view = x[::2, :, ::-3]
    assert_rounded(logitscope.softmax(view), logitscope.softmax(wide(view)), dtype)
    out = np.zeros_like(x)
    assert logitscope.softmax(x, out=out) is out
    assert_rounded(out, logitscope.softmax(wide(x)), dtype)
    scalar = logitscope.logsumexp(x[0, 0])
    assert scalar.dtype == dtype
    assert scalar.shape == ()
    tensor = torch.from_numpy(wide(x)).to(TORCH_TYPES[dtype])
    y = logitscope.softmax(tensor)
    assert y.dtype == TORCH_TYPES[dtype]
    np.testing.assert_array_equal(y.float().numpy(), wide(out))
    logitscope.softmax(tensor, out=tensor)
    assert torch.equal(tensor, y)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_edges_keep_the_contract(isa, dtype):
    x = halves((4, 37), dtype)
    x[0, 5], x[1, 36], x[2] = np.nan, np.inf, -np.inf
    y = wide(logitscope.softmax(x))
    assert np.isnan(y[:3]).all()
    assert np.isfinite(y[3]).all()
    assert (wide(logitscope.softmax(x[2:3], empty="zero")) == 0).all()
    assert np.isnan(wide(logitscope.logsumexp(x))[0])
    assert wide(logitscope.logsumexp(x))[1] == np.inf
    # Small float16 probabilities are below its normal numbers, and are kept.
    flat = np.zeros((1, 40_000), dtype)
    assert (wide(logitscope.softmax(flat)) == wide(np.float32(1 / 40_000).astype(dtype))).all()
    classes = np.array([-100, -100, -100, 1])
    value, gradient = loss.cross_entropy(x, classes, return_grad=True)
    assert np.isfinite(value)
    assert (wide(gradient[:3]) == 0).all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("mode", ["plain", "chunked", "recompute"])
def test_a_linear_layer_with_its_loss(mode, dtype):
    hidden, weight, bias = (
        halves((21, 24), dtype),
        halves((50, 24), dtype, 0.3, 1),
        halves((50,), dtype, seed=2),
    )
    classes = np.arange(21) * 2
    classes[4] = -100
    wide_arrays = wide(hidden), wide(weight), classes, wide(bias)
    got, gradients = loss.linear_cross_entropy(hidden, weight, classes, bias, mode=mode, return_grad=True)
    want, exact = loss.linear_cross_entropy(*wide_arrays, mode=mode, return_grad=True)
    assert got.dtype == np.float32
    assert got == want
    dloss = halves((21,), dtype, seed=3)
    options = {"mode": mode, "reduction": "none"}
    apart = loss.linear_cross_entropy_backward(dloss, hidden, weight, classes, bias, **options)
    exact_apart = loss.linear_cross_entropy_backward(wide(dloss), *wide_arrays, **options)
    for name in ("input", "weight", "bias"):
        assert_rounded(getattr(gradients, name), getattr(exact, name), dtype)
        assert_rounded(getattr(apart, name), getattr(exact_apart, name), dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_boxes_are_computed_in_float32_and_rounded_once(isa, dtype):
    rng = np.random.default_rng(5)
    boxes, scores = (x.astype(dtype) for x in scene(rng, 150, np.float32))
    other = scene(rng, 19, np.float32)[0].astype(dtype)
    assert_rounded(detection.box_iou(boxes, other), detection.box_iou(wide(boxes), wide(other)), dtype)
    classes = rng.integers(0, 3, 150)
    calls = [
        lambda b, s, name=name: detection.soft_nms(b, s, name) for name in ("gaussian", "linear", "hard")
    ]
    calls.append(lambda b, s: detection.soft_nms(b, s, weight_fn=lambda overlaps: 1 - overlaps))
    calls.append(lambda b, s: detection.batched_soft_nms(b, s, classes, hard_cut=0.8))
    for call in calls:
        (keep, kept), (places, exact) = call(boxes, scores), call(wide(boxes), wide(scores))
        np.testing.assert_array_equal(keep, places)
        assert_rounded(kept, exact, dtype)
    np.testing.assert_array_equal(
        detection.nms(boxes, scores, 0.4), detection.nms(wide(boxes), wide(scores), 0.4)
    )
    tensor = torch.from_numpy(wide(boxes)).to(TORCH_TYPES[dtype])
    overlaps = detection.box_iou(tensor, tensor[:3])
    assert overlaps.dtype == TORCH_TYPES[dtype]
    np.testing.assert_array_equal(overlaps.float().numpy(), wide(detection.box_iou(boxes, boxes[:3])))
    keep, kept = soft_nms(tensor, torch.from_numpy(wide(scores)).to(TORCH_TYPES[dtype]))
    np.testing.assert_array_equal(kept.float().numpy(), wide(detection.soft_nms(boxes, scores)[1]))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_usual_activations_are_computed_in_float32_and_rounded_once(dtype):
    x = halves((3, 40), dtype)
    for function in (activation.relu2, activation.gelu, activation.swiglu):
        assert_rounded(function(x), function(wide(x)), dtype)


def test_a_target_that_is_nearly_certain_keeps_its_gradient():
    # p = 1 - 1e-4: rounded to bfloat16 before 1 is taken off, nothing would be left of it.
    x = np.array([[np.log(9999.0), 0.0]]).astype(ml_dtypes.bfloat16)
    p = 1 / (1 + np.exp(-np.float64(wide(x))[0, 0]))
    gradient = wide(loss.cross_entropy(x, np.array([0]), return_grad=True)[1])
    assert abs(gradient[0, 0] / (p - 1) - 1) < 2**-8


def test_other_types_and_mixtures_are_refused_by_name():
    x = halves((2, 3), TYPES[1])
    with pytest.raises(DTypeError, match="softmax_backward: dy has dtype float16; use bfloat16"):
        logitscope.softmax_backward(x, x.astype(np.float16))
    with pytest.raises(
        DTypeError, match="cross_entropy: targets has dtype float32; use bfloat16, or integers"
    ):
        loss.cross_entropy(x, wide(x))
    with pytest.raises(
        DTypeError, match="softmax: x has dtype uint16; use float32, float64, float16 or bfloat16"
    ):
        logitscope.softmax(x.view(np.uint16))


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_rounding_in_python_is_the_one_of_ml_dtypes(numbers):
    array = np.array(numbers, np.float32)
    for dtype, ours in ((TYPES[0], TYPES[0]), (TYPES[1], _dtypes.BFLOAT16)):
        with np.errstate(over="ignore"):
            want = array.astype(dtype)
        got = _dtypes.narrow(array, ours)
        np.testing.assert_array_equal(wide(got.view(dtype)), wide(want))
        np.testing.assert_array_equal(_dtypes.widen(got), wide(want))
