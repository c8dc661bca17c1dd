"""Binary cross entropy of logits and the penalty on logsumexp."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.loss import binary_cross_entropy_with_logits, cross_entropy, logsumexp_penalty
from row_oracles import SIZES, assert_relative, logsumexp, normal

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_losses_and_gradients_agree_with_float64(isa, size, dtype):
    logits, rng = normal((3, size), dtype, 8.0), np.random.default_rng(0)
    targets = rng.random((3, size)).astype(dtype)
    targets[0] = rng.integers(0, 2, size)
    weight = rng.uniform(0.5, 4.0, size).astype(dtype)
    got, gradient = binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weight, reduction="none", return_grad=True
    )
    assert isa in logitscope.last_kernel()
    z, t, w = (np.asarray(x, np.float64) for x in (logits, targets, weight))
    wanted = (1 - t) * np.logaddexp(0, z) + w * t * np.logaddexp(0, -z)
    limit = 1e-6 if dtype is np.float32 else 1e-13
    assert_relative(got, wanted, limit)
    assert_relative(gradient, (1 - t) / (1 + np.exp(-z)) - w * t / (1 + np.exp(z)), 2 * limit, limit)


def test_a_confident_logit_keeps_its_digits(isa):
    logits, targets = np.float32([40, -40, 80]), np.float32([1, 0, 1])
    loss, gradient = binary_cross_entropy_with_logits(logits, targets, reduction="none", return_grad=True)
    u = np.exp(-np.abs(np.float64(logits)))
    assert_relative(loss, u, 1e-6)
    assert_relative(gradient, [-u[0], u[1], -u[2]], 1e-6)


def test_infinite_logits_cost_nothing_where_they_are_right(isa):
    loss, gradient = binary_cross_entropy_with_logits(
        np.float32([INF, -INF, INF, -INF, NAN]),
        np.float32([1, 0, 0, 1, 1]),
        reduction="none",
        return_grad=True,
    )
    np.testing.assert_array_equal(loss, [0, 0, INF, INF, NAN])
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1, NAN])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_it_means_what_torchs_does(reduction):
    torch = pytest.importorskip("torch")
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    targets, weight = (
        torch.rand(4, 3, dtype=torch.float64),
        torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64),
    )
    loss = binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction=reduction)
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weight, reduction=reduction
    )
    torch.testing.assert_close(loss, theirs)
    upstream = torch.randn_like(loss)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits, upstream), torch.autograd.grad(theirs, logits, upstream)
    )


def test_any_number_of_threads_and_no_elements():
    logits, targets = normal((3000, 67), np.float32), np.ones((3000, 67), np.float32)
    results = set()
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        loss, gradient = binary_cross_entropy_with_logits(logits, targets, return_grad=True)
        results.add((loss.tobytes(), gradient.tobytes()))
    logitscope.set_num_threads(None)
    assert len(results) == 1
    assert np.isnan(binary_cross_entropy_with_logits(logits[:0], targets[:0]))
    assert binary_cross_entropy_with_logits(logits[:0], targets[:0], reduction="sum") == 0
    assert binary_cross_entropy_with_logits(np.array(0.0), np.array(1.0)) == pytest.approx(np.log(2))
    strided = binary_cross_entropy_with_logits(logits[:, ::2], targets[:, ::2])
    assert strided == binary_cross_entropy_with_logits(logits[:, ::2].copy(), targets[:, ::2].copy())


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_penalty_is_the_one_of_cross_entropy(isa, dtype, reduction):
    logits, targets = normal((6, 67), dtype, 3.0), np.arange(6)
    penalty, gradient = logsumexp_penalty(logits, 0.3, reduction=reduction, return_grad=True)
    with_penalty, whole = cross_entropy(
        logits, targets, reduction=reduction, lse_square_scale=0.3, return_grad=True
    )
    without, part = cross_entropy(logits, targets, reduction=reduction, return_grad=True)
    limit = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(penalty, with_penalty - without, rtol=limit)
    np.testing.assert_allclose(gradient, whole - part, rtol=limit, atol=limit)
    lse = 0.3 * logsumexp(logits) ** 2
    wanted = {"mean": lse.mean(), "sum": lse.sum(), "none": lse}[reduction]
    np.testing.assert_allclose(penalty, wanted, rtol=limit)


def test_the_penalty_gives_tensors_their_gradient():
    torch = pytest.importorskip("torch")
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    for reduction in ("mean", "sum", "none"):
        assert torch.autograd.gradcheck(lambda x: logsumexp_penalty(x, 0.3, reduction=reduction), logits)  # noqa: B023


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    logits, targets = np.zeros((2, 3)), np.zeros((2, 3))
    of = "^binary_cross_entropy_with_logits: "
    with pytest.raises(ShapeError, match=of + r"targets has shape \(2,\); use \(2, 3\)$"):
        binary_cross_entropy_with_logits(logits, np.zeros(2))
    with pytest.raises(DTypeError, match=of + "targets has dtype float32; use float64$"):
        binary_cross_entropy_with_logits(logits, np.zeros((2, 3), np.float32))
    with pytest.raises(ShapeError, match=of + r"pos_weight has shape \(2,\); use a number or \(3,\)$"):
        binary_cross_entropy_with_logits(logits, targets, pos_weight=np.ones(2))
    with pytest.raises(ArgumentError, match=of + "pos_weight is -1.0; use numbers of at least 0$"):
        binary_cross_entropy_with_logits(logits, targets, pos_weight=-1.0)
    with pytest.raises(ArgumentError, match=of + "reduction is 'max'; use 'mean', 'sum' or 'none'$"):
        binary_cross_entropy_with_logits(logits, targets, reduction="max")
    with pytest.raises(
        ArgumentError, match=r"^logsumexp_penalty: scale is -1; use a finite number, at least 0$"
    ):
        logsumexp_penalty(logits, -1)
    with pytest.raises(ArgumentError, match=r"^logsumexp_penalty: reduction is 'max'; use"):
        logsumexp_penalty(logits, reduction="max")
