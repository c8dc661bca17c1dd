"""CPU tensors that are sent to a GPU, with their gradients; the demo trained there."""

from __future__ import annotations

import numpy as np
import pytest

from logitscope.errors import ArgumentError, GpuUnavailableError

torch = pytest.importorskip("torch")

from logitscope.nn import functional  # noqa: E402 -- where there is torch


@pytest.fixture(autouse=True)
def _use_the_gpu_of_the_tests(gpu_device, monkeypatch):
    monkeypatch.setenv("LOGITSCOPE_GPU_ADAPTER", gpu_device.info.name)


def both(function, *tensors, **options):
    """Results and gradients on the CPU and on the GPU."""
    for device in ("cpu", "gpu"):
        inputs = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        out = function(*inputs, device=device, **options)
        (out * torch.arange(1.0, out.numel() + 1).reshape(out.shape)).sum().backward()
        yield [out.detach(), *(tensor.grad for tensor in inputs)]


def assert_same(function, *tensors, **options):
    for expected, found in zip(*both(function, *tensors, **options), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_that_softmax_and_its_gradient_agree_with_the_cpu():
    assert_same(functional.softmax, torch.randn(5, 33, 4), dim=1, temperature=0.7)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_that_cross_entropy_and_its_gradient_agree_with_the_cpu(reduction):
    logits, targets = torch.randn(6, 33), torch.tensor([0, 5, -100, 32, 7, 1])
    assert_same(
        lambda x, **options: functional.cross_entropy(x, targets, **options),
        logits,
        reduction=reduction,
        label_smoothing=0.1,
        weight=torch.rand(33),
    )


def test_that_attention_and_its_gradients_agree_with_the_cpu():
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 5)
    assert_same(
        lambda *inputs, **options: functional.attention(*inputs, **options).out,
        q, k, v, is_causal=True, inv_temperature=0.5, softcap=2.0,
    )  # fmt: skip
    found, expected = (
        functional.attention(q, k, v, stats=("entropy",), map_bins=(2, 3), device=device)
        for device in ("gpu", "cpu")
    )
    for name in ("lse", "entropy", "map"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_that_what_a_gpu_does_not_do_is_named():
    q = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ArgumentError, match="attention: sinks requires a gradient on device 'gpu'"):
        functional.attention(q, q, q, sinks=torch.zeros(1, requires_grad=True), device="gpu")
    with pytest.raises(ArgumentError, match="softmax: device is 'tpu'; use 'cpu' or 'gpu'"):
        functional.softmax(q, device="tpu")


def test_that_a_training_of_50_steps_has_the_losses_of_the_cpu():
    from logitscope.data import topics
    from logitscope.demo.learner import Learner
    from logitscope.demo.settings import Settings

    losses = {}
    for device in ("cpu", "gpu"):
        settings = Settings(steps=50, layers=2, heads=2, width=32, context=24, batch=4, device=device)
        learner = Learner(settings, topics(), attention="softmax")
        losses[device] = [learner.step(settings.learning_rate(step), 1.0) for step in range(settings.steps)]
    np.testing.assert_allclose(losses["gpu"], losses["cpu"], rtol=0, atol=1e-3)
    assert losses["gpu"][-1] < losses["gpu"][0]


def test_that_the_demo_without_a_gpu_ends_in_a_line(monkeypatch, capsys):
    from logitscope import gpu
    from logitscope.__main__ import main

    def unavailable():
        message = "gpu: no adapter"
        raise GpuUnavailableError(message)

    monkeypatch.setattr(gpu, "default_device", unavailable)
    assert main(["demo", "--device", "gpu", "--steps", "1"]) == 2
    assert capsys.readouterr().err == "logitscope demo: gpu: no adapter\n"
