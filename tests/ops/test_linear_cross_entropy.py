"""Linear layer and cross entropy in one: every mode is the loss of the logits in float64, in little memory."""

import re
import subprocess
import sys

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.loss import (
    LinearGradients,
    LossStats,
    cross_entropy,
    linear_cross_entropy,
    linear_cross_entropy_backward,
)

MODES = [
    {"mode": "auto"},
    {"mode": "plain"},
    {"mode": "recompute"},
    *({"mode": "chunked", "num_chunks": count} for count in (1, 3, 40)),
]
modes = pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode.values())))
OPTIONS = [
    {},
    {"reduction": "sum", "temperature": 0.7},
    {"softcap": 2.0, "lse_square_scale": 0.1, "entropy_weight": -0.2},
    {"link": "gce", "link_params": {"q": 0.4}, "lse_square_scale": 0.03},
    {"reduction": "none", "entropy_weight": 0.3, "temperature": 2.0},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)


def problem(rows=37, classes=50, columns=9, dtype=np.float64, seed=0):
    """Input, weight, targets of which some are ignored, and bias."""
    rng = np.random.default_rng(seed)
    input, weight = rng.normal(size=(rows, columns)), rng.normal(size=(classes, columns)) * 0.7
    targets = rng.integers(0, classes, rows)
    targets[1::5] = -100
    return input.astype(dtype), weight.astype(dtype), targets, rng.normal(size=classes).astype(dtype)


def oracle(input, weight, targets, bias, upstream=None, **given):
    """Loss and gradients from all logits in float64."""
    given = {"weight" if name == "class_weight" else name: value for name, value in given.items()}
    input, weight = input.astype(np.float64), weight.astype(np.float64)
    logits = input @ weight.T + (0 if bias is None else bias)
    loss, slope = cross_entropy(logits, targets, return_grad=True, **given)
    if upstream is not None:
        slope = slope * upstream[..., None]
    flat = slope.reshape(-1, len(weight))
    gradients = slope @ weight, flat.T @ input.reshape(-1, input.shape[-1]), flat.sum(axis=0)
    return loss, gradients


def assert_gradients(got: LinearGradients, wanted, limit):
    for array, expected in zip((got.input, got.weight, got.bias), wanted, strict=True):
        np.testing.assert_allclose(array, expected, rtol=limit, atol=limit)


@modes
@options
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_and_gradients_agree_with_float64(isa, mode, options, dtype):
    limit = 1e-5 if dtype is np.float32 else 1e-12
    for sizes in ((37, 50, 9), (1, 1030, 3), (5, 1, 2)):
        arrays = problem(*sizes, dtype=dtype)
        wanted, wanted_gradients = oracle(*arrays, **options)
        loss, gradients = linear_cross_entropy(*arrays, **mode, **options, return_grad=True)
        assert isa in logitscope.last_kernel()
        assert loss.dtype == gradients.weight.dtype == dtype
        np.testing.assert_allclose(loss, wanted, rtol=limit, atol=limit)
        assert_gradients(gradients, wanted_gradients, limit)


@modes
def test_gradients_of_rows_apart_have_their_factors_inside_the_sum(mode):
    arrays = problem()
    dloss = np.random.default_rng(3).normal(size=len(arrays[0]))
    _, wanted = oracle(*arrays, upstream=dloss, reduction="none")
    gradients = linear_cross_entropy_backward(dloss, *arrays, **mode, reduction="none")
    assert_gradients(gradients, wanted, 1e-12)


@modes
def test_a_gradient_of_the_loss_multiplies_all(mode):
    arrays = problem()
    _, wanted = oracle(*arrays)
    gradients = linear_cross_entropy_backward(np.array(-1.5), *arrays, **mode)
    assert_gradients(gradients, [-1.5 * array for array in wanted], 1e-12)


@modes
def test_the_bias_has_a_gradient_of_its_own(mode):
    input, weight, targets, bias = problem(rows=6, classes=7)
    loss, gradients = linear_cross_entropy(input, weight, targets, bias, **mode, return_grad=True)
    step = 1e-6
    for k in range(7):
        moved = bias.copy()
        moved[k] += step
        slope = (linear_cross_entropy(input, weight, targets, moved, **mode) - loss) / step
        assert abs(slope - gradients.bias[k]) < 1e-5
    without = linear_cross_entropy(input, weight, targets, **mode, return_grad=True)[1]
    assert without.bias is None
    zero = linear_cross_entropy(input, weight, targets, np.zeros(7), **mode, return_grad=True)[1]
    np.testing.assert_array_equal(without.weight, zero.weight)


@modes
def test_class_weights_and_normalizers(mode):
    arrays = problem()
    weights, counts = np.random.default_rng(2).random(50), np.arange(1.0, 38.0)
    for given in ({"class_weight": weights}, {"normalizer": 11.0}, {"normalizer": counts}):
        wanted, wanted_gradients = oracle(*arrays, **given)
        loss, gradients = linear_cross_entropy(*arrays, **mode, **given, return_grad=True)
        np.testing.assert_allclose(loss, wanted, rtol=1e-12)
        assert_gradients(gradients, wanted_gradients, 1e-12)


@pytest.mark.parametrize("mode", ["plain", "chunked"])
def test_soft_targets_and_smoothing_where_rows_are_whole(mode):
    input, weight, targets, bias = problem()
    soft = np.random.default_rng(1).random((37, 50))
    for given in (
        {"targets": soft},
        {"targets": targets, "label_smoothing": 0.2},
        {"targets": targets, "complement": False},
    ):
        wanted, wanted_gradients = oracle(input, weight, bias=bias, **given)
        loss, gradients = linear_cross_entropy(input, weight, bias=bias, **given, mode=mode, return_grad=True)
        np.testing.assert_allclose(loss, wanted, rtol=1e-12)
        assert_gradients(gradients, wanted_gradients, 1e-12)


@modes
def test_statistics_are_those_of_the_logits(mode):
    input, weight, targets, bias = problem()
    loss, stats = linear_cross_entropy(input, weight, targets, bias, **mode, return_stats=True)
    wanted_loss, wanted = cross_entropy(input @ weight.T + bias, targets, return_stats=True)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-12)
    assert isinstance(stats, LossStats)
    for name in ("lse", "margin", "v", "entropy"):
        np.testing.assert_allclose(getattr(stats, name), getattr(wanted, name), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(stats.argmax, wanted.argmax)
    np.testing.assert_array_equal(stats.collapsed, wanted.collapsed)


@modes
def test_a_shift_lets_rows_predict_later_targets(mode):
    input, weight, targets, bias = problem(rows=24)
    input, targets = input.reshape(2, 12, 9), targets.reshape(2, 12)
    early, late = input[:, :-2], targets[:, 2:]
    wanted, wanted_gradients = oracle(early, weight, late, bias)
    loss, gradients = linear_cross_entropy(input, weight, targets, bias, **mode, shift=2, return_grad=True)
    np.testing.assert_allclose(loss, wanted, rtol=1e-12)
    padded = np.pad(wanted_gradients[0], [(0, 0), (0, 2), (0, 0)])
    assert_gradients(gradients, (padded, *wanted_gradients[1:]), 1e-12)
    losses, stats = linear_cross_entropy(
        input, weight, targets, bias, **mode, shift=2, reduction="none", return_stats=True
    )
    assert losses.shape == stats.lse.shape == (2, 10)
    np.testing.assert_allclose(losses, oracle(early, weight, late, bias, reduction="none")[0], atol=1e-12)
    dloss = np.random.default_rng(0).normal(size=(2, 10))
    _, wanted_gradients = oracle(early, weight, late, bias, upstream=dloss, reduction="none")
    gradients = linear_cross_entropy_backward(
        dloss, input, weight, targets, bias, **mode, shift=2, reduction="none"
    )
    np.testing.assert_allclose(gradients.weight, wanted_gradients[1], atol=1e-12)


@modes
def test_confident_rows_keep_their_digits(mode):
    weight = np.float32([[80.0], [0.0], [-5.0]])
    loss, gradients = linear_cross_entropy(
        np.ones((1, 1), np.float32), weight, np.array([0]), **mode, return_grad=True
    )
    assert loss == pytest.approx(np.exp(-80.0), rel=1e-5)
    assert gradients.weight[0, 0] == pytest.approx(-np.exp(-80.0), rel=1e-5)


@modes
def test_ignored_rows_reach_nothing_whatever_they_hold(mode):
    input, weight, targets, bias = problem()
    clean, clean_gradients = linear_cross_entropy(input, weight, targets, bias, **mode, return_grad=True)
    input[targets == -100] = np.nan
    loss, gradients, stats = linear_cross_entropy(
        input, weight, targets, bias, **mode, return_grad=True, return_stats=True
    )
    assert loss == clean
    np.testing.assert_allclose(gradients.weight, clean_gradients.weight, atol=1e-14)
    assert (gradients.input[targets == -100] == 0).all()
    assert np.isnan(stats.lse[targets == -100]).all()


@modes
def test_nan_stays_in_its_row(mode):
    input, weight, targets, bias = problem()
    input[0, 3] = np.nan
    losses, gradients = linear_cross_entropy(
        input, weight, targets, bias, **mode, reduction="none", return_grad=True
    )
    np.testing.assert_array_equal(np.isnan(losses), np.arange(37) == 0)
    np.testing.assert_array_equal(np.isnan(gradients.input).any(axis=1), np.arange(37) == 0)


@modes
def test_no_rows_and_only_ignored_rows(mode):
    _, weight, _, bias = problem()
    for input, targets in ((np.ones((0, 9)), np.ones(0, int)), (np.ones((3, 9)), np.full(3, -100))):
        loss, gradients = linear_cross_entropy(input, weight, targets, bias, **mode, return_grad=True)
        assert np.isnan(loss)
        assert (gradients.weight == 0).all()
        assert (gradients.bias == 0).all()
        assert gradients.input.shape == input.shape
        assert linear_cross_entropy(input, weight, targets, bias, **mode, empty="zero") == 0


@modes
def test_every_number_of_threads_gives_the_same_bits(mode):
    arrays = problem(rows=300, classes=1100, columns=20, dtype=np.float32)

    def everything():
        loss, gradients = linear_cross_entropy(*arrays, **mode, return_grad=True)
        return [loss, gradients.input, gradients.weight, gradients.bias]

    try:
        logitscope.set_num_threads(1)
        wanted = everything()
        for threads in (2, 3, 8):
            logitscope.set_num_threads(threads)
            for array, expected in zip(everything(), wanted, strict=True):
                np.testing.assert_array_equal(array, expected)
    finally:
        logitscope.set_num_threads(None)


def test_strides_are_read_without_harm():
    input, weight, targets, bias = problem()
    wanted = linear_cross_entropy(input, weight, targets, bias)
    for odd in (np.asfortranarray(weight), weight[::-1][::-1], np.repeat(weight, 2, axis=0)[::2]):
        assert linear_cross_entropy(np.asfortranarray(input), odd, targets, bias) == wanted
    row = linear_cross_entropy(input[0], weight, targets[0], bias)
    assert row == linear_cross_entropy(input[:1], weight, targets[:1], bias)


def test_a_filter_leaves_small_blocks_out():
    input, weight, targets, bias = problem(classes=3000)
    targets = np.minimum(targets, 1000)
    bias[1024:2048] = -60.0
    exact, filtered = (
        linear_cross_entropy(input, weight, targets, bias, filter_eps=eps, mode="chunked", return_grad=True)[
            1
        ]
        for eps in (None, 1e-15)
    )
    assert (exact.bias[1024:2048] > 0).all()
    assert (filtered.bias[1024:2048] == 0).all()
    np.testing.assert_allclose(filtered.input, exact.input, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"targets": np.array([0, 7])},
            TargetError,
            r"linear_cross_entropy: target 7 in row 1 is no class; use 0..4",
        ),
        ({"mode": "fast"}, ArgumentError, r"linear_cross_entropy: mode is 'fast'; use 'auto', 'plain'"),
        ({"num_chunks": 0}, ArgumentError, r"linear_cross_entropy: num_chunks is 0; use an integer above 0"),
        (
            {"num_chunks": 2, "mode": "recompute"},
            ArgumentError,
            r"linear_cross_entropy: num_chunks is 2 in mode 'recompute'; use mode 'chunked'",
        ),
        (
            {"label_smoothing": 0.1, "mode": "recompute"},
            ArgumentError,
            r"linear_cross_entropy: label_smoothing is above 0 in mode 'recompute'; use mode 'chunked' for that",
        ),
        (
            {"filter_eps": 0.0},
            ArgumentError,
            r"linear_cross_entropy: filter_eps is 0.0; use a positive finite",
        ),
        ({"shift": 3}, ArgumentError, r"linear_cross_entropy: shift is 3; use an integer in 0..2"),
        (
            {"bias": np.ones(3)},
            ShapeError,
            r"linear_cross_entropy: bias has shape \(3,\); use \(5,\), one a class",
        ),
        (
            {"weight": np.ones((5, 4))},
            ShapeError,
            r"linear_cross_entropy: input has shape \(2, 3\), weight \(5, 4\); use \(..., d\) and \(classes, d\)",
        ),
        (
            {"weight": np.ones((5, 3), np.float32)},
            DTypeError,
            r"linear_cross_entropy: weight has dtype float32, input has float64; use one dtype",
        ),
        ({"input": np.ones((2, 3), int)}, DTypeError, r"linear_cross_entropy: input has dtype int64"),
        (
            {"targets": np.zeros(3, int)},
            ShapeError,
            r"linear_cross_entropy: targets has shape \(3,\); use \(2,\)",
        ),
        (
            {"class_weight": -np.ones(5)},
            ArgumentError,
            r"linear_cross_entropy: weight is -1 for class 0; use finite numbers, at least 0",
        ),
        (
            {"softcap": -1.0},
            ArgumentError,
            r"linear_cross_entropy: softcap is -1.0; use a positive finite number",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(change, error, message):
    arguments = {"input": np.ones((2, 3)), "weight": np.ones((5, 3)), "targets": np.zeros(2, int)}
    with pytest.raises(error, match=message):
        linear_cross_entropy(**(arguments | change))


def test_a_gradient_that_does_not_fit_is_named():
    arrays = problem()
    with pytest.raises(ShapeError, match=r"dloss has shape \(3,\); use \(37,\) for reduction 'none'"):
        linear_cross_entropy_backward(np.ones(3), *arrays, reduction="none")


PEAK = """
import numpy as np, re, sys
from logitscope.loss import linear_cross_entropy
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
rows, classes, columns = 2048, 20000, 32
rng = np.random.default_rng(0)
input = rng.standard_normal((rows, columns), np.float32)
weight = rng.standard_normal((classes, columns), np.float32)
targets = rng.integers(0, classes, rows)
linear_cross_entropy(input[:2], weight[:9], targets[:2] % 9, return_grad=True)
before = peak()
linear_cross_entropy(input, weight, targets, mode=sys.argv[1], return_grad=True)
print((peak() - before) / (4 * rows * classes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("mode", "least", "most"), [("plain", 0.9, 1.3), ("chunked", 0.0, 0.25), ("recompute", 0.0, 0.15)]
)
def test_the_logits_of_all_rows_are_never_in_memory(mode, least, most):
    run = subprocess.run([sys.executable, "-c", PEAK, mode], capture_output=True, text=True, check=True)
    share = float(re.fullmatch(r"([\d.]+)\n", run.stdout)[1])
    assert least <= share <= most, "peak memory in units of all logits"
