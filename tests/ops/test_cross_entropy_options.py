"""The options of cross entropy: float64 oracles, torch's own losses, and bad input."""

import numpy as np
import pytest

import logitscope
from logitscope import loss as losses
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.loss import cross_entropy, cross_entropy_backward
from row_oracles import SIZES, assert_relative, normal

INF, NAN = np.inf, np.nan
ALL = {
    "label_smoothing": 0.1,
    "temperature": 1.3,
    "softcap": 4.0,
    "lse_square_scale": 0.02,
    "entropy_weight": 0.1,
}


def oracle(logits, targets, weight=None, **options):
    """Loss, penalty and gradients of both of each row of (N, V), as the formulas say, in float64."""
    x = np.asarray(logits, np.float64)
    n, classes = x.shape
    scale, cap = 1 / options.get("temperature", 1.0), options.get("softcap")
    z = scale * x if cap is None else cap * np.tanh(scale * x / cap)
    chain = scale * (np.ones_like(z) if cap is None else 1 - (z / cap) ** 2)
    top = z.max(-1, keepdims=True)
    lse = top + np.log(np.exp(z - top).sum(-1, keepdims=True))
    log_p = z - lse
    p = np.exp(log_p)
    w = np.ones(classes) if weight is None else np.asarray(weight, np.float64)
    smoothing = options.get("label_smoothing", 0.0)
    if np.asarray(targets).dtype.kind == "f":
        masses = w * ((1 - smoothing) * np.asarray(targets, np.float64) + smoothing / classes)
    else:
        masses = np.tile(w * smoothing / classes, (n, 1))
        masses[np.arange(n), targets] += (1 - smoothing) * w[targets]
    loss = -(masses * log_p).sum(-1)
    gradient = (masses.sum(-1, keepdims=True) * p - masses) * chain
    entropy = -(p * log_p).sum(-1, keepdims=True)
    square, spread = options.get("lse_square_scale", 0.0), options.get("entropy_weight", 0.0)
    penalty = square * lse**2 + spread * entropy
    of_penalty = (2 * square * lse * p - spread * p * (log_p + entropy)) * chain
    return loss, penalty[:, 0], gradient, of_penalty


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("soft", [False, True])
def test_every_option_at_once_agrees_with_the_formulas(isa, size, dtype, soft):
    logits, rng = normal((5, size), dtype, 3.0), np.random.default_rng(1)
    weight = rng.uniform(0.2, 2.0, size).astype(dtype)
    targets = rng.dirichlet(np.ones(size), 5).astype(dtype) if soft else rng.integers(0, size, 5)
    got, gradient = cross_entropy(logits, targets, weight=weight, reduction="none", return_grad=True, **ALL)
    assert isa in logitscope.last_kernel()
    loss, penalty, wanted, of_penalty = oracle(logits, targets, weight, **ALL)
    limit = 5e-6 if dtype is np.float32 else 1e-12
    assert_relative(got, loss + penalty, limit, limit)
    assert_relative(gradient, wanted + of_penalty, limit, limit)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_are_averaged_by_weight_and_penalties_by_count(reduction):
    logits, weight = normal((6, 7), np.float64), np.linspace(0.5, 2, 7)
    targets = np.array([0, 3, -100, 6, 2, 2])
    live = targets != -100
    loss, gradient = cross_entropy(
        logits, targets, weight=weight, reduction=reduction, return_grad=True, **ALL
    )
    of_rows, penalty, wanted, of_penalty = oracle(logits[live], targets[live], weight, **ALL)
    divisor, count = (weight[targets[live]].sum(), 5) if reduction == "mean" else (1, 1)
    assert loss == pytest.approx(of_rows.sum() / divisor + penalty.sum() / count, rel=1e-12)
    np.testing.assert_allclose(gradient[live], wanted / divisor + of_penalty / count, rtol=0, atol=1e-13)
    assert (gradient[~live] == 0).all()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"softcap": 2.0}, {"temperature": 0.5}])
@pytest.mark.parametrize("link", ["ce", "comp_sum"])
def test_gradients_of_a_row_sum_to_zero_without_softcap_and_penalty(isa, link, options):
    logits, targets = normal((50, 101), np.float64, 3.0), np.arange(50)
    parameters = {"tau": 1.5} if link == "comp_sum" else {}
    _, gradient = cross_entropy(
        logits, targets, link=link, link_params=parameters, return_grad=True, **options
    )
    total = np.abs(gradient.sum(-1)).max()
    assert (total > 1e-6) if "softcap" in options else (total < 1e-15)


def test_two_micro_batches_with_a_normalizer_add_up_to_the_batch():
    logits, targets = normal((10, 33), np.float64), np.arange(10)
    targets[[1, 7]] = -100
    options = {"lse_square_scale": 0.1, "return_grad": True}
    loss, gradient = cross_entropy(logits, targets, **options)
    parts = [
        cross_entropy(logits[part], targets[part], normalizer=8, **options)
        for part in (slice(0, 3), slice(3, 10))
    ]
    assert sum(part[0] for part in parts) == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), gradient, rtol=1e-14)
    of_rows = np.linspace(1, 3, 10)
    each = cross_entropy(logits, targets, reduction="none", lse_square_scale=0.1)
    loss, gradient = cross_entropy(logits, targets, normalizer=of_rows, **options)
    assert loss == pytest.approx((each / of_rows).sum(), rel=1e-14)
    upstream = cross_entropy_backward(1 / of_rows, logits, targets, reduction="none", lse_square_scale=0.1)
    np.testing.assert_allclose(gradient, upstream, rtol=1e-13)


def test_statistics_say_what_they_are_named(isa):
    logits, rng = normal((20, 37), np.float32, 3.0), np.random.default_rng(2)
    targets = rng.integers(0, 37, 20)
    targets[4] = -100
    soft = rng.dirichlet(np.ones(37), 20).astype(np.float32)
    live = targets != -100
    for wanted, temperature in ((targets, 1.0), (targets, 2.0), (soft, 0.7)):
        z = logits.astype(np.float64) / temperature
        classes = soft.argmax(-1) if wanted is soft else np.where(live, targets, 0)
        counts = np.ones(20, bool) if wanted is soft else live
        _, stats = cross_entropy(logits, wanted, temperature=temperature, return_stats=True)
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        rows = np.arange(20)
        others = z.copy()
        others[rows, classes] = -INF
        assert_relative(stats.lse, np.log(np.exp(z).sum(-1)), 1e-6, 1e-6)
        assert_relative(stats.entropy, -(np.exp(log_p) * log_p).sum(-1), 2e-6)
        assert_relative(stats.v[counts], -log_p[rows, classes][counts], 2e-6)
        assert_relative(stats.margin[counts], (z[rows, classes] - others.max(-1))[counts], 1e-5, 1e-6)
        np.testing.assert_array_equal(stats.argmax, logits.argmax(-1))
        assert (stats.v[~counts] == 0).all()
        assert np.isnan(stats.margin[~counts]).all()
        assert not stats.collapsed[~counts].any()


def test_a_row_is_collapsed_where_torch_loses_the_others(isa):
    logits = np.float32([[16.0, 0], [16.7, 0], [0, 16.7], [80, 80], [NAN, 0]])
    stats = cross_entropy(logits, np.zeros(5, int), return_stats=True)[1]
    np.testing.assert_array_equal(stats.collapsed, [False, True, False, False, False])
    assert not cross_entropy(logits[:2].astype(np.float64), np.zeros(2, int), return_stats=True)[
        1
    ].collapsed.any()


@pytest.mark.parametrize("options", [{}, {"lse_square_scale": 1e-30}])
def test_textbook_form_rounds_to_zero_and_complement_form_does_not(isa, options):
    logits = np.float32([[20, 0, 0]])
    target = np.array([0])
    loss, gradient = cross_entropy(logits, target, complement=False, return_grad=True, **options)
    assert loss < 1e-20
    assert abs(gradient[0, 0]) < 1e-20
    loss, gradient = cross_entropy(logits, target, return_grad=True, **options)
    v = np.log1p(2 * np.exp(-20))
    assert loss == pytest.approx(v, rel=1e-6)
    assert gradient[0, 0] == pytest.approx(-2 * np.exp(-20), rel=1e-6)


def test_soft_targets_on_one_class_keep_their_digits(isa):
    loss, gradient = cross_entropy(np.float32([[40, 0, 0]]), np.float32([[1, 0, 0]]), return_grad=True)
    p = np.exp(-40)
    assert_relative(loss, 2 * p, 1e-6)
    assert_relative(gradient, [[-2 * p, p, p]], 1e-6)


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}, {"entropy_weight": 0.2}])
def test_a_common_offset_changes_no_loss(offset, options):
    logits = np.array([[0.0, 8.0, 24.0]])
    here, there = (
        cross_entropy((logits + by).astype(np.float32), np.array([1]), **options) for by in (0.0, offset)
    )
    assert here == pytest.approx(there, rel=1e-6)


def test_what_an_ignored_row_holds_reaches_nothing_with_every_option(isa):
    logits = np.float32([[NAN, INF, 0], [0, 1, 2]])
    loss, gradient, stats = cross_entropy(
        logits, np.array([-100, 1]), return_grad=True, return_stats=True, **ALL
    )
    assert np.isfinite(loss)
    assert (gradient[0] == 0).all()
    assert np.isfinite(gradient[1]).all()
    assert np.isnan(stats.lse[0])


def test_bad_options_are_refused_with_what_came_and_what_would_work():
    logits, targets = np.zeros((2, 3)), np.zeros(2, int)

    def refuses(error, message, function=cross_entropy, **options):
        with pytest.raises(error) as caught:
            function(logits, targets, **options)
        assert str(caught.value).startswith(message), str(caught.value)

    of = "cross_entropy: "
    refuses(ArgumentError, of + "label_smoothing is -0.1; use a number in 0..1", label_smoothing=-0.1)
    refuses(ArgumentError, of + "label_smoothing is NaN; use a number in 0..1", label_smoothing=NAN)
    refuses(ArgumentError, of + "smooth_over is 'none'; use 'all' or 'finite'", smooth_over="none")
    refuses(ArgumentError, of + "weight is -1 for class 1; use finite numbers", weight=[1, -1, 1])
    refuses(ShapeError, of + "weight has shape (2,); use (3,), one a class", weight=[1.0, 1.0])
    refuses(DTypeError, of + "weight has dtype bool; use float64", weight=np.ones(3, bool))
    refuses(ArgumentError, of + "temperature is 0.0; use a positive finite number", temperature=0.0)
    refuses(ArgumentError, of + "softcap is -1.0; use a positive finite number", softcap=-1.0)
    refuses(ArgumentError, of + "lse_square_scale is inf; use a finite number", lse_square_scale=INF)
    refuses(ArgumentError, of + "entropy_weight is NaN; use a finite number", entropy_weight=NAN)
    refuses(ArgumentError, of + "normalizer is 0.0; use positive finite numbers", normalizer=0)
    refuses(ShapeError, of + "normalizer has shape (3,); use () or (2,), one a row", normalizer=np.ones(3))
    refuses(
        ArgumentError,
        of + "normalizer is given; use it with reduction 'mean' only",
        normalizer=1,
        reduction="sum",
    )
    refuses(ArgumentError, of + "link is 'hinge'; use 'ce', 'comp_sum', 'gce', 'mae'", link="hinge")
    refuses(ArgumentError, of + "link_params is () for link 'focal'; use (gamma)", link="focal")
    refuses(
        ArgumentError,
        of + "link is one of a single class, with smoothed or soft targets; use 'ce'",
        link="focal",
        link_params={"gamma": 2},
        label_smoothing=0.1,
    )
    refuses(np.exceptions.AxisError, of + "axis 2 is out of range for shape (2, 3); use -2..1", axis=2)
    refuses(ArgumentError, "comp_sum_loss: tau is -1.0; use", losses.comp_sum_loss, tau=-1)
    refuses(ArgumentError, "focal_loss: gamma is -1.0; use", losses.focal_loss, gamma=-1)
    refuses(ArgumentError, "generalized_cross_entropy: q is 0.0; use", losses.generalized_cross_entropy, q=0)
    refuses(ArgumentError, "generalized_cross_entropy: k is 1.0; use", losses.generalized_cross_entropy, k=1)
    refuses(ArgumentError, "poly_loss: epsilon is inf; use", losses.poly_loss, epsilon=INF)
    refuses(
        ArgumentError,
        "symmetric_cross_entropy: log_zero is 1.0; use",
        losses.symmetric_cross_entropy,
        log_zero=1,
    )
    with pytest.raises(TargetError, match=r"^focal_loss: target 3 in row 1 is no class; use 0..2$"):
        losses.focal_loss(logits, np.array([0, 3]))
    with pytest.raises(TargetError, match=r"^cross_entropy_backward: target 3 in row 1 is no class"):
        cross_entropy_backward(1.0, logits, np.array([0, 3]))


def test_the_classes_may_be_any_axis():
    logits, targets = normal((4, 7, 5), np.float64), np.arange(20).reshape(4, 5) % 7
    soft = np.random.default_rng(0).random((4, 7, 5))
    for wanted in (targets, soft):
        last = np.moveaxis(wanted, 1, -1) if wanted is soft else wanted
        loss, gradient = cross_entropy(logits, wanted, axis=1, return_grad=True)
        expected, expected_gradient = cross_entropy(np.moveaxis(logits, 1, -1), last, return_grad=True)
        assert loss == expected
        np.testing.assert_array_equal(gradient, np.moveaxis(expected_gradient, -1, 1))
        np.testing.assert_array_equal(cross_entropy_backward(1.0, logits, wanted, axis=1), gradient)


def test_any_number_of_threads_gives_the_same_bits_with_every_option():
    logits, targets = normal((4000, 129), np.float32), np.arange(4000) % 129
    results = set()
    for threads in (1, 2, 3, 8):
        logitscope.set_num_threads(threads)
        loss, gradient, stats = cross_entropy(logits, targets, return_grad=True, return_stats=True, **ALL)
        results.add((loss.tobytes(), gradient.tobytes(), stats.entropy.tobytes()))
    logitscope.set_num_threads(None)
    assert len(results) == 1
