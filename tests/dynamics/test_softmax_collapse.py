"""Softmax collapse: thresholds of each precision, what counts, and the loss that does not collapse."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import logitscope
from logitscope import dynamics, loss, nn
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError

PRECISIONS = ("float64", "float32", "float16", "bfloat16")
MARGINS = {"float64": 36.74, "float32": 16.64, "float16": 7.62, "bfloat16": 5.55}


def collapsed(logits, targets, precision="float32"):
    return dynamics.softmax_collapse(np.float64(logits), np.array(targets), precision).per_sample.tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_that_each_precision_collapses_at_its_margin(precision):
    margin = MARGINS[precision]
    assert collapsed([[margin - 0.01, 0]], [0], precision) == [False]
    assert collapsed([[margin + 0.01, 0]], [0], precision) == [True]


def test_that_the_figures_of_float32_are_those_of_the_paper():
    assert collapsed([[16.0, 0], [16.7, 0]], [0, 0]) == [False, True]
    z = torch.tensor([[40.0, 0, 0]], requires_grad=True)
    found = dynamics.softmax_collapse(z, torch.tensor([0]))
    assert (found.frac_sc, found.frac_zero_loss, found.frac_zero_target_grad) == (1, 1, 1)
    assert found.margin.item() == pytest.approx(40 - np.log(2))
    value = nn.CrossEntropyLoss(complement=False)(z, torch.tensor([0]))
    value.backward()
    assert value == 0
    assert z.grad[0, 0] == 0
    stable, gradient = loss.stablemax_cross_entropy(z.detach().numpy(), np.array([0]), return_grad=True)
    assert stable == pytest.approx(np.log(43 / 41), rel=1e-6)
    np.testing.assert_allclose(gradient[0, 0], -(2 / 43) / 41, rtol=1e-6)
    assert loss.cross_entropy(z.detach().numpy(), np.array([0])) > 0  # the complement form has no absorption


def test_that_a_coarser_precision_finds_what_a_finer_one_finds():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 7)) * rng.uniform(0, 40, size=(4000, 1))
    found = [np.array(collapsed(logits, logits.argmax(1), precision)) for precision in PRECISIONS]
    for finer, coarser in pairwise(found):
        assert (finer <= coarser).all()
        assert finer.sum() < coarser.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_that_what_is_found_is_where_the_kernel_loses_the_loss(dtype):
    rng = np.random.default_rng(1)
    logits = (rng.normal(size=(3000, 5)) * rng.uniform(0, 80, size=(3000, 1))).astype(dtype)
    targets = rng.integers(0, 5, 3000)
    found = dynamics.softmax_collapse(logits, targets, np.dtype(dtype).name).per_sample
    plain = loss.cross_entropy(logits, targets, reduction="none", complement=False)
    assert 100 < found.sum() < 2900
    assert (np.asarray(plain == 0) != found).mean() < 2e-3  # in a last bit, sums may be in another order


def test_that_collapse_asks_for_the_target_to_be_the_largest():
    found = dynamics.softmax_collapse(np.array([[50.0, 0], [50.0, 0], [0, 0]]), np.array([0, 1, 0]))
    assert found.per_sample.tolist() == [True, False, False]
    assert found.frac_sc == found.frac_zero_loss == found.frac_zero_target_grad == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.margin, [50, -50, 0])
    assert dynamics.softmax_collapse(np.array([[50.0, 0], [0, 50]])).frac_sc == 1


def test_that_nan_and_infinities_are_never_collapsed():
    logits = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf] * 3, [3, -np.inf, -np.inf]])
    found = dynamics.softmax_collapse(logits, np.zeros(4, int))
    assert found.per_sample.tolist() == [False, False, False, True]
    assert found.frac_zero_loss == 0.25
    assert np.isnan(loss.cross_entropy(logits[0], np.array(0), complement=False))


def test_that_ignored_rows_do_not_count():
    logits = np.array([[[50.0, 0], [50, 0]], [[1, 0], [50, 0]]], np.float32)
    found = dynamics.softmax_collapse(logits, np.array([[0, -100], [0, 0]]))
    assert found.frac_sc == pytest.approx(2 / 3)
    assert found.per_sample.tolist() == [[True, False], [False, True]]
    assert np.isnan(found.margin[0, 1])
    with pytest.warns(RuntimeWarning, match="^softmax_collapse: no row counts"):
        nothing = dynamics.softmax_collapse(logits[0], np.array([-1, -1]), ignore_index=-1)
    assert np.isnan([nothing.frac_sc, nothing.frac_zero_loss, nothing.frac_zero_target_grad]).all()


def test_that_16_bit_logits_and_tensors_are_taken():
    logits = torch.tensor([[20.0, 0], [1, 0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        found = dynamics.softmax_collapse(logits.to(dtype), torch.tensor([0, 0]))
        assert found.per_sample.tolist() == [True, False]
        assert isinstance(found.margin, torch.Tensor)


def test_that_wrong_input_is_refused():
    with pytest.raises(TargetError, match=r"^softmax_collapse: target 2 in row 1 is no class; use 0..1$"):
        dynamics.softmax_collapse(np.zeros((2, 2)), np.array([0, 2]))
    with pytest.raises(DTypeError, match=r"^softmax_collapse: logits has dtype int64; use float32"):
        dynamics.softmax_collapse(np.zeros((2, 2), int), np.array([0, 1]))
    with pytest.raises(DTypeError, match=r"^logit_scale: targets has dtype float64; use integers$"):
        dynamics.logit_scale(np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(ShapeError, match=r"^softmax_collapse: targets has shape \(3,\); use \(2,\)$"):
        dynamics.softmax_collapse(np.zeros((2, 2)), np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"^softmax_collapse: logits has shape \(2, 0\); use"):
        dynamics.softmax_collapse(np.zeros((2, 0)), np.zeros(2, int))
    with pytest.raises(ArgumentError, match=r"^softmax_collapse: accum_dtype is 'f8'; use float64, float32"):
        dynamics.softmax_collapse(np.zeros((2, 2)), np.zeros(2, int), "f8")


def test_that_the_scale_of_logits_is_measured():
    scale = dynamics.logit_scale(np.array([[3.0, -1], [0, 0]], np.float32), np.array([1, 0]))
    assert (scale.rms, scale.max, scale.mean_margin) == pytest.approx((np.sqrt(10 / 4), 3.0, -2.0))
    assert np.isnan(dynamics.logit_scale(np.zeros((2, 3)), np.array([-100, -100])).rms)


def test_that_stablemax_is_the_softmax_of_a_signed_logarithm():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(50, 9)) * 30
    z[0] = 0
    p = logitscope.stablemax(z)
    np.testing.assert_allclose(p, logitscope.softmax(np.sign(z) * np.log1p(np.abs(z))), atol=1e-12)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    targets = rng.integers(0, 9, 50)
    _, gradient = loss.stablemax_cross_entropy(z, targets, reduction="sum", return_grad=True)
    np.testing.assert_allclose(gradient, (p - np.eye(9)[targets]) / (1 + np.abs(z)), atol=1e-12)
    tensor = torch.from_numpy(z).requires_grad_()
    signed = torch.where(tensor < 0, -torch.log1p(-tensor), torch.log1p(tensor))
    torch.nn.functional.cross_entropy(signed, torch.from_numpy(targets), reduction="sum").backward()
    np.testing.assert_allclose(gradient, tensor.grad, atol=1e-9)
