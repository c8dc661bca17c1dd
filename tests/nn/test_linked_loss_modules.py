"""The losses of the target's probability as modules: the functions' values, for classes in dimension 1."""

import pytest
import torch

from logitscope import loss, nn
from logitscope.errors import ArgumentError, TargetError

MODULES = {
    "comp_sum": (nn.CompSumLoss(1.7), loss.comp_sum_loss, {"tau": 1.7}),
    "gce": (nn.GeneralizedCrossEntropy(0.4), loss.generalized_cross_entropy, {"q": 0.4}),
    "truncated": (nn.GeneralizedCrossEntropy(k=0.3), loss.generalized_cross_entropy, {"k": 0.3}),
    "focal": (nn.FocalLoss(1.5), loss.focal_loss, {"gamma": 1.5}),
    "poly": (nn.PolyLoss(-0.5), loss.poly_loss, {"epsilon": -0.5}),
    "symmetric": (
        nn.SymmetricCrossEntropy(0.3, 2.0, -3.0),
        loss.symmetric_cross_entropy,
        {"a": 0.3, "b": 2, "log_zero": -3},
    ),
}
names = pytest.mark.parametrize("name", MODULES)


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


@names
def test_that_values_and_gradients_are_those_of_the_functions(name: str) -> None:
    module, function, parameters = MODULES[name]
    logits, targets = torch.randn(4, 5, 6, dtype=torch.float64), torch.randint(0, 5, (4, 6))
    moved = logits.movedim(1, -1).clone().requires_grad_()
    logits.requires_grad_()
    got, wanted = module(logits, targets), function(moved, targets, **parameters)
    torch.testing.assert_close(got, wanted)
    (gradient,) = torch.autograd.grad(got, logits)
    torch.testing.assert_close(gradient.movedim(1, -1), torch.autograd.grad(wanted, moved)[0])
    assert torch.autograd.gradgradcheck(lambda x: module(x, targets), logits)


@names
def test_that_weights_ignored_rows_and_reductions_count(name: str) -> None:
    kind, function, parameters = type(MODULES[name][0]), *MODULES[name][1:]
    logits, targets, weight = torch.randn(7, 5), torch.tensor([0, 1, 2, 3, 4, -1, -1]), torch.rand(5)
    for reduction in ("mean", "sum", "none"):
        module = kind(**parameters, weight=weight, ignore_index=-1, reduction=reduction)
        wanted = function(logits, targets, **parameters, weight=weight, ignore_index=-1, reduction=reduction)
        torch.testing.assert_close(module(logits, targets), wanted)
    assert list(module.state_dict()) == ["weight"]
    empty = kind(**parameters, empty="zero", ignore_index=0)
    assert empty(logits, torch.zeros(7, dtype=torch.int64)) == 0


def test_that_comp_sum_smooths_labels() -> None:
    logits, targets = torch.randn(7, 5), torch.randint(0, 5, (7,))
    got = nn.CompSumLoss(0.5, label_smoothing=0.1)(logits, targets)
    torch.testing.assert_close(got, loss.comp_sum_loss(logits, targets, 0.5, label_smoothing=0.1))


def test_that_modules_show_what_they_are_and_refuse_what_they_cannot() -> None:
    assert "link='comp_sum', link_params={'tau': 2.0}" in repr(nn.CompSumLoss(2.0))
    with pytest.raises(ArgumentError, match=r"^cross_entropy: tau is -1.0; use "):
        nn.CompSumLoss(-1.0)(torch.zeros(1, 3), torch.tensor([0]))
    with pytest.raises(TargetError, match=r"target 3 in row 1 is no class"):
        nn.FocalLoss()(torch.zeros(2, 3), torch.tensor([0, 3]))
