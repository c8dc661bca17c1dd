"""The numerical rules of cross entropy as one table: what comes of edges, by every way to the loss and its gradient."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

from logitscope.bench.peers import as_torch
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.loss import cross_entropy, cross_entropy_backward
from row_oracles import DTYPES

INF, NAN = np.inf, np.nan
LN2, LN3 = np.log(2), np.log(3)
HUGE = 3e38
"""Stands for nine tenths of the largest number of the element type."""


class Rule(NamedTuple):
    """Logits and targets, and what comes of them; None is not compared."""

    logits: list
    targets: list
    loss: object
    gradient: list | None
    options: dict = {}  # noqa: RUF012 -- nobody changes it


ALL_IGNORED = [-100, -100]
TWO_ROWS = [[1.0, 2.0], [NAN, 0.0]]
ZEROS = [[0.0, 0.0], [0.0, 0.0]]
NO_ROWS = np.zeros((0, 3))
SMOOTH = {"label_smoothing": 0.3}
FINITE = {**SMOOTH, "smooth_over": "finite"}
SUM, NONE, ZERO = {"reduction": "sum"}, {"reduction": "none"}, {"empty": "zero"}
NO_WEIGHT = {"weight": [1.0, 0.0, 1.0]}
SMOOTHED = -np.log([0.25, 0.25, 0.5])  # of the softmax of 0, 0 and ln 2

RULES = {
    "all rows ignored, mean": Rule(TWO_ROWS, ALL_IGNORED, NAN, ZEROS),
    "all rows ignored, mean, zero": Rule(TWO_ROWS, ALL_IGNORED, 0.0, ZEROS, ZERO),
    "all rows ignored, sum": Rule(TWO_ROWS, ALL_IGNORED, 0.0, ZEROS, SUM),
    "all rows ignored, none": Rule(TWO_ROWS, ALL_IGNORED, [0.0, 0.0], ZEROS, NONE),
    "weights sum to 0, mean": Rule([[0.0] * 3] * 2, [1, 1], NAN, None, NO_WEIGHT),
    "weights sum to 0, mean, zero": Rule(
        [[0.0] * 3] * 2, [1, 1], 0.0, [[0.0] * 3] * 2, {**NO_WEIGHT, **ZERO}
    ),
    "weights sum to 0, sum": Rule([[0.0] * 3] * 2, [1, 1], 0.0, [[0.0] * 3] * 2, {**NO_WEIGHT, **SUM}),
    "weights sum to 0, mean, zero, penalty": Rule(
        [[0.0] * 3] * 2,
        [1, 1],
        LN3**2,
        [[LN3 / 3] * 3] * 2,
        {**NO_WEIGHT, **ZERO, "lse_square_scale": 1.0},
    ),
    "no rows, zero, penalty": Rule(NO_ROWS, [], 0.0, NO_ROWS, {**ZERO, "lse_square_scale": 1.0}),
    "no rows, mean": Rule(NO_ROWS, [], NAN, NO_ROWS),
    "no rows, mean, zero": Rule(NO_ROWS, [], 0.0, NO_ROWS, ZERO),
    "no rows, sum": Rule(NO_ROWS, [], 0.0, NO_ROWS, SUM),
    "no rows, none": Rule(NO_ROWS, [], [], NO_ROWS, NONE),
    "no rows, soft targets": Rule(NO_ROWS, NO_ROWS, NAN, NO_ROWS),
    "ignore_index is a class": Rule(
        [[0.0] * 2] * 2, [1, 0], [0.0, LN2], [[0.0, 0.0], [-0.5, 0.5]], {**NONE, "ignore_index": 1}
    ),
    "NaN in an ignored row": Rule([[NAN, INF], [0.0, 0.0]], [-100, 1], LN2, [[0.0, 0.0], [0.5, -0.5]]),
    "NaN in a live row": Rule(
        [[0.0, 0.0], [NAN, 0.0], [0.0, 0.0]],
        [1, 1, 0],
        [LN2, NAN, LN2],
        [[0.5, -0.5], [NAN, NAN], [-0.5, 0.5]],
        NONE,
    ),
    "a row of -inf": Rule([[-INF] * 3], [1], NAN, [[NAN] * 3], SUM),
    "+inf at the target": Rule([[INF, 0.0, 0.0]], [0], NAN, [[NAN] * 3], SUM),
    "+inf elsewhere": Rule([[0.0, INF, -INF]], [0], NAN, [[NAN] * 3], SUM),
    "+inf alone": Rule([[INF] * 3], [2], NAN, [[NAN] * 3], SUM),
    "a row of -inf, smoothed": Rule([[-INF] * 3], [1], NAN, [[NAN] * 3], SMOOTH),
    "+inf, smoothed": Rule([[INF, 0.0]], [1], NAN, [[NAN] * 2], SMOOTH),
    "a row of -inf, soft targets": Rule([[-INF] * 3], [[0.5, 0.25, 0.25]], NAN, [[NAN] * 3], SUM),
    "a row of -inf, penalty": Rule([[-INF] * 3], [0], NAN, [[NAN] * 3], {"lse_square_scale": 0.1}),
    "+inf, penalties": Rule(
        [[INF, 0.0]], [1], NAN, [[NAN] * 2], {"lse_square_scale": 0.1, "entropy_weight": 0.1}
    ),
    "+inf, soft targets": Rule([[INF, 0.0]], [[0.5, 0.5]], NAN, [[NAN] * 2], SUM),
    "-inf elsewhere": Rule([[0.0, -INF, 0.0]], [0], LN2, [[-0.5, 0.0, 0.5]], SUM),
    "-inf in all others": Rule([[2.0, -INF, -INF]], [0], 0.0, [[0.0, 0.0, 0.0]], SUM),
    "-inf at the target": Rule([[-INF, 1.0, 1.0]], [0], INF, [[-1.0, 0.5, 0.5]], SUM),
    "-inf at the target, penalty": Rule(
        [[-INF, 0.0, 0.0]], [0], INF, [[-1.0, 0.5 + LN2, 0.5 + LN2]], {"lse_square_scale": 1.0}
    ),
    "smoothing with -inf": Rule([[0.0, -INF, 0.0]], [2], INF, None, SMOOTH),
    "smoothing with -inf, over the finite": Rule(
        [[0.0, -INF, LN2]],
        [2],
        0.15 * np.log(3.0) + 0.85 * np.log(1.5),
        [[1 / 3 - 0.15, 0.0, 2 / 3 - 0.85]],
        FINITE,
    ),
    "no mass at -inf": Rule([[0.0, -INF, 0.0]], [[0.5, 0.0, 0.5]], LN2, [[0.0, 0.0, 0.0]], SUM),
    "a difference that overflows": Rule([[HUGE, -HUGE]], [1], INF, [[1.0, -1.0]], SUM),
    "smoothing of 1": Rule([[0.0, 0.0, LN2]], [0], SMOOTHED.mean(), None, {"label_smoothing": 1.0}),
}


class Refusal(NamedTuple):
    """Arguments that are refused, and the error."""

    logits: object
    targets: object
    options: dict
    error: type[Exception]
    base: type[Exception]
    message: str


OF = "cross_entropy: "
TARGET = np.zeros(2, int)
REFUSALS = {
    "no classes": Refusal(
        np.zeros((2, 0)),
        TARGET,
        {},
        ShapeError,
        ValueError,
        "(2, 0)",
    ),
    **{
        f"target {value}": Refusal(
            np.zeros((2, 3)),
            np.array([0, value]),
            {},
            TargetError,
            IndexError,
            f"target {value} in row 1 is no class; use 0..2",
        )
        for value in (3, -1, 2**40, -101)
    },
    "a target beyond int64": Refusal(
        np.zeros((1, 2)),
        np.array([2**64 - 100], np.uint64),
        {},
        TargetError,
        IndexError,
        f"target {2**63 - 1} in row 0 is no class; use 0..1",
    ),
    "soft targets and ignore_index": Refusal(
        np.zeros((1, 3)),
        np.ones((1, 3)),
        {"ignore_index": 1},
        ArgumentError,
        ValueError,
        "ignore_index is 1 with soft targets; use a weight of 0",
    ),
    **{
        f"label_smoothing {value}": Refusal(
            np.zeros((2, 3)),
            TARGET,
            {"label_smoothing": value},
            ArgumentError,
            ValueError,
            f"label_smoothing is {value}; use a number in 0..1",
        )
        for value in (-0.1, 1.5)
    },
    "negative weights": Refusal(
        np.zeros((2, 3)),
        TARGET,
        {"weight": np.array([1.0, -1.0, 1.0])},
        ArgumentError,
        ValueError,
        "weight is -1 for class 1; use finite numbers, at least 0",
    ),
    "integer logits": Refusal(
        np.zeros((2, 3), np.int64), TARGET, {}, DTypeError, TypeError, "logits has dtype int64; use float"
    ),
}


def by_return_grad(logits, targets, **options):
    return cross_entropy(logits, targets, return_grad=True, **options)


def by_backward(logits, targets, **options):
    loss = cross_entropy(logits, targets, **options)
    one = np.ones(np.shape(loss), np.asarray(loss).dtype)
    return loss, cross_entropy_backward(one, logits, targets, **options)


def by_autograd(logits, targets, **options):
    torch = pytest.importorskip("torch")
    leaf = as_torch(torch, logits).requires_grad_()
    wanted = as_torch(torch, targets)
    if "weight" in options:
        options["weight"] = as_torch(torch, options["weight"])
    loss = cross_entropy(leaf, wanted, **options)
    (gradient,) = torch.autograd.grad(loss, leaf, torch.ones_like(loss))
    return loss.detach(), gradient


WAYS = [by_return_grad, by_backward, by_autograd]


def arrays(rule, dtype):
    """Logits, targets and options of a rule."""
    logits = np.asarray(rule.logits)
    largest = 0.9 * float(np.finfo(np.float64 if dtype.itemsize == 8 else np.float32).max)
    logits = np.where(np.abs(logits) == HUGE, np.sign(logits) * largest, logits).astype(dtype)
    targets = np.asarray(rule.targets)
    targets = targets.astype(dtype) if targets.ndim == logits.ndim else targets.astype(np.int64)
    options = dict(rule.options)
    if "weight" in options:
        options["weight"] = np.asarray(options["weight"]).astype(dtype)
    return logits, targets, options


def assert_is(got, wanted, tolerance):
    got = np.asarray(got.double() if hasattr(got, "double") else got).astype(np.float64)
    np.testing.assert_allclose(got, np.asarray(wanted, np.float64), rtol=tolerance, atol=tolerance)


def rules():
    """Each for each type of numbers; differences of float16 do not overflow in float32, in which they are taken."""
    for name, rule in RULES.items():
        for dtype in DTYPES:
            if not (dtype == np.float16 and HUGE in np.abs(rule.logits)):
                yield pytest.param(rule, dtype, id=f"{name}-{dtype}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("rule", "dtype"), list(rules()))
def test_rule(isa, rule, dtype, way):
    logits, targets, options = arrays(rule, dtype)
    loss, gradient = way(logits, targets, **options)
    tolerance = {8: 1e-14, 4: 1e-6, 2: 1e-2}[dtype.itemsize]
    assert_is(loss, rule.loss, tolerance)
    assert gradient.shape == logits.shape
    if rule.gradient is not None:
        assert_is(gradient, rule.gradient, tolerance)
        exact = np.asarray(rule.gradient) == 0
        assert_is(gradient[exact], np.zeros(exact.sum()), 0)


def refusals():
    """Each by every way; torch has no uint64 arithmetic, and no gradients of integers."""
    for way in WAYS:
        for name, refusal in REFUSALS.items():
            unknown = refusal.logits.dtype.kind == "i" or refusal.targets.dtype == np.uint64
            if not (way is by_autograd and unknown):
                yield pytest.param(refusal, way, id=f"{name}-{way.__name__}")


@pytest.mark.parametrize(("refusal", "way"), list(refusals()))
def test_rule_refusal(refusal, way):
    with pytest.raises(refusal.error) as caught:
        way(refusal.logits, refusal.targets, **refusal.options)
    assert isinstance(caught.value, refusal.base)
    assert refusal.message in str(caught.value)
    assert str(caught.value).startswith("cross_entropy")


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_rule_any_integers_are_targets(kind):
    logits = np.zeros((2, 2))
    assert_is(cross_entropy(logits, np.array([0, 1], kind)), LN2, 1e-14)


def test_rule_int32_targets_in_torch():
    torch = pytest.importorskip("torch")
    leaf = torch.zeros(2, 2, requires_grad=True)
    cross_entropy(leaf, torch.tensor([0, 1], dtype=torch.int32)).backward()
    assert_is(leaf.grad, [[-0.25, 0.25], [0.25, -0.25]], 1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [1e-2, 1e-4])
def test_the_gradient_at_a_confident_target_keeps_its_digits(isa, dtype, p):
    """The result is rounded once: in half precision 1 - p would keep nothing of p."""
    gap = np.asarray(np.log((1 - p) / p)).astype(dtype)
    logits = np.array([[gap, 0]], dtype)
    gradient = cross_entropy(logits, np.array([0]), return_grad=True)[1].astype(np.float64)
    wanted = -1 / (1 + np.exp(np.float64(gap)))
    # 16-bit numbers have the error of one rounding, wider ones that of the kernel.
    limit = float(ml_dtypes.finfo(dtype).eps) * (0.51 if dtype.itemsize == 2 else 4)
    np.testing.assert_allclose(gradient, [[wanted, -wanted]], rtol=limit)
