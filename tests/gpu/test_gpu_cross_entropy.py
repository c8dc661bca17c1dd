"""Losses on a GPU give what the CPU gives: every option, every link, special rows, gradients and statistics."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_agreement import assert_agree
from gpu_device import open_device
from logitscope import loss as losses
from logitscope.errors import ArgumentError, DeviceError, ShapeError, TargetError
from logitscope.gpu import GpuArray
from logitscope.loss import cross_entropy, cross_entropy_backward

INF, NAN = np.inf, np.nan
ROWS = 6
LINKS = {
    "ce": {},
    "comp_sum": {"tau": 0.3},
    "gce": {"q": 0.7},
    "mae": {},
    "focal": {"gamma": 2.0},
    "poly": {"epsilon": 0.5},
    "symmetric": {"a": 0.1, "b": 1.0, "log_zero": -4.0},
    "truncated_gce": {"q": 0.7, "k": 0.3},
}
OPTIONS = [
    {},
    {"temperature": 1.7},
    {"softcap": 4.0},
    {"label_smoothing": 0.1},
    {"lse_square_scale": 0.02},
    {"entropy_weight": 0.1},
    {"complement": False},
    {"normalizer": 11.0},
    {"normalizer": np.arange(1.0, ROWS + 1)},
    {"reduction": "sum"},
    {"reduction": "none"},
    {
        "label_smoothing": 0.1,
        "temperature": 1.3,
        "softcap": 4.0,
        "lse_square_scale": 0.02,
        "entropy_weight": 0.1,
    },
]


def problem(columns, seed=0, soft=False):
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal((ROWS, columns))).astype(np.float32)
    if soft:
        return logits, rng.dirichlet(np.ones(columns), ROWS).astype(np.float32)
    return logits, rng.integers(0, columns, ROWS)


def assert_same_loss(device, logits, targets, tolerance=1e-4, **options):
    """Loss, gradient and statistics on a device and on the CPU."""
    soft = np.asarray(targets).dtype.kind == "f"
    given = GpuArray(targets, device) if soft else targets
    found = cross_entropy(GpuArray(logits, device), given, return_grad=True, return_stats=True, **options)
    expected = cross_entropy(logits, targets, return_grad=True, return_stats=True, **options)
    assert_agree(found[0].numpy(), np.asarray(expected[0], np.float32), tolerance, "loss")
    assert_agree(found[1].numpy(), expected[1], tolerance, "gradient")
    for name in ("lse", "margin", "v", "entropy"):
        assert_agree(getattr(found[2], name).numpy(), getattr(expected[2], name), tolerance, name)
    for name in ("argmax", "collapsed"):
        np.testing.assert_array_equal(getattr(found[2], name), getattr(expected[2], name), name)


@pytest.mark.parametrize("columns", [1, 2, 65, 257, 600, 4100])
@pytest.mark.parametrize("soft", [False, True])
def test_that_losses_of_any_length_agree_with_the_cpu(columns, soft, any_device):
    assert_same_loss(any_device, *problem(columns, soft=soft))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_that_every_option_agrees_with_the_cpu(options, soft, gpu_device):
    logits, targets = problem(33, soft=soft)
    weight = np.random.default_rng(1).uniform(0.2, 2.0, 33).astype(np.float32)
    assert_same_loss(gpu_device, logits, targets, **options)
    assert_same_loss(gpu_device, logits, targets, weight=weight, **options)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_that_every_link_agrees_with_the_cpu(link, smoothing, gpu_device):
    if smoothing and link not in ("ce", "comp_sum", "gce", "mae"):
        pytest.skip("this link has no meaning for spread targets")
    logits, targets = problem(33)
    logits[0, targets[0]] = 25.0
    logits[1, targets[1]] = -60.0
    assert_same_loss(
        gpu_device, logits, targets, link=link, link_params=LINKS[link], label_smoothing=smoothing
    )


def test_that_the_functions_of_the_family_take_arrays_on_a_gpu(gpu_device):
    logits, targets = problem(33)
    for name in (
        "comp_sum_loss",
        "focal_loss",
        "poly_loss",
        "generalized_cross_entropy",
        "symmetric_cross_entropy",
    ):
        function = getattr(losses, name)
        found = function(GpuArray(logits, gpu_device), targets).numpy()
        assert_agree(found, np.float32(function(logits, targets)), label=name)


def special():
    """Rows that are special, and targets: row by row what the edge contract is about."""
    rows = {
        "confident": ([80.0, 0.0, -5.0], 0),
        "wrong": ([80.0, 0.0, -5.0], 2),
        "nan": ([1.0, NAN, 2.0], 0),
        "inf": ([1.0, INF, 2.0], 0),
        "hidden other": ([1.0, -INF, 2.0], 0),
        "hidden target": ([1.0, -INF, 2.0], 1),
        "nothing": ([-INF, -INF, -INF], 0),
        "others hidden": ([1.0, -INF, -INF], 0),
        "ignored": ([NAN, INF, -INF], -100),
        "equal": ([5.0, 5.0, 5.0], 1),
    }
    logits = np.array([row for row, _ in rows.values()], np.float32)
    return logits, np.array([target for _, target in rows.values()])


@pytest.mark.parametrize(
    "options", [{}, {"softcap": 4.0}, {"link": "gce", "link_params": {"q": 0.5}}], ids=str
)
def test_that_special_rows_are_of_the_same_class(options, any_device):
    logits, targets = special()
    found, gradient = cross_entropy(
        GpuArray(logits, any_device), targets, reduction="none", return_grad=True, **options
    )
    expected, expected_gradient = cross_entropy(
        logits, targets, reduction="none", return_grad=True, **options
    )
    assert_agree(found.numpy(), expected)
    for row in range(len(logits)):
        assert_agree(gradient.numpy()[row], expected_gradient[row], label=str(row))


@pytest.mark.parametrize("smooth_over", ["all", "finite"])
def test_that_smoothing_over_hidden_classes_is_what_was_asked_for(smooth_over, gpu_device):
    logits, targets = np.array([[1.0, -INF, 2.0, 0.5]], np.float32), np.array([2])
    assert_same_loss(gpu_device, logits, targets, label_smoothing=0.2, smooth_over=smooth_over)


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_that_the_mean_of_no_rows_is_what_was_asked_for(empty, gpu_device):
    logits, targets = problem(7)[0], np.full(ROWS, -100)
    found, gradient = cross_entropy(GpuArray(logits, gpu_device), targets, empty=empty, return_grad=True)
    assert_agree(found.numpy(), np.float32(cross_entropy(logits, targets, empty=empty)))
    np.testing.assert_array_equal(gradient.numpy(), 0)


def test_that_an_upstream_gradient_of_each_row_is_taken(gpu_device):
    logits, targets = problem(65)
    dloss = np.random.default_rng(2).standard_normal(ROWS).astype(np.float32)
    expected = cross_entropy_backward(dloss, logits, targets, reduction="none")
    for given in (dloss, GpuArray(dloss, gpu_device)):
        found = cross_entropy_backward(given, GpuArray(logits, gpu_device), targets, reduction="none")
        assert_agree(found.numpy(), expected)
    found = cross_entropy_backward(np.float32(2.5), GpuArray(logits, gpu_device), targets)
    assert_agree(found.numpy(), cross_entropy_backward(np.float32(2.5), logits, targets))


def test_that_classes_may_lie_on_any_axis(gpu_device):
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((3, 9, 4)).astype(np.float32), rng.integers(0, 9, (3, 4))
    found = cross_entropy(GpuArray(logits, gpu_device), targets, axis=1, return_grad=True)
    expected = cross_entropy(logits, targets, axis=1, return_grad=True)
    assert_agree(found[0].numpy(), np.float32(expected[0]))
    assert_agree(found[1].numpy(), expected[1])


def test_that_rows_over_the_binding_limit_are_worked_on_in_parts():
    device = open_device(binding_bytes=2048)
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((40, 65)).astype(np.float32), rng.integers(0, 65, 40)
    assert_same_loss(device, logits, targets)
    assert_same_loss(device, logits, targets, normalizer=rng.uniform(1, 2, 40))


def test_that_float16_is_stored_where_the_device_can(gpu_device):
    if not gpu_device.has_f16:
        pytest.skip(f"{gpu_device!r} stores no float16")
    logits, targets = problem(65)
    assert_same_loss(gpu_device, logits.astype(np.float16), targets, 2e-3)


def test_that_repeated_runs_have_the_same_bits(any_device):
    logits, targets = problem(1500)
    array = GpuArray(logits, any_device)

    def once():
        loss, gradient = cross_entropy(array, targets, label_smoothing=0.1, return_grad=True)
        return loss.numpy().tobytes() + gradient.numpy().tobytes()

    first = once()
    assert all(once() == first for _ in range(3))


def test_that_what_does_not_fit_is_named(gpu_device):
    logits, targets = problem(7)
    array = GpuArray(logits, gpu_device)
    with pytest.raises(TargetError, match=r"cross_entropy: target 7 in row 2 is no class; use 0..6"):
        cross_entropy(array, np.array([0, 1, 7, 3, 4, 5]))
    with pytest.raises(ShapeError, match=r"cross_entropy: targets has shape \(5,\); use \(6,\)"):
        cross_entropy(array, targets[1:])
    with pytest.raises(ArgumentError, match=r"cross_entropy: label_smoothing is 1.5; use a number in 0..1"):
        cross_entropy(array, targets, label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="cross_entropy: weight is -1 for class 3"):
        cross_entropy(array, targets, weight=np.array([1, 1, 1, -1, 1, 1, 1], np.float32))
    with pytest.raises(ArgumentError, match="cross_entropy: link is 'huber'"):
        cross_entropy(array, targets, link="huber")
    with pytest.raises(ArgumentError, match="cross_entropy: grad_out is given with a GpuArray"):
        cross_entropy(array, targets, grad_out=logits.copy())
    with pytest.raises(ArgumentError, match=r"cross_entropy: out_dtype is .* with a GpuArray"):
        cross_entropy(array, targets, out_dtype=np.float64)
    with pytest.raises(
        ShapeError, match=r"cross_entropy_backward: dloss has shape \(2,\); use \(\) for reduction 'mean'"
    ):
        cross_entropy_backward(np.ones(2, np.float32), array, targets)
    with pytest.raises(DeviceError, match=r"cross_entropy: targets is <logitscope.gpu.Device"):
        cross_entropy(array, GpuArray(logits, open_device()))
