"""Arrays go to a GPU and come back, are sliced there, and chains of calls stay there."""

from __future__ import annotations

import numpy as np
import pytest

import logitscope
from gpu_device import open_device
from logitscope.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from logitscope.gpu import GpuArray


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 3, 4)])
def test_that_arrays_come_back_as_they_went(shape, gpu_device):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    array = GpuArray(x, gpu_device)
    assert (array.shape, array.ndim, array.size, array.nbytes) == (x.shape, x.ndim, x.size, x.nbytes)
    np.testing.assert_array_equal(array.numpy(), x)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_that_an_odd_number_of_16_bit_numbers_comes_back(count, gpu_device):
    x = np.arange(count, dtype=np.float16)
    array = GpuArray(x, gpu_device)
    assert array.dtype == (np.float16 if gpu_device.has_f16 else np.float32)
    np.testing.assert_array_equal(array.numpy(), x)
    np.testing.assert_array_equal(array[count - 1 :].numpy(), x[-1:])


def test_that_other_types_become_float32(gpu_device):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for x in (np.array([1.5, -2.0]), np.array([1.5, -2.0], ml_dtypes.bfloat16)):
        array = GpuArray(x, gpu_device)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array.numpy(), [1.5, -2.0])
    with pytest.raises(DTypeError, match="GpuArray: values has dtype int64; use float32"):
        GpuArray(np.arange(3), gpu_device)
    with pytest.raises(DTypeError, match="GpuArray: dtype is float64; use float32 or float16"):
        GpuArray(np.zeros(3), gpu_device, dtype=np.float64)


def test_that_special_numbers_keep_their_bits(gpu_device):
    bits = np.array([0x7FC00001, 0x7F800000, 0xFF800000, 0x00000001, 0x80000000, 0x7F7FFFFF], np.uint32)
    np.testing.assert_array_equal(GpuArray(bits.view(np.float32), gpu_device).numpy().view(np.uint32), bits)


def test_that_tensors_and_dlpack_are_taken_and_given(gpu_device):
    torch = pytest.importorskip("torch")

    class Foreign:
        """An array of some other library."""

        def __init__(self, array):
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    x = torch.arange(6.0).reshape(2, 3).T
    for values in (x, Foreign(np.ascontiguousarray(x.numpy()))):
        array = GpuArray(values, gpu_device)
        np.testing.assert_array_equal(array.numpy(), x.numpy())
    assert torch.equal(torch.from_dlpack(array), x)
    np.testing.assert_array_equal(np.from_dlpack(array), x.numpy())


def test_that_rows_are_sliced_without_a_copy(gpu_device):
    x = np.arange(35, dtype=np.float32).reshape(7, 5)
    array = GpuArray(x, gpu_device)
    for index in (slice(2, 5), slice(None), slice(-3, None), slice(5, 2), 3, -1):
        np.testing.assert_array_equal(array[index].numpy(), x[index])
        if x[index].size:
            np.testing.assert_allclose(
                logitscope.softmax(array[index]).numpy(), logitscope.softmax(x[index]), rtol=1e-5
            )
    np.testing.assert_array_equal([row.numpy() for row in array], x)
    np.testing.assert_array_equal(array.reshape(5, -1).numpy(), x.reshape(5, 7))


def test_that_wrong_slices_and_shapes_are_named(gpu_device):
    array = GpuArray(np.zeros((7, 5), np.float32), gpu_device)
    with pytest.raises(ArgumentError, match="GpuArray: the step of a slice is 2; use 1"):
        array[::2]
    with pytest.raises(IndexError, match=r"GpuArray: row 7 of 7; use -7..6"):
        array[7]
    with pytest.raises(ArgumentError, match="GpuArray: the index is 'a'"):
        array["a"]
    with pytest.raises(ShapeError, match=r"reshape: shape is \(3, 3\); use one of 35 elements"):
        array.reshape(3, 3)
    with pytest.raises(TypeError, match="no length"):
        len(array.reshape(35)[0])


def test_that_a_chain_of_many_calls_gives_what_the_cpu_gives(gpu_device):
    expected = np.random.default_rng(0).standard_normal((9, 33)).astype(np.float32)
    array = GpuArray(expected, gpu_device)
    for _ in range(80):
        array, expected = (
            logitscope.softmax(array, temperature=0.3),
            logitscope.softmax(expected, temperature=0.3),
        )
    np.testing.assert_allclose(array.numpy(), expected, rtol=1e-4)


def test_that_a_chain_is_one_submission_up_to_32_calls(gpu_device):
    array = GpuArray(np.zeros((2, 8), np.float32), gpu_device)
    for calls, expected in ((1, 1), (30, 1), (31, 1), (40, 2)):
        before, result = gpu_device.submissions, array
        for _ in range(calls):
            result = logitscope.softmax(result)
        assert gpu_device.submissions == before + calls // 32
        result.numpy()
        assert gpu_device.submissions == before + expected


def test_that_an_upload_does_not_overtake_calls_that_read_the_same_memory(gpu_device):
    # The first array is given back before the call that reads it has run, and the next one is as large.
    results = []
    for value in range(40):
        results.append(logitscope.logsumexp(GpuArray(np.full((1, 64), value, np.float32), gpu_device)))
    found = np.concatenate([result.numpy() for result in results])
    np.testing.assert_allclose(found, np.arange(40) + np.log(64), rtol=1e-6)


def test_that_memory_is_used_again(gpu_device):
    def once():
        logitscope.softmax(GpuArray(np.zeros((64, 1024), np.float32), gpu_device)).numpy()

    once()
    kept = gpu_device.pool_bytes
    for _ in range(5):
        once()
    assert gpu_device.pool_bytes <= kept + (1 << 20)


def test_that_arrays_of_two_devices_are_not_mixed(gpu_device):
    other = open_device()
    x, y = (GpuArray(np.zeros(3, np.float32), device) for device in (gpu_device, other))
    with pytest.raises(DeviceError, match=r"softmax_backward: dy is <logitscope.gpu.Device"):
        logitscope.softmax_backward(x, y)
