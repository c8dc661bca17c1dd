"""Cross entropy: values, gradients, layouts and bad input; the edges are in test_numerical_rules.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.loss import LossStats, cross_entropy, cross_entropy_backward
from row_oracles import SIZES, assert_relative, logsumexp, normal
from row_oracles import cross_entropy as oracle

INF, NAN = np.inf, np.nan
REDUCTIONS = ["mean", "sum", "none"]


def row(logits, target, **options):
    """Loss and gradient of one row of float32."""
    return cross_entropy(np.float32(logits), np.array(target), return_grad=True, reduction="sum", **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_losses_gradients_and_statistics_agree_with_float64(isa, size, dtype):
    rng = np.random.default_rng(0)
    limit = 1e-6 if dtype is np.float32 else 2e-13
    for deviation in (1.0, 15.0):
        logits, targets = normal((5, size), dtype, deviation), rng.integers(0, size, 5)
        targets[:2] = 0, size - 1
        losses, gradient, stats = cross_entropy(
            logits, targets, reduction="none", return_grad=True, return_stats=True
        )
        assert isa in logitscope.last_kernel()
        wanted, wanted_gradient = oracle(logits, targets)
        assert losses.dtype == gradient.dtype == dtype
        assert_relative(losses, wanted, limit, 1e-37)
        assert_relative(gradient, wanted_gradient, limit, 1e-37)
        assert isinstance(stats, LossStats)
        assert_relative(stats.lse, logsumexp(logits), limit, limit)
        np.testing.assert_array_equal(stats.argmax, logits.argmax(-1))
        np.testing.assert_array_equal(stats.v, losses)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_divide_by_the_rows_that_count(reduction):
    logits, targets = normal((6, 9), np.float64), np.array([1, -100, 3, 8, -100, 0])
    live = targets != -100
    loss, gradient = cross_entropy(logits, targets, reduction=reduction, return_grad=True)
    wanted, wanted_gradient = oracle(logits, np.where(live, targets, 0))
    wanted, wanted_gradient = wanted * live, wanted_gradient * live[:, None]
    if reduction == "mean":
        wanted, wanted_gradient = wanted.sum() / 4, wanted_gradient / 4
    elif reduction == "sum":
        wanted = wanted.sum()
    np.testing.assert_allclose(loss, wanted, rtol=1e-13)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_gradient_agrees_with_finite_differences(reduction):
    logits, targets = normal((3, 4), np.float64), np.array([1, -100, 3])
    dloss = np.array([0.5, 7.0, -2.0]) if reduction == "none" else np.array(-1.5)
    gradient = cross_entropy_backward(dloss, logits, targets, reduction=reduction)
    step = 1e-6
    for index in np.ndindex(logits.shape):
        moved = np.zeros_like(logits)
        moved[index] = step
        above, below = (
            cross_entropy(x, targets, reduction=reduction) for x in (logits + moved, logits - moved)
        )
        assert abs(((above - below) / (2 * step) * dloss).sum() - gradient[index]) < 1e-8


@pytest.mark.parametrize("gap", [10, 16, 17, 20, 40, 80])
def test_confident_rows_keep_their_digits(isa, gap):
    loss, gradient = row([gap, 0], 0)
    assert loss > 0
    assert_relative(loss, np.log1p(np.exp(-gap)), 3e-7)
    p = np.exp(-gap) / (1 + np.exp(-gap))
    assert_relative(gradient, [-p, p], 4e-7)


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e7])
def test_a_common_offset_changes_no_loss(offset):
    loss, _ = row(np.float32([offset, offset + 1]), 0)
    assert_relative(loss, np.log1p(np.e), 2e-7)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-100, 100, width=32)
    ),
    st.data(),
)
def test_losses_are_not_negative_and_gradients_of_a_row_sum_to_zero(logits, data):
    targets = np.array([data.draw(st.integers(0, logits.shape[1] - 1)) for _ in logits])
    losses, gradient = cross_entropy(logits, targets, reduction="none", return_grad=True)
    assert (losses >= 0).all()
    assert np.abs(gradient.sum(-1, dtype=np.float64)).max() <= 1e-6
    # Of each other class e^d is 0 below 2^-125.5.
    assert_relative(losses, oracle(logits, targets)[0], 1e-6, 1.7e-38 * logits.shape[1])


def test_any_number_of_threads_gives_the_same_bits():
    logits, targets = normal((4000, 129), np.float32), np.arange(4000) % 129
    results = set()
    for threads in (1, 2, 3, 8):
        logitscope.set_num_threads(threads)
        loss, gradient = cross_entropy(logits, targets, return_grad=True)
        results.add((loss.tobytes(), gradient.tobytes()))
    logitscope.set_num_threads(None)
    assert len(results) == 1


def test_many_classes_in_one_row():
    logits = normal((1, 300_000), np.float32, 3.0)
    loss, gradient, stats = cross_entropy(logits, np.array([299_999]), return_grad=True, return_stats=True)
    wanted, wanted_gradient = oracle(logits, np.array([299_999]))
    assert_relative(loss, wanted[0], 1e-6)
    assert_relative(gradient, wanted_gradient, 1e-6)
    assert stats.argmax[0] == logits.argmax()


def test_the_first_of_equal_maxima_is_the_argmax():
    logits = np.zeros((1, 1000), np.float32)
    logits[0, [300, 301, 900]] = 1
    assert cross_entropy(logits, np.array([0]), return_stats=True)[1].argmax[0] == 300


def test_any_leading_shape_and_any_strides():
    whole = normal((2, 3, 5, 14), np.float32)
    for logits in (
        whole,
        whole[:, :, 1:],
        whole[..., ::2],
        whole.transpose(2, 0, 1, 3),
        whole[::-1],
        whole[0, 0, 0],
        whole[None, None],
    ):
        targets = np.arange(logits[..., 0].size).reshape(logits.shape[:-1]) % logits.shape[-1]
        losses, gradient = cross_entropy(logits, targets, reduction="none", return_grad=True)
        wanted, wanted_gradient = oracle(logits.reshape(-1, logits.shape[-1]), targets.ravel())
        assert_relative(losses, wanted.reshape(targets.shape), 1e-6)
        assert_relative(gradient, wanted_gradient.reshape(logits.shape), 1e-6)


def test_read_only_logits_are_read():
    logits = normal((4, 5), np.float32)
    logits.flags.writeable = False
    assert np.isfinite(cross_entropy(logits, np.arange(4)))


def test_torch_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    logits, targets = torch.randn(7, 11), torch.randint(0, 11, (7,))
    loss, gradient, stats = cross_entropy(logits, targets, return_grad=True, return_stats=True)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, targets))
    assert gradient.shape == logits.shape
    assert torch.equal(stats.argmax, logits.argmax(-1))
    torch.testing.assert_close(stats.lse, logits.logsumexp(-1))


def test_a_tensor_that_requires_a_gradient_gets_one():
    torch = pytest.importorskip("torch")
    logits = torch.randn(4, 3, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 6, (4, 3))
    targets[2, 1] = -100
    for reduction in REDUCTIONS:
        loss, stats = cross_entropy(logits, targets, reduction=reduction, return_stats=True)
        dloss = torch.randn_like(loss)
        (gradient,) = torch.autograd.grad(loss, logits, dloss)
        wanted = cross_entropy_backward(dloss, logits.detach(), targets, reduction=reduction)
        torch.testing.assert_close(gradient, wanted)
        torch.testing.assert_close(stats.lse, logits.detach().logsumexp(-1))
    ignored = torch.full_like(targets, -100)
    loss = cross_entropy(logits, ignored, empty="zero")
    assert loss == 0
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()
    assert torch.isnan(cross_entropy(logits, ignored))


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    logits, targets = np.zeros((2, 3)), np.zeros(2, int)
    with pytest.raises(ShapeError, match=r"^cross_entropy: targets has shape \(3,\); use \(2,\)$"):
        cross_entropy(logits, np.zeros(3, int))
    with pytest.raises(
        ShapeError,
        match=r"^cross_entropy: targets has shape \(2,\); use integers of shape \(2,\), or \(2, 3\) for soft",
    ):
        cross_entropy(logits, np.zeros(2))
    with pytest.raises(
        DTypeError, match=r"^cross_entropy: targets has dtype float32; use float64, or integers for classes$"
    ):
        cross_entropy(logits, np.zeros((2, 3), np.float32))
    with pytest.raises(DTypeError, match=r"^cross_entropy: targets has dtype bool; use integers$"):
        cross_entropy(logits, np.zeros(2, bool))
    with pytest.raises(
        ArgumentError, match=r"^cross_entropy: reduction is 'max'; use 'mean', 'sum' or 'none'$"
    ):
        cross_entropy(logits, targets, reduction="max")
    with pytest.raises(ArgumentError, match=r"^cross_entropy: empty is 'skip'; use 'nan' or 'zero'$"):
        cross_entropy(logits, targets, empty="skip")
    with pytest.raises(
        ShapeError, match=r"^cross_entropy_backward: dloss has shape \(2,\); use \(\) for reduction 'mean'$"
    ):
        cross_entropy_backward(np.ones(2), logits, targets)


def test_the_gradient_goes_into_a_given_array():
    logits, targets = normal((3, 4, 50), np.float32), np.zeros((3, 4), int)
    wanted = cross_entropy(logits, targets, return_grad=True)
    given = np.full_like(logits, 7)
    loss, gradient = cross_entropy(logits, targets, grad_out=given)
    assert loss == wanted[0]
    assert gradient is given
    np.testing.assert_array_equal(given, wanted[1])
    strided = np.empty((3, 50, 4), np.float32)
    with pytest.raises(
        ShapeError, match=r"grad_out is an array of shape \(3, 4, 50\) and dtype float32 .*C-cont"
    ):
        cross_entropy(logits.transpose(0, 2, 1), targets, axis=1, grad_out=strided)
    with pytest.raises(ArgumentError, match="grad_out is read-only or shares memory with logits"):
        cross_entropy(logits, targets, grad_out=logits)


def test_the_loss_comes_in_the_type_that_is_asked_for():
    logits, targets = normal((3, 50), np.float32), np.zeros(3, int)
    assert cross_entropy(logits, targets, out_dtype=np.float64).dtype == np.float64
    losses, gradient = cross_entropy(
        logits, targets, reduction="none", out_dtype=np.float16, return_grad=True
    )
    assert losses.dtype == np.float16
    assert gradient.dtype == np.float32
