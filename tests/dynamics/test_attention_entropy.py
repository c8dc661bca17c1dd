"""Entropy of heads and what it is sorted into; what a model would cost under encryption."""

import numpy as np
import pytest
import torch

from logitscope import dynamics, nn
from logitscope.errors import ArgumentError


def test_that_the_probe_measures_shares_of_the_largest_entropy():
    torch.manual_seed(0)
    model = nn.GPT(
        nn.GPTConfig(vocabulary=7, context=10, layers=2, heads=2, width=16, attention="entropy_guided")
    )
    with dynamics.AttentionEntropyProbe(model) as probe:
        model(torch.randint(0, 7, (3, 10)))
    counts = torch.arange(2, 11)
    for layer, attention in enumerate(model.attentions):
        wanted = (attention.entropy[..., 1:] / counts.log()).mean((0, 2))
        np.testing.assert_allclose(probe.entropy[layer], wanted.detach().numpy(), rtol=1e-5)


def test_that_heads_are_sorted_into_quarters():
    report = dynamics.entropy_report(np.array([[0.0, 0.24, 0.25, 0.5], [0.74, 0.75, 1.0, np.nan]]))
    np.testing.assert_allclose(report.bins, np.array([2, 1, 2, 2]) / 7)
    assert report.overloaded == pytest.approx(2 / 7)
    assert report.collapsed == pytest.approx(2 / 7)
    np.testing.assert_allclose(report.by_layer, [0.2475, 0.83])
    nats = dynamics.entropy_report(np.log([[2.0, 16.0]]), emax=np.log(16))
    assert nats.bins.tolist() == [0, 0.5, 0, 0.5]
    nothing = dynamics.entropy_report(np.full((1, 2), np.nan))
    assert np.isnan(nothing.overloaded)
    assert np.isnan(nothing.by_layer).all()
    with pytest.raises(ArgumentError, match=r"^entropy_report: entropy has shape \(3,\); use \(L, H\)$"):
        dynamics.entropy_report(np.zeros(3))
    with pytest.raises(ArgumentError, match=r"^entropy_report: emax is 0; use a positive number$"):
        dynamics.entropy_report(np.zeros((1, 1)), emax=0)


def test_that_counts_are_those_of_the_paper():
    gpt2 = nn.GPTConfig(vocabulary=50257, context=128, layers=12, heads=12, width=768)
    whole = dynamics.private_inference_cost(gpt2)
    fused = dynamics.private_inference_cost(gpt2, layer_norm=False, activation=False, network="fused")
    assert round(whole.network_flops / 1e9, 1) == 14.5
    assert round(fused.network_flops / 1e9, 1) == 1.8
    assert (whole.layer_norm, whole.activation) == (2 * 12 * 128 * 768, 12 * 128 * 3072)
    assert (fused.layer_norm, fused.activation) == (0, 0)
    assert whole.gigabytes is None
    table = {"softmax": (1000.0, 1e-6), "layer_norm": (10.0, 0.0)}
    priced = dynamics.private_inference_cost(gpt2, table)
    assert priced.gigabytes == pytest.approx((1000 * priced.softmax + 10 * priced.layer_norm) / 1e9)
    assert priced.seconds == pytest.approx(1e-6 * priced.softmax)
    with pytest.raises(
        ArgumentError, match=r"^private_inference_cost: table has \['gelu'\]; use names of softmax"
    ):
        dynamics.private_inference_cost(gpt2, {"gelu": (1.0, 1.0)})
