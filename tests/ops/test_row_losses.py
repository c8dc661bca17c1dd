"""Losses over StableMax and of the spherical family against torch's autograd in float64."""

import numpy as np
import pytest

import logitscope
from logitscope import loss as losses
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.loss import (
    margin_loss,
    spherical_loss,
    spherical_softmax_loss,
    stablemax_cross_entropy,
    taylor_softmax_loss,
    z_standardized_loss,
)
from row_oracles import SIZES, assert_relative, normal

torch = pytest.importorskip("torch")
INF, NAN = np.inf, np.nan


def of_shares(share):
    """-log of the target's share."""

    def loss(z, y):
        shares = share(z)
        return -(shares.gather(-1, y) / shares.sum(-1, keepdim=True)).log().squeeze(-1)

    return loss


def stable_share(z):
    return torch.where(z >= 0, 1 + z, 1 / (1 - z.clamp(max=0)))


def squared(z, y):
    return (z - torch.zeros_like(z).scatter(-1, y, 1.0)).square().sum(-1)


def margin(z, y):
    return z.scatter(-1, y, -INF).max(-1).values - z.gather(-1, y).squeeze(-1)


def z_loss(a, b):
    def loss(z, y):
        deviation = z.var(-1, keepdim=True, unbiased=False).sqrt()
        z = ((z - z.mean(-1, keepdim=True)) / deviation).gather(-1, y).squeeze(-1)
        return torch.nn.functional.softplus(a * (b - z), threshold=700) / a

    return loss


LOSSES = {
    "stablemax": (stablemax_cross_entropy, (), of_shares(stable_share)),
    "margin": (margin_loss, (), margin),
    "taylor": (taylor_softmax_loss, (), of_shares(lambda z: 1 + z + z**2 / 2)),
    "spherical": (spherical_softmax_loss, (0.1,), of_shares(lambda z: z**2 + 0.1)),
    "taylor, by name": (spherical_loss, ("taylor",), of_shares(lambda z: 1 + z + z**2 / 2)),
    "spherical, by name": (spherical_loss, ("spherical",), of_shares(lambda z: z**2 + 0.1)),
    "squared": (spherical_loss, ("squared",), squared),
    "standardised": (z_standardized_loss, (1.0, 5.0), z_loss(1.0, 5.0)),
    "standardised, sharp": (z_standardized_loss, (4.0, 0.5), z_loss(4.0, 0.5)),
}
every_loss = pytest.mark.parametrize(("function", "parameters", "formula"), LOSSES.values(), ids=LOSSES)


def least(function):
    return 2 if function in (z_standardized_loss, margin_loss) else 1


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
def test_losses_and_gradients_agree_with_autograd(isa, size, dtype, function, parameters, formula):
    size = max(size, least(function))
    logits, targets = normal((4, size), dtype, 2.0), np.random.default_rng(0).integers(0, size, 4)
    got, gradient = function(logits, targets, *parameters, reduction="none", return_grad=True)
    assert isa in logitscope.last_kernel()
    z = torch.from_numpy(logits).double().requires_grad_()
    wanted = formula(z, torch.from_numpy(targets)[:, None])
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), z)
    limit = 3e-6 if dtype is np.float32 else 1e-12
    assert_relative(got, wanted.detach(), limit, limit)
    assert_relative(gradient, wanted_gradient, limit, limit)
    np.testing.assert_array_equal(function(logits, targets, *parameters, reduction="none"), got)


@every_loss
def test_weights_and_ignored_rows_enter_the_mean(function, parameters, formula):
    logits, targets = normal((6, 5), np.float64), np.array([0, 1, -100, 3, 4, 4])
    logits[2] = NAN
    weight = np.array([0.5, 1.0, 9.0, 2.0, 0.0])
    each, slopes = function(logits, targets, *parameters, reduction="none", return_grad=True)
    assert each[2] == 0
    loss, gradient = function(logits, targets, *parameters, weight=weight, return_grad=True)
    of_rows = np.array([0.5, 1.0, 0.0, 2.0, 0.0, 0.0])
    assert loss == pytest.approx((of_rows * each).sum() / 3.5, rel=1e-14)
    np.testing.assert_allclose(gradient, of_rows[:, None] * slopes / 3.5, rtol=1e-14)
    assert np.isnan(function(logits[2:3], targets[2:3], *parameters))
    assert function(logits[2:3], targets[2:3], *parameters, empty="zero") == 0


@every_loss
def test_what_is_not_finite_stays_in_its_row(isa, function, parameters, formula):
    clean, targets = normal((3, 37), np.float32), np.array([4, 20, 36])
    wanted, wanted_gradient = function(clean, targets, *parameters, reduction="none", return_grad=True)
    for lane in (0, 15, 16, 20, 36):
        for value in (NAN, INF):
            logits = clean.copy()
            logits[1, lane] = value
            got, gradient = function(logits, targets, *parameters, reduction="none", return_grad=True)
            assert np.isnan(got[1])
            assert np.isnan(gradient[1]).all()
            np.testing.assert_array_equal(got[[0, 2]], wanted[[0, 2]])
            np.testing.assert_array_equal(gradient[[0, 2]], wanted_gradient[[0, 2]])


@every_loss
def test_any_number_of_threads_gives_the_same_bits(function, parameters, formula):
    logits, targets = normal((3000, 67), np.float32), np.arange(3000) % 67
    results = set()
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        loss, gradient = function(logits, targets, *parameters, return_grad=True)
        results.add((loss.tobytes(), gradient.tobytes()))
    logitscope.set_num_threads(None)
    assert len(results) == 1


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_tensors_that_require_a_gradient_get_one(function, parameters, formula, reduction):
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0, 3], [-100, 1], [2, 2]])
    assert torch.autograd.gradcheck(lambda x: function(x, targets, *parameters, reduction=reduction), logits)


def test_stablemax_absorbs_nothing_where_softmax_does(isa):
    loss, gradient = stablemax_cross_entropy(np.float32([[40, 0, 0]]), np.array([0]), return_grad=True)
    assert loss == pytest.approx(np.log(43 / 41), rel=1e-6)
    assert gradient[0, 0] == pytest.approx(-(2 / 43) / 41, rel=1e-6)
    loss, gradient = stablemax_cross_entropy(np.float64([[0.0, -INF]]), np.array([0]), return_grad=True)
    assert loss == 0
    np.testing.assert_array_equal(gradient, [[0, 0]])


def smoothed_oracle(z, y, smoothing, weight, reduction="mean"):
    """The definition: the target keeps 1 - smoothing, all classes share the rest; a class has its weight."""
    v, w = z.shape[-1], torch.ones(z.shape[-1], dtype=z.dtype) if weight is None else torch.from_numpy(weight)
    live, y = y != -100, y.clamp(min=0)
    masses = (1 - smoothing) * torch.nn.functional.one_hot(y, v).to(z.dtype) + smoothing / v
    share = stable_share(torch.where(live[:, None], z, 0.0))
    logs = (share / share.sum(-1, keepdim=True)).log()
    losses = torch.where(live, -(w * masses * logs).sum(-1), 0.0)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / w[y][live].sum()}[reduction]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smoothed_targets_agree_with_their_definition(isa, dtype, smoothing, weighted, reduction):
    logits, targets = normal((7, 33), dtype, 3.0), np.array([0, 32, -100, 5, 5, 31, 8])
    logits[2] = NAN
    weight = np.random.default_rng(1).random(33) if weighted else None
    options = {"label_smoothing": smoothing, "weight": weight, "reduction": reduction}
    got, gradient = stablemax_cross_entropy(logits, targets, return_grad=True, **options)
    z = torch.from_numpy(logits).double().requires_grad_()
    wanted = smoothed_oracle(z, torch.from_numpy(targets), smoothing, weight, reduction)
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), z)
    limit = 3e-6 if dtype is np.float32 else 1e-12
    assert got.dtype == gradient.dtype == dtype
    assert_relative(got, wanted.detach(), limit, limit)
    assert_relative(gradient, wanted_gradient, limit, limit)
    np.testing.assert_array_equal(stablemax_cross_entropy(logits, targets, **options), got)


def test_smoothed_targets_of_tensors_have_gradients_of_first_and_second_order():
    logits = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    targets, weight = torch.tensor([[0, 3], [-100, 1], [2, 2]]), torch.rand(4, dtype=torch.float64)

    def loss(x):
        return stablemax_cross_entropy(x, targets, weight=weight, label_smoothing=0.2)

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)
    arrays = stablemax_cross_entropy(
        logits.detach().numpy(), targets.numpy(), weight=weight.numpy(), label_smoothing=0.2
    )
    assert loss(logits).item() == pytest.approx(float(arrays), rel=1e-13)


def test_smoothed_targets_at_their_limits():
    logits, targets = normal((4, 9), np.float32), np.arange(4)
    plain = stablemax_cross_entropy(logits, targets)
    assert stablemax_cross_entropy(logits, targets, label_smoothing=1e-12) == pytest.approx(plain, rel=1e-6)
    for value in (NAN, INF):
        spoilt = logits.copy()
        spoilt[1, 3] = value
        losses, gradient = stablemax_cross_entropy(
            spoilt, targets, label_smoothing=0.1, reduction="none", return_grad=True
        )
        assert np.isnan(losses).tolist() == [False, True, False, False]
        assert np.isnan(gradient).all(axis=1).tolist() == [False, True, False, False]
    for wrong in (-0.1, 1.5, NAN):
        pattern = r"^stablemax_cross_entropy: label_smoothing is .*; use a number in 0..1$"
        for x, y in ((logits, targets), (torch.tensor(logits, requires_grad=True), torch.tensor(targets))):
            with pytest.raises(ArgumentError, match=pattern):
                stablemax_cross_entropy(x, y, label_smoothing=wrong)
    with pytest.raises(TargetError, match=r"^stablemax_cross_entropy: target 9 in row 0 is no class"):
        stablemax_cross_entropy(logits, targets + 9, label_smoothing=0.1)
    with pytest.raises(DTypeError, match=r"^stablemax_cross_entropy: targets has dtype float32; use int"):
        stablemax_cross_entropy(logits, logits, label_smoothing=0.1)


def test_the_margin_is_the_negative_of_the_statistic_and_the_first_of_equals_has_the_gradient(isa):
    logits, targets = normal((20, 70), np.float32), np.arange(20)
    _, stats = losses.cross_entropy(logits, targets, return_stats=True)
    np.testing.assert_array_equal(margin_loss(logits, targets, reduction="none"), -stats.margin)
    z = np.float64([[2.0, 1.0, 2.0, 2.0], [-INF, 0, -INF, -INF], [0, -INF, -INF, -INF]])
    loss, gradient = margin_loss(z, np.array([2, 2, 0]), reduction="none", return_grad=True)
    np.testing.assert_array_equal(loss, [0, INF, -INF])
    np.testing.assert_array_equal(gradient, [[1, 0, -1, 0], [0, 1, -1, 0], [-1, 1, 0, 0]])
    with pytest.raises(ShapeError, match=r"^margin_loss: logits has shape .*; use at least two classes$"):
        margin_loss(z[:, :1], np.zeros(3, int))


def test_the_z_loss_sees_neither_shift_nor_scale(isa):
    logits, targets = normal((5, 101), np.float64), np.arange(5)
    wanted = z_standardized_loss(logits, targets)
    assert z_standardized_loss(7.5 * logits + 3, targets) == pytest.approx(wanted, rel=1e-12)
    _, gradient = z_standardized_loss(logits, targets, return_grad=True)
    assert np.abs(gradient.sum(-1)).max() < 1e-15
    assert np.abs((logits * gradient).sum(-1)).max() < 1e-15
    far = (normal((5, 101), np.float32) + np.float32(1e4)).astype(np.float32)
    assert_relative(
        z_standardized_loss(far, targets), z_standardized_loss(far.astype(np.float64), targets), 1e-6
    )


def test_the_z_loss_of_equal_logits_and_of_a_sharp_hinge(isa):
    loss, gradient = z_standardized_loss(
        np.full((1, 9), 0.1, np.float32), np.array([3]), 2.0, 5.0, return_grad=True
    )
    assert loss == pytest.approx(np.log1p(np.exp(10)) / 2, rel=1e-6)
    np.testing.assert_array_equal(gradient, np.zeros((1, 9)))
    logits, targets = normal((50, 9), np.float64), np.arange(50) % 9
    z = (logits - logits.mean(-1, keepdims=True)) / logits.std(-1, keepdims=True)
    hinge = np.maximum(0, 1 - z[np.arange(50), targets])
    got = z_standardized_loss(logits, targets, 1e4, 1.0, reduction="none")
    np.testing.assert_allclose(got, hinge, atol=1e-3)


def test_bad_input_is_refused_with_what_came_and_what_would_work():
    logits, targets = np.zeros((2, 3)), np.zeros(2, int)
    with pytest.raises(ArgumentError, match=r"^z_standardized_loss: a is 0.0; use a positive finite number$"):
        z_standardized_loss(logits, targets, a=0)
    with pytest.raises(ArgumentError, match=r"^z_standardized_loss: b is inf; use a finite number$"):
        z_standardized_loss(logits, targets, b=INF)
    with pytest.raises(
        ShapeError, match=r"^z_standardized_loss: logits has shape .*; use at least two classes$"
    ):
        z_standardized_loss(logits[:, :1], targets)
    with pytest.raises(ArgumentError, match=r"^spherical_softmax_loss: epsilon is -1.0; use a positive"):
        spherical_softmax_loss(logits, targets, -1)
    with pytest.raises(
        ArgumentError, match=r"^spherical_loss: kind is 'round'; use 'taylor', 'spherical' or"
    ):
        spherical_loss(logits, targets, "round")
    with pytest.raises(TargetError, match=r"^taylor_softmax_loss: target 3 in row 1 is no class; use 0..2$"):
        taylor_softmax_loss(logits, np.array([0, 3]))
    for name in ("stablemax_cross_entropy", "taylor_softmax_loss"):
        function = getattr(losses, name)
        with pytest.raises(DTypeError, match=rf"^{name}: logits has dtype int64"):
            function(np.zeros((2, 3), np.int64), targets)
        with pytest.raises(DTypeError, match=rf"^{name}: targets has dtype float64; use integers$"):
            function(logits, np.zeros(2))
        with pytest.raises(ArgumentError, match=rf"^{name}: weight is -1 for class 0; use finite numbers"):
            function(logits, targets, weight=[-1.0, 1, 1])
        with pytest.raises(ArgumentError, match=rf"^{name}: reduction is 'max'; use"):
            function(logits, targets, reduction="max")
