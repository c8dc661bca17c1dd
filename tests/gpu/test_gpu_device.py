"""Which GPUs there are, what is said where there is none, and what happens when one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import logitscope
from gpu_agreement import assert_agree
from gpu_device import open_device
from logitscope import gpu
from logitscope.errors import (
    ArgumentError,
    DeviceError,
    GpuCompileError,
    GpuDeviceLostError,
    GpuOutOfMemoryError,
    GpuTimeoutError,
    GpuUnavailableError,
)
from logitscope.gpu import GpuArray


def assert_computes(device):
    np.testing.assert_array_equal(
        logitscope.softmax(GpuArray(np.zeros(2, np.float32), device)).numpy(), [0.5, 0.5]
    )


def test_that_adapters_say_what_they_are(gpu_device):
    (info,) = [adapter for adapter in gpu.adapters() if adapter.index == gpu_device.info.index]
    assert info == gpu_device.info
    assert info.kind in ("discrete", "integrated", "virtual", "software", "other")
    assert info.limits["binding_bytes"] > 0
    assert (gpu_device.features, gpu_device.limits) == (info.features, info.limits)
    assert info.name in repr(gpu_device)
    assert gpu.available(allow_software=True)


def test_that_an_adapter_is_found_by_index_and_by_a_part_of_its_name(gpu_device, monkeypatch):
    info = gpu_device.info
    assert gpu.Device(info.index).info == info
    assert gpu.Device(info.name[1:5].upper()).info.name == info.name
    monkeypatch.setenv("LOGITSCOPE_GPU_ADAPTER", info.name)
    assert gpu.Device().info.name == info.name
    assert gpu.available()
    assert gpu.default_device() is gpu.default_device()


def test_that_the_choice_can_be_held_to_backends(gpu_device):
    info = gpu_device.info
    assert gpu.Device(info.index, backends=[info.backend]).info == info
    others = {"vulkan", "metal", "dx12"} - {adapter.backend for adapter in gpu.adapters()}
    with pytest.raises(
        GpuUnavailableError, match=rf"gpu: no adapter through .*; there are .*{info.name[:5]}"
    ):
        gpu.Device(backends=sorted(others), allow_software=True)
    with pytest.raises(GpuUnavailableError, match="gpu: no backend 'cuda'; use vulkan, metal, dx12"):
        gpu.Device(backends=["cuda"], allow_software=True)


def test_that_an_unknown_adapter_is_answered_with_those_there_are(gpu_device):
    with pytest.raises(
        GpuUnavailableError, match=rf"gpu: no adapter 'voodoo'; use one of 0 '.*{gpu_device.info.name[:5]}"
    ):
        gpu.Device("voodoo")
    with pytest.raises(ArgumentError, match="Device: reduction is 'sum'; use 'auto', 'tree' or 'subgroup'"):
        gpu.Device(reduction="sum")
    with pytest.raises(ArgumentError, match="Device: timeout is -1; use seconds"):
        gpu.Device(timeout=-1.0)


def test_that_software_is_used_only_when_allowed(gpu_device, monkeypatch):
    monkeypatch.delenv("LOGITSCOPE_GPU_ADAPTER", raising=False)
    if gpu_device.info.kind != "software":
        pytest.skip("there is a real GPU")
    assert not gpu.available()
    with pytest.raises(GpuUnavailableError, match=r"there is only software .*; use allow_software=True"):
        gpu.Device()


def test_that_without_a_driver_the_gpu_is_unavailable_and_says_why():
    code = (
        "from logitscope import gpu\n"
        "assert not gpu.available(allow_software=True) and gpu.adapters() == []\n"
        "try: gpu.Device()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    without = os.environ | {"VK_DRIVER_FILES": "/nowhere.json", "VK_ICD_FILENAMES": "/nowhere.json"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=without, capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("GpuUnavailableError gpu: no adapter; install a Vulkan driver")


def test_that_tests_fail_without_a_gpu_where_one_is_demanded(monkeypatch):
    def unavailable(**_):
        message = "gpu: none"
        raise GpuUnavailableError(message)

    monkeypatch.setattr(gpu, "Device", unavailable)
    monkeypatch.setenv("LOGITSCOPE_REQUIRE_GPU", "1")
    with pytest.raises(pytest.fail.Exception, match="gpu: none"):
        open_device()
    monkeypatch.setenv("LOGITSCOPE_REQUIRE_GPU", "0")
    with pytest.raises(pytest.skip.Exception, match="gpu: none"):
        open_device()


def test_that_two_gigabytes_in_one_array_are_refused(gpu_device):
    limit = gpu_device.info.limits["buffer_bytes"]
    if limit > 1 << 31:
        pytest.skip(f"{gpu_device!r} holds {limit} bytes in one array")
    # Zeros that nobody has touched take no memory.
    with pytest.raises(GpuOutOfMemoryError, match=r"gpu: a tensor of 2147483648 bytes; .* holds at most"):
        GpuArray(np.zeros(1 << 29, np.float32), gpu_device)
    assert_computes(gpu_device)


def test_that_more_than_the_adapter_can_bind_is_worked_on_in_parts_of_rows(gpu_device):
    limit = gpu_device.info.limits["binding_bytes"]
    if limit > 1 << 28:
        pytest.skip(f"{gpu_device!r} can bind {limit} bytes")
    columns = 16_385
    x = np.zeros((limit // (4 * columns) + 12, columns), np.float32)
    x[:, 0] = np.linspace(0, 20, len(x))
    assert x.nbytes > limit
    y = logitscope.softmax(GpuArray(x, gpu_device)).numpy()
    assert_agree(y[:, :2], logitscope.softmax(x)[:, :2])
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-5)


def test_that_a_row_over_the_binding_limit_is_refused_and_the_device_goes_on():
    device = open_device(binding_bytes=4096)
    with pytest.raises(
        GpuOutOfMemoryError, match=r"gpu: a row of 8000 bytes; .* can bind \d+, so use shorter rows"
    ):
        logitscope.softmax(GpuArray(np.zeros((2, 2000), np.float32), device))
    with pytest.raises(MemoryError):
        logitscope.softmax(GpuArray(np.zeros((2000, 2), np.float32), device), 0)
    x = np.random.default_rng(0).standard_normal((2, 100, 30)).astype(np.float32)
    assert_agree(logitscope.softmax(GpuArray(x, device), 1).numpy(), logitscope.softmax(x, 1))
    assert_computes(device)


def test_that_a_device_that_takes_too_long_says_so_and_goes_on():
    device = open_device(timeout=0.0)
    device.native.multiply_adds(30_000_000_000)
    # Calls do not wait for what the device is at.
    late = logitscope.log_softmax(GpuArray(np.zeros(3, np.float32), device))
    with pytest.raises(GpuTimeoutError, match=r"has not answered for 0 s; give it less at once, or a longer"):
        late.numpy()
    assert issubclass(GpuTimeoutError, TimeoutError)
    patient = open_device()
    assert_computes(patient)
    for _ in range(600):
        try:
            device.finish()
            break
        except GpuTimeoutError:
            continue
    # The buffer that the late result was to be read through can be used again.
    np.testing.assert_allclose(late.numpy(), -np.log(3), rtol=1e-6)


def test_that_a_shader_that_does_not_compile_is_told_with_its_reason(gpu_device):
    with pytest.raises(GpuCompileError, match=r"gpu: shader wrong does not compile: [\s\S]*unknown_function"):
        gpu_device.native.try_compile(
            "wrong", "@compute @workgroup_size(1) fn main() { unknown_function(); }"
        )
    gpu_device.native.try_compile("right", "@compute @workgroup_size(1) fn main() { }")
    assert_computes(gpu_device)


def test_that_a_device_closed_in_the_middle_of_a_chain_is_lost_and_a_new_one_works():
    device = open_device()
    y = logitscope.softmax(logitscope.softmax(GpuArray(np.zeros((3, 5), np.float32), device)))
    device.close()
    for use in (
        y.numpy,
        device.finish,
        device.flush,
        device.check,
        lambda: logitscope.softmax(y),
        lambda: GpuArray(np.zeros(3, np.float32), device),
    ):
        with pytest.raises(
            GpuDeviceLostError, match=r"gpu: the device .* is lost \(it was closed\); open a new one"
        ):
            use()
    device.close()
    assert_computes(open_device())


def test_that_a_lost_default_device_is_replaced(gpu_device, monkeypatch):
    monkeypatch.setenv("LOGITSCOPE_GPU_ADAPTER", gpu_device.info.name)
    lost = gpu.default_device()
    lost.close()
    assert gpu.default_device() is not lost
    assert_computes(gpu.default_device())


def test_that_the_other_operations_name_the_way_to_the_cpu(gpu_device):
    x = GpuArray(np.zeros((1, 1, 2, 4), np.float32), gpu_device)
    with pytest.raises(DeviceError, match=r"softmax_stats: x is on a GPU; use x.numpy\(\)"):
        logitscope.softmax_stats(x)


def test_that_the_bench_names_what_it_measured_on(gpu_device, tmp_path, monkeypatch, capsys):
    from logitscope.__main__ import main

    monkeypatch.setenv("LOGITSCOPE_GPU_ADAPTER", gpu_device.info.name)
    assert main(["bench", "gpu", "--quick", "--sizes", "2x9", "--save", str(tmp_path)]) == 0
    assert f"measured on {gpu_device.info.name}" in capsys.readouterr().err
    (numbers,), (page,) = tmp_path.rglob("gpu.json"), tmp_path.rglob("gpu.md")
    assert json.loads(numbers.read_text())["device"].startswith(gpu_device.info.name)
    assert gpu_device.info.name in page.read_text()
