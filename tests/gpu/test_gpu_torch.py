"""CPU tensors that are sent to a GPU, with their gradients; the demo trained there."""

from __future__ import annotations

import numpy as np
import pytest

from logitscope.errors import ArgumentError, GpuUnavailableError

torch = pytest.importorskip("torch")

from logitscope import gpu  # noqa: E402 -- where there is torch
from logitscope.methods import find_method  # noqa: E402 -- where there is torch
from logitscope.nn import functional, linked_losses, loss  # noqa: E402 -- where there is torch


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


ROWS = ["softmax", "log_softmax", "sparsemax", "entmax15", "stablemax", "log_stablemax", "logsumexp"]


@pytest.mark.parametrize("name", ROWS)
def test_that_rows_and_their_gradient_agree_with_the_cpu(name):
    assert_same(getattr(functional, name), torch.randn(5, 33, 4), dim=1)


def test_that_options_of_rows_go_along():
    assert_same(functional.softmax, torch.randn(5, 33), temperature=0.7)
    assert_same(functional.logsumexp, torch.randn(5, 33), keepdim=True)


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


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_that_a_linear_layer_with_its_loss_agrees_with_the_cpu(reduction):
    targets = torch.tensor([0, 5, -100, 32, 7, 1])
    assert_same(
        lambda *tensors, **options: functional.linear_cross_entropy(
            *tensors[:2], targets, tensors[2], **options
        ),
        torch.randn(6, 9),
        torch.randn(33, 9),
        torch.randn(33),
        reduction=reduction,
        label_smoothing=0.1,
    )


def test_that_attention_and_its_gradients_agree_with_the_cpu():
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 5)
    assert_same(
        lambda *inputs, **options: functional.attention(*inputs, **options).out,
        q, k, v, is_causal=True, inv_temperature=0.5, softcap=2.0,
    )  # fmt: skip
    stats = ("entropy", "logits", "variance")
    found, expected = (
        functional.attention(q, k, v, stats=stats, map_bins=(2, 3), map_pooling="max", device=device)
        for device in ("gpu", "cpu")
    )
    for name in ("lse", "entropy", "map", "logit_count", "logit_mean", "logit_m2", "logit_std", "variance"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)


def test_that_the_other_forms_of_attention_agree_with_the_cpu():
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 5)
    mask = torch.rand(7, 9) > 0.3
    assert_same(
        functional.scaled_dot_product_attention, q, k, v, attn_mask=mask, is_causal=True, enable_gqa=True
    )
    assert_same(functional.scaled_dot_product_attention, *(x[0, :2] for x in (q, k, v)), scale=0.3)
    assert_same(
        lambda q, k, v, bias, **options: functional.sigmoid_attention(q, k, v, bias=bias, **options).out,
        q, k, v, torch.randn(4), is_causal=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", {**linked_losses.LOSS, **loss.LOSS})
def test_that_a_loss_as_a_module_agrees_with_the_cpu(name):
    module = find_method("loss", name)()

    def call(logits, device):
        module.device = device
        return module(logits, torch.tensor([0, 5, -100, 32, 7, 1]))

    with gpu.sending() as sent:
        assert_same(call, torch.randn(6, 33))
    assert sent == {"cross_entropy": 1}


def test_that_a_linear_loss_as_a_module_agrees_with_the_cpu():
    module = loss.LinearCrossEntropyLoss(label_smoothing=0.1)

    def call(input, weight, device):
        module.device = device
        return module(input, weight, torch.tensor([0, 5, -100, 32, 7, 1]))

    with gpu.sending() as sent:
        assert_same(call, torch.randn(6, 9), torch.randn(33, 9))
    assert sent == {"linear_cross_entropy": 1}


def test_that_everything_that_has_a_gradient_gets_it():
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 5)
    names = ("inv_temperature", "sinks", "bias", "alibi_slopes")
    assert_same(
        lambda q, k, v, *rest, **options: torch.cat(
            [
                (result := functional.attention(q, k, v, **dict(zip(names, rest, strict=True)), **options)).out,
                result.lse[..., None],
                result.entropy[..., None],
            ],
            -1,
        ),
        q, k, v, torch.rand(4, 1), torch.randn(4), torch.randn(4, 1, 9), torch.rand(4), stats=("entropy",),
    )  # fmt: skip
    assert_same(
        lambda q, k, v, bias, gate, **options: torch.cat(
            [
                (
                    result := functional.attention(
                        q, k, v, kind="sigmoid", sigmoid_bias=bias, value_gate=gate, **options
                    )
                ).out,
                result.lse[..., None],
            ],
            -1,
        ),
        q, k, v, torch.randn(4), torch.rand(2, 1, 9), dropout_p=0.25, seed=11,
    )  # fmt: skip


def test_that_dropout_without_a_seed_draws_one_for_both_passes():
    q = torch.randn(1, 1, 4, 4)
    v = torch.ones(1, 1, 64, 4, requires_grad=True)
    k = torch.zeros(1, 1, 64, 4)
    outs = [functional.attention(q, k, v, dropout_p=0.5, device="gpu").out for _ in range(2)]
    assert not torch.equal(*outs)
    # With equal weights the gradient of a value counts how many queries kept it, as the output does.
    (gradient,) = torch.autograd.grad(outs[0].sum(), v)
    torch.testing.assert_close(gradient.sum(), outs[0].sum())


def test_that_top_keys_agree_with_the_cpu():
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 5)
    found, expected = (functional.attention(q, k, v, top_keys=3, device=device) for device in ("gpu", "cpu"))
    torch.testing.assert_close(found.top_keys, expected.top_keys)
    torch.testing.assert_close(found.top_weights, expected.top_weights, rtol=1e-4, atol=1e-6)


def test_that_what_a_gpu_does_not_do_is_named():
    q, wide = torch.zeros(2, 4), torch.zeros(3, 4, requires_grad=True)
    with pytest.raises(ArgumentError, match="cross_entropy: weight requires a gradient on device 'gpu'"):
        functional.cross_entropy(
            q, torch.tensor([0, 1]), weight=torch.ones(4, requires_grad=True), device="gpu"
        )
    with pytest.raises(ArgumentError, match="softmax: device is 'tpu'; use 'cpu' or 'gpu'"):
        functional.softmax(q, device="tpu")
    with pytest.raises(ArgumentError, match="softmax: its gradient is to have a gradient on device 'gpu'"):
        torch.autograd.grad(functional.softmax(wide, device="gpu")[0, 0], wide, create_graph=True)


def test_that_results_have_the_type_that_came():
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        x = torch.randn(3, 5, dtype=dtype, requires_grad=True)
        y = functional.softmax(x, device="gpu")
        y.sum().backward()
        assert y.dtype == x.grad.dtype == dtype


def test_that_calls_within_a_block_are_sent_where_the_gpu_can_do_them():
    x, targets = torch.randn(3, 5, requires_grad=True), torch.tensor([0, 1, 2])
    with gpu.sending() as sent:
        of_rows = functional.cross_entropy(functional.softmax(x), targets)
        functional.softmax(x.double())
        functional.softmax(x, device="cpu")
        functional.topk_softmax(x, 2)
        q = torch.randn(1, 1, 2, 4)
        functional.attention(q, q, q, dropout_p=0.5)
    assert sent == {"softmax": 1, "cross_entropy": 1, "attention": 1}
    of_rows.backward()
    functional.softmax(x)
    assert sent["softmax"] == 1


def test_that_a_watched_step_runs_its_attention_there(tmp_path):
    from logitscope import record
    from logitscope.nn import GPT, GPTConfig

    model = GPT(GPTConfig(vocabulary=11, context=8, layers=2, heads=2, width=16))
    tokens = torch.arange(8)[None]
    path = tmp_path / "run.scope"
    with record.start("watched", path=path) as scope, scope.watch(model, maps_every=1) as watch:
        watch.step(0)
        with gpu.sending() as sent:
            model(tokens)
    # Each layer's output, and its map.
    assert sent["attention"] == 4
    with record.RunReader(path) as run:
        names = {tag.name for tag in run.tags()}
    assert {"attention/max_logit/layer1", "attention/map"} <= names


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


@pytest.mark.parametrize(("name", "where"), [("focal", "gpu"), ("margin", None)])
def test_that_the_demo_sends_a_loss_that_a_gpu_has_and_leaves_others(name, where):
    from logitscope.data import topics
    from logitscope.demo.learner import Learner
    from logitscope.demo.settings import Settings

    losses = {}
    for device in ("cpu", "gpu"):
        settings = Settings(layers=1, heads=2, width=16, context=8, batch=2, device=device, loss=name)
        learner = Learner(settings, topics(), attention="softmax")
        losses[device] = learner.step(1e-3, 1.0)
    np.testing.assert_allclose(losses["gpu"], losses["cpu"], rtol=1e-4)
    assert getattr(learner.loss, "device", None) == where


def test_that_the_demo_without_a_gpu_ends_in_a_line(monkeypatch, capsys):
    from logitscope import gpu
    from logitscope.__main__ import main

    def unavailable():
        message = "gpu: no adapter"
        raise GpuUnavailableError(message)

    monkeypatch.setattr(gpu, "default_device", unavailable)
    assert main(["demo", "--device", "gpu", "--steps", "1"]) == 2
    assert capsys.readouterr().err == "logitscope demo: gpu: no adapter\n"
