"""A linear layer with its loss on a GPU gives what the CPU gives, in chunks of classes."""

from __future__ import annotations

import numpy as np
import pytest

import logitscope
from gpu_agreement import assert_agree
from gpu_device import open_device
from logitscope.errors import ArgumentError, DeviceError, DTypeError, TargetError
from logitscope.gpu import GpuArray
from logitscope.loss import linear_cross_entropy, linear_cross_entropy_backward

INF, NAN = np.inf, np.nan
ROWS, CLASSES, WIDTH = 9, 37, 12
OPTIONS = [
    {},
    {"temperature": 1.7},
    {"softcap": 4.0},
    {"label_smoothing": 0.1},
    {"label_smoothing": 0.1, "smooth_over": "finite"},
    {"lse_square_scale": 0.02},
    {"entropy_weight": 0.1},
    {"complement": False},
    {"normalizer": 11.0},
    {"normalizer": np.arange(1.0, ROWS + 1)},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"class_weight": np.linspace(0.2, 2.0, CLASSES).astype(np.float32)},
    {"link": "gce", "link_params": {"q": 0.7}},
    {"link": "focal", "link_params": {"gamma": 2.0}},
    {
        "label_smoothing": 0.1,
        "temperature": 1.3,
        "softcap": 4.0,
        "lse_square_scale": 0.02,
        "entropy_weight": 0.1,
        "class_weight": np.linspace(0.2, 2.0, CLASSES).astype(np.float32),
        "link": "comp_sum",
        "link_params": {"tau": 0.3},
    },
]


def problem(seed=0, rows=ROWS, classes=CLASSES, width=WIDTH, dtype=np.float32, soft=False):
    rng = np.random.default_rng(seed)
    targets = (
        rng.dirichlet(np.ones(classes), rows).astype(np.float32) if soft else rng.integers(0, classes, rows)
    )
    return (
        rng.standard_normal((rows, width)).astype(dtype),
        rng.standard_normal((classes, width)).astype(dtype),
        targets,
        rng.standard_normal(classes).astype(dtype),
    )


def assert_same_gradients(found, expected, tolerance):
    for name in ("input", "weight", "bias"):
        one, got = getattr(expected, name), getattr(found, name).numpy()
        assert (got.shape, got.dtype) == (one.shape, one.dtype), name
        np.testing.assert_array_equal(np.isnan(got), np.isnan(one), name)
        # A gradient is a sum of terms of both signs: its error is of their size.
        largest = np.nanmax(np.abs(one.astype(np.float64)), initial=0.0)
        np.testing.assert_allclose(got, one, rtol=tolerance, atol=tolerance * largest, err_msg=name)


def assert_same(device, input, weight, targets, bias, tolerance=1e-4, chunks=None, **options):
    """Loss, gradients and statistics on a device and on the CPU."""
    there = [GpuArray(array, device) for array in (input, weight)]
    offsets = GpuArray(bias, device)
    wanted = {"return_grad": True, "return_stats": True}
    found = linear_cross_entropy(*there, targets, offsets, num_chunks=chunks, **wanted, **options)
    expected = linear_cross_entropy(input, weight, targets, bias, **wanted, **options)
    assert_agree(found[0].numpy(), np.asarray(expected[0], np.float32), tolerance, "loss")
    assert_same_gradients(found[1], expected[1], tolerance)
    for name in ("lse", "margin", "v", "entropy"):
        assert_agree(getattr(found[2], name).numpy(), getattr(expected[2], name), tolerance, name)
    for name in ("argmax", "collapsed"):
        np.testing.assert_array_equal(getattr(found[2], name), getattr(expected[2], name), name)
    dloss = np.float32(0.7)
    if options.get("reduction") == "none":
        dloss = np.linspace(-1, 1, expected[0].size).reshape(expected[0].shape).astype(np.float32)
    given = linear_cross_entropy_backward(dloss, *there, targets, offsets, num_chunks=chunks, **options)
    wished = linear_cross_entropy_backward(dloss, input, weight, targets, bias, **options)
    assert_same_gradients(given, wished, tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("soft", [False, True], ids=["classes", "soft"])
def test_that_every_option_agrees_with_the_cpu(options, soft, gpu_device):
    if soft and options.get("link") == "focal":
        pytest.skip("this link has no meaning for spread targets")
    assert_same(gpu_device, *problem(soft=soft), chunks=3, **options)


@pytest.mark.parametrize("chunks", [None, 1, 2, 5, CLASSES])
def test_that_any_number_of_chunks_agrees_with_the_cpu(chunks, any_device):
    assert_same(any_device, *problem(), chunks=chunks)
    assert logitscope.last_kernel().startswith("linear_cross_entropy")


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 70), (70, 65, 3), (2, 700, 5), (65, 130, 65), (0, 5, 4)])
def test_that_every_shape_agrees_with_the_cpu(shape, gpu_device):
    rows, classes, width = shape
    assert_same(gpu_device, *problem(rows=rows, classes=classes, width=width), empty="zero")


@pytest.mark.parametrize("mode", ["plain", "chunked", "recompute"])
def test_that_every_mode_agrees_with_the_cpu(mode, gpu_device):
    assert_same(gpu_device, *problem(rows=70, classes=130), mode=mode)


def test_that_blocks_below_a_filter_count_as_zero(gpu_device):
    input, weight, targets, bias = problem(rows=130, classes=2100)
    targets %= 1024
    # Nothing in the second block of classes reaches the filter.
    bias[1024:2048] -= 30
    options = {"filter_eps": 1e-6, "reduction": "sum"}
    assert_same(gpu_device, input, weight, targets, bias, **options)
    there = [GpuArray(array, gpu_device) for array in (input, weight, bias)]
    gradients = linear_cross_entropy(*there[:2], targets, there[2], return_grad=True, **options)[1]
    of_bias = gradients.bias.numpy()
    assert (of_bias[1024:2048] == 0).all()
    assert (of_bias[:1024] != 0).all()
    exact = linear_cross_entropy(*there[:2], targets, there[2], return_grad=True, reduction="sum")[1]
    assert (exact.bias.numpy()[1024:2048] != 0).any()


def test_that_deep_products_are_made_in_parts(gpu_device):
    input, weight, targets, bias = problem(rows=2, classes=3, width=20_000)
    assert_same(gpu_device, 0.01 * input, weight, targets, bias)


def test_that_tensors_over_the_binding_limit_are_worked_on_in_parts():
    device = open_device(binding_bytes=4096)
    assert_same(device, *problem(rows=90, classes=150, width=16))


def test_that_rows_without_a_target_reach_nothing(gpu_device):
    input, weight, targets, bias = problem()
    targets[[0, 4]] = -100
    assert_same(gpu_device, input, weight, targets, bias, chunks=2)
    assert_same(gpu_device, input, weight, targets, bias, chunks=2, reduction="none")
    there = [GpuArray(array, gpu_device) for array in (input, weight)]
    clean = linear_cross_entropy(*there, targets, return_grad=True)[1]
    input[[0, 4]] = NAN
    spoilt = linear_cross_entropy(GpuArray(input, gpu_device), there[1], targets, return_grad=True)[1]
    for name in ("input", "weight"):
        np.testing.assert_array_equal(getattr(spoilt, name).numpy(), getattr(clean, name).numpy())


def test_that_a_shift_predicts_later_targets(gpu_device):
    input, weight, targets, bias = problem(rows=12)
    shaped = input.reshape(2, 6, WIDTH), weight, targets.reshape(2, 6), bias
    for reduction in ("mean", "none"):
        assert_same(gpu_device, *shaped, shift=2, chunks=2, reduction=reduction)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38, -3e38])
def test_that_special_numbers_are_of_the_same_class(value, gpu_device):
    input, weight, targets, bias = problem()
    bias[[2, 20]] = value
    targets[:2] = 2, 20
    assert_same(gpu_device, input, weight, targets, bias, chunks=4)
    nothing = np.full(CLASSES, -INF, np.float32)
    assert_same(gpu_device, input, weight, targets, nothing, chunks=4)


def test_that_a_confident_row_keeps_its_digits(gpu_device):
    input, weight = np.ones((1, 1), np.float32), np.array([[0.0], [60.0], [1.0]], np.float32)
    found = linear_cross_entropy(
        GpuArray(input, gpu_device), GpuArray(weight, gpu_device), np.array([1]), num_chunks=3
    )
    exact = np.exp(-60.0) + np.exp(-59.0)
    np.testing.assert_allclose(found.numpy(), exact, rtol=1e-5)


def test_that_float16_is_stored_where_the_device_can(gpu_device):
    if not gpu_device.has_f16:
        pytest.skip(f"{gpu_device!r} stores no float16")
    assert_same(gpu_device, *problem(dtype=np.float16), tolerance=2e-3, chunks=3)


def test_that_repeated_runs_have_the_same_bits(any_device):
    input, weight, targets, _ = problem(rows=40, classes=300)
    there = [GpuArray(array, any_device) for array in (input, weight)]

    def once():
        loss, gradients = linear_cross_entropy(*there, targets, return_grad=True, num_chunks=2)
        arrays = (loss, gradients.input, gradients.weight)
        return b"".join(array.numpy().tobytes() for array in arrays)

    first = once()
    assert all(once() == first for _ in range(2))


def test_that_what_does_not_fit_is_named(gpu_device):
    input, weight, targets, bias = problem()
    rows, matrix = GpuArray(input, gpu_device), GpuArray(weight, gpu_device)
    with pytest.raises(DeviceError, match="linear_cross_entropy: weight is a ndarray; use a GpuArray on"):
        linear_cross_entropy(rows, weight, targets)
    with pytest.raises(DeviceError, match="linear_cross_entropy: bias is a ndarray; use a GpuArray on"):
        linear_cross_entropy(rows, matrix, targets, bias)
    with pytest.raises(
        ArgumentError, match=r"linear_cross_entropy: filter_eps is -1.0; use a positive finite"
    ):
        linear_cross_entropy(rows, matrix, targets, filter_eps=-1.0)
    with pytest.raises(TargetError, match=r"linear_cross_entropy: target 37 in row 0 is no class; use 0..36"):
        linear_cross_entropy(rows, matrix, np.full(ROWS, CLASSES))
    if gpu_device.has_f16:
        with pytest.raises(DTypeError, match="linear_cross_entropy: weight has dtype float16, input float32"):
            linear_cross_entropy(rows, GpuArray(weight, gpu_device, dtype=np.float16), targets)
