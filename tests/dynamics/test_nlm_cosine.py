"""How far a step only scales the weights."""

import math

import pytest
import torch
from torch import nn

from logitscope.dynamics import nlm_cosine
from logitscope.errors import ArgumentError
from logitscope.nn import CrossEntropyLoss


def relu_net(seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(6, 20, bias=False), nn.ReLU(), nn.Linear(20, 20, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(20, 4, bias=False)).double()


def test_that_every_layer_of_a_relu_net_has_the_same_product_of_weights_and_gradient():
    model, x, y = relu_net(), torch.randn(30, 6).double(), torch.randint(0, 4, (30,))
    logits = model(x)
    logits.retain_grad()
    CrossEntropyLoss()(logits, y).backward()
    products = [(w.detach() * w.grad).sum().item() for w in model.parameters()]
    assert products == pytest.approx([(logits * logits.grad).sum().item()] * 3, rel=1e-5)  # Euler
    cosines = nlm_cosine(model)
    assert list(cosines) == ["total", "0.weight", "2.weight", "4.weight"]
    for product, (name, w) in zip(products, model.named_parameters(), strict=True):
        assert cosines[name] == pytest.approx(-product / (w.norm() * w.grad.norm()).item())
    weights = list(model.parameters())
    sides = weights, [w.grad for w in weights]
    flat = [torch.cat([t.detach().flatten() for t in side]) for side in sides]
    assert cosines["total"] == pytest.approx(-nn.functional.cosine_similarity(*flat, dim=0).item())


def test_that_a_step_along_the_weights_has_cosine_one():
    w, v, without = (torch.randn(3, requires_grad=True) for _ in range(3))
    w.grad, v.grad = -2 * w.detach(), 5 * v.detach()
    assert nlm_cosine([w, v, without]) == {
        "total": pytest.approx(nlm_cosine([("a", w), ("b", v)])["total"]),
        "0": pytest.approx(1),
        "1": pytest.approx(-1),
    }


def test_that_nothing_is_no_number_and_no_gradient_an_error():
    w = torch.zeros(3, requires_grad=True)
    w.grad = torch.ones(3)
    assert math.isnan(nlm_cosine([w])["total"])
    with pytest.raises(
        ArgumentError, match=r"^nlm_cosine: no parameter has a gradient; call it after backward"
    ):
        nlm_cosine(relu_net())
