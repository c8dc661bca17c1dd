"""Operations on rows give on a GPU what the CPU gives: values, special rows, axes, long and many rows."""

from __future__ import annotations

import numpy as np
import pytest

import logitscope
from gpu_agreement import assert_agree
from gpu_device import open_device
from logitscope.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from logitscope.gpu import GpuArray

FORWARD = ["softmax", "log_softmax", "logsumexp", "sparsemax", "entmax15", "stablemax", "log_stablemax"]
COLUMNS = [1, 2, 7, 64, 65, 255, 256, 257, 513, 4097]


def rows_of(columns, count=5, scale=3.0):
    return (scale * np.random.default_rng(columns).standard_normal((count, columns))).astype(np.float32)


def backward(name, x, dy, **options):
    """The gradient of an operation at x; the forward result is the CPU's on either side."""
    on_gpu = isinstance(x, GpuArray)
    host = x.numpy() if on_gpu else x
    result = getattr(logitscope, name)(host, **options)
    y = GpuArray(result, x.device) if on_gpu else result
    function = getattr(logitscope, f"{name}_backward")
    given = {"softmax": (y,), "log_softmax": (y,), "sparsemax": (y,), "entmax15": (y,)}.get(name, (x, y))
    return function(*given, dy, **options)


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("columns", COLUMNS)
def test_that_rows_agree_with_the_cpu(name, columns, any_device):
    x = rows_of(columns)
    function = getattr(logitscope, name)
    found = function(GpuArray(x, any_device))
    assert logitscope.last_kernel() == f"{name}-f32-gpu"
    assert_agree(found.numpy(), function(x))


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("columns", [1, 65, 513, 4097])
def test_that_gradients_agree_with_the_cpu(name, columns, any_device):
    x = rows_of(columns)
    shape = (5,) if name == "logsumexp" else x.shape
    dy = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    found = backward(name, GpuArray(x, any_device), GpuArray(dy, any_device))
    assert_agree(found.numpy(), backward(name, x, dy))


SPECIAL = {
    "nan": [1.0, np.nan, 2.0],
    "inf": [1.0, np.inf, 2.0],
    "nan and inf": [np.nan, np.inf, -np.inf],
    "both infinities": [np.inf, -np.inf, 0.0],
    "hidden": [1.0, -np.inf, 2.0],
    "nothing": [-np.inf, -np.inf, -np.inf],
    "huge": [3e38, -3e38, 3.3e38],
    "lowest": [-3.4028235e38, -3.4028235e38, -3.4028235e38],
    "far": [0.0, -200.0, -90.0],
    "confident": [80.0, 0.0, -5.0],
    "equal": [5.0, 5.0, 5.0],
}


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("columns", [3, 600])
def test_that_special_rows_are_of_the_same_class(name, columns, any_device):
    x = np.full((len(SPECIAL), columns), -np.inf, np.float32)
    x[:, :3] = list(SPECIAL.values())
    function = getattr(logitscope, name)
    found, expected = function(GpuArray(x, any_device)).numpy(), function(x)
    for row, label in enumerate(SPECIAL):
        assert np.isnan(found[row]).tolist() == np.isnan(expected[row]).tolist(), label
        assert (found[row] == 0).tolist() == (expected[row] == 0).tolist(), label
        assert_agree(np.atleast_1d(found[row]), np.atleast_1d(expected[row]))


def test_that_an_empty_row_is_what_was_asked_for(gpu_device):
    x = GpuArray(np.array([[-np.inf, -np.inf], [0.0, 0.0]], np.float32), gpu_device)
    assert np.isnan(logitscope.softmax(x).numpy()[0]).all()
    np.testing.assert_array_equal(logitscope.softmax(x, empty="zero").numpy(), [[0, 0], [0.5, 0.5]])


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_that_any_axis_will_do(name, axis, gpu_device):
    x = np.random.default_rng(0).standard_normal((3, 18, 5)).astype(np.float32)
    function = getattr(logitscope, name)
    assert_agree(function(GpuArray(x, gpu_device), axis).numpy(), function(x, axis))


def test_that_strided_arrays_are_taken(gpu_device):
    x = np.random.default_rng(0).standard_normal((8, 9, 4)).astype(np.float32)[::2, ::-1].swapaxes(0, 2)
    assert_agree(logitscope.softmax(GpuArray(x, gpu_device)).numpy(), logitscope.softmax(x))


@pytest.mark.parametrize("temperature", [0.1, 2.0, 100.0])
def test_that_the_temperature_divides(temperature, gpu_device):
    x, dy = rows_of(65), rows_of(65, scale=1.0)
    for name in ("softmax", "log_softmax"):
        function = getattr(logitscope, name)
        found = function(GpuArray(x, gpu_device), temperature=temperature).numpy()
        assert_agree(found, function(x, temperature=temperature))
        given = GpuArray(x, gpu_device), GpuArray(dy, gpu_device)
        assert_agree(
            backward(name, *given, temperature=temperature).numpy(),
            backward(name, x, dy, temperature=temperature),
        )


@pytest.mark.parametrize("columns", [65, 4097])
def test_that_float16_is_stored_where_the_device_can(columns, any_device):
    if not any_device.has_f16:
        pytest.skip(f"{any_device!r} stores no float16")
    x = rows_of(columns).astype(np.float16)
    for name in FORWARD:
        function = getattr(logitscope, name)
        found = function(GpuArray(x, any_device))
        assert found.dtype == np.float16
        assert_agree(found.numpy(), function(x), 2e-3)


@pytest.mark.parametrize("name", FORWARD)
def test_that_repeated_runs_have_the_same_bits(name, any_device):
    x = GpuArray(rows_of(1500), any_device)
    function = getattr(logitscope, name)
    first = function(x).numpy().tobytes()
    assert all(function(x).numpy().tobytes() == first for _ in range(3))


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("columns", [65, 1500, 4097])
def test_that_both_ways_of_adding_up_agree(name, columns, gpu_device):
    if "subgroups" not in gpu_device.info.features:
        pytest.skip(f"{gpu_device!r} has no subgroups")
    x = rows_of(columns)
    function = getattr(logitscope, name)
    devices = [open_device(reduction=reduction) for reduction in ("tree", "subgroup")]
    tree, subgroup = (function(GpuArray(x, device)).numpy() for device in devices)
    np.testing.assert_allclose(tree, subgroup, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 65_537])
def test_that_any_number_of_rows_will_do(count, gpu_device):
    x = rows_of(3, count)
    assert_agree(logitscope.softmax(GpuArray(x, gpu_device)).numpy(), logitscope.softmax(x))


def test_that_70000_rows_go_in_one_call(gpu_device):
    x = np.random.default_rng(0).standard_normal((70_000, 513)).astype(np.float32)[:, :2].copy()
    assert_agree(logitscope.softmax(GpuArray(x, gpu_device)).numpy(), logitscope.softmax(x))


def test_that_more_groups_than_a_side_of_the_grid_are_run(gpu_device):
    # Rows of more than 512 numbers have a workgroup each: 65 535 is the limit of a side.
    x = np.zeros((66_000, 520), np.float32)
    x[:, 0] = np.arange(66_000) % 7
    found = logitscope.logsumexp(GpuArray(x, gpu_device)).numpy()
    assert_agree(found, logitscope.logsumexp(x))


def test_that_tensors_over_the_binding_limit_are_worked_on_in_parts():
    device = open_device(binding_bytes=4096)
    x = rows_of(65, count=101)
    found = GpuArray(x, device)
    for name in FORWARD:
        function = getattr(logitscope, name)
        assert_agree(function(found).numpy(), function(x))
    y = logitscope.softmax(x)
    assert_agree(
        logitscope.softmax_backward(GpuArray(y, device), found).numpy(), logitscope.softmax_backward(y, x)
    )


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 5), (4, 1)])
def test_that_small_and_empty_arrays_are_taken(shape, gpu_device):
    x = np.ones(shape, np.float32)
    assert_agree(logitscope.softmax(GpuArray(x, gpu_device)).numpy(), logitscope.softmax(x))


def test_that_an_array_without_axes_is_taken(gpu_device):
    x = GpuArray(np.float32(3.0), gpu_device)
    assert logitscope.softmax(x).numpy() == 1.0
    assert logitscope.logsumexp(x).numpy() == 3.0


def test_that_axes_stay_where_it_is_asked_for(gpu_device):
    x = GpuArray(rows_of(7), gpu_device)
    assert logitscope.logsumexp(x, keepdims=True).shape == (5, 1)
    assert logitscope.logsumexp(x, 0).shape == (7,)


def test_that_what_does_not_fit_is_named(gpu_device):
    x = GpuArray(rows_of(7), gpu_device)
    with pytest.raises(
        np.exceptions.AxisError, match=r"softmax: axis 3 is out of range for shape \(5, 7\); use -2..1"
    ):
        logitscope.softmax(x, 3)
    with pytest.raises(ShapeError, match=r"axis -1 of shape .* has no elements"):
        logitscope.softmax(GpuArray(np.ones((2, 0), np.float32), gpu_device))
    with pytest.raises(ArgumentError, match=r"softmax: temperature is -1.0; use a positive finite number"):
        logitscope.softmax(x, temperature=-1.0)
    with pytest.raises(ArgumentError, match="softmax: empty is 'one'; use 'nan' or 'zero'"):
        logitscope.softmax(x, empty="one")
    with pytest.raises(ArgumentError, match="softmax: algorithm is 'online' with a GpuArray"):
        logitscope.softmax(x, algorithm="online")
    with pytest.raises(ArgumentError, match="sparsemax: out is given with a GpuArray"):
        logitscope.sparsemax(x, out=np.empty((5, 7), np.float32))
    with pytest.raises(ShapeError, match=r"softmax_backward: dy has shape \(4, 7\); use \(5, 7\)"):
        logitscope.softmax_backward(x, x[1:])
    with pytest.raises(DeviceError, match="softmax_backward: dy is a ndarray; use a GpuArray on"):
        logitscope.softmax_backward(x, rows_of(7))
    with pytest.raises(DeviceError, match=r"topk_softmax: x is on a GPU; use x.numpy()"):
        logitscope.topk_softmax(x, 2)
    if gpu_device.has_f16:
        with pytest.raises(DTypeError, match="softmax_backward: dy has dtype float16; use float32"):
            logitscope.softmax_backward(x, GpuArray(rows_of(7), gpu_device, dtype=np.float16))
