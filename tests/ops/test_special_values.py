"""NaN and infinities in every operation on rows: on each instruction set, in each element type, at each kind of place.

A bad number may sit in the first vector of a row, in the middle, at the edges of the last whole vector, or in the
rest that no vector holds. Whatever it is, it changes no bit of another row.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

import logitscope
from logitscope import activation, loss
from logitscope.ops.softmax import Algorithm
from row_oracles import DTYPES

INF, NAN = np.inf, np.nan
SIZE = 67
PLACES = (0, 7, 15, 16, 40, 63, 64, 66)
TARGETS = np.array([4, 20, 66])


class Operation(NamedTuple):
    """An operation on rows and what bad numbers do to the results of their row."""

    call: object
    """Of an array of three rows; gives the results, one row each."""
    nan: str | None = "row"
    """What NaN spoils: the whole row, or its lane alone; None where that depends on the place."""
    infinity: str | None = "row"
    """The same for +inf; "infinite" if it leaves no finite number; None where it has a limit, tested elsewhere."""
    nothing: str | None = "left out"
    """What -inf is: an element that might as well not be there; "fine" if no NaN comes of it; or as above."""
    dtypes: tuple = DTYPES
    """The types of numbers it takes."""


INFINITE = {"infinity": "infinite", "nothing": "infinite"}


def one(function, **options):
    return lambda x: (function(x, **options),)


def backward(function, *, into):
    """The gradient of an operation, with the bad number in what the operation returned or in the upstream."""

    def call(x):
        inputs = [np.full(x.shape, 0.25, x.dtype), np.full(x.shape, 0.5, x.dtype)]
        inputs[into] = x
        return (function(*inputs),)

    return call


def with_gradient(function, *, targets=TARGETS, **options):
    return partial(function, targets=targets, reduction="none", return_grad=True, **options)


def soft(x):
    masses = np.full(x.shape, 1 / SIZE).astype(x.dtype)
    return loss.cross_entropy(x, masses, reduction="none", return_grad=True)


def of_lse(x):
    lse = logitscope.logsumexp(x)
    return (logitscope.logsumexp_backward(x, lse, np.ones_like(lse)),)


def binary(x, function=loss.binary_cross_entropy_with_logits):
    return function(x, np.zeros_like(x), reduction="none", return_grad=True)


def of_stablemax(x):
    y = logitscope.stablemax(np.zeros_like(x))
    return (logitscope.stablemax_backward(x, y, np.ones_like(y)),)


def of_log_stablemax(x):
    y = logitscope.log_stablemax(np.zeros_like(x))
    return (logitscope.log_stablemax_backward(x, y, np.ones_like(y)),)


def of_topk(x):
    indices, weights = logitscope.topk_softmax(clean(x.dtype), 5, return_indices=True)
    return (logitscope.topk_softmax_backward(weights, x[:, :5], indices=indices, size=SIZE),)


def of_poly_relu(x):
    return (activation.poly_relu_backward(x, np.ones_like(x), np.float32([1, 2, 3]))[0],)


def of_poly_norm(x):
    weight = np.float32([1, 2, 3])
    _, saved = activation.poly_norm(x, weight, return_saved=True)
    return (activation.poly_norm_backward(x, np.ones_like(x), weight, saved)[0],)


def linear(x, mode):
    """The bad number is in a row of the layer's input."""
    weight = np.cos(np.arange(5 * SIZE)).reshape(5, SIZE).astype(x.dtype)
    options = {"mode": mode, "reduction": "none"}
    losses = loss.linear_cross_entropy(x, weight, np.array([1, 4, 0]), **options)
    dloss = np.ones_like(losses)
    gradients = loss.linear_cross_entropy_backward(dloss, x, weight, np.array([1, 4, 0]), **options)
    return losses, gradients.input


OPERATIONS = {
    **{f"softmax, {name}": Operation(one(logitscope.softmax, algorithm=name)) for name in Algorithm.__args__},
    "softmax, empty zero": Operation(one(logitscope.softmax, empty="zero")),
    "softmax_backward, y": Operation(
        backward(logitscope.softmax_backward, into=0), infinity="infinite", nothing="infinite"
    ),
    "softmax_backward, dy": Operation(
        backward(logitscope.softmax_backward, into=1), infinity="infinite", nothing="infinite"
    ),
    "log_softmax": Operation(one(logitscope.log_softmax)),
    "log_softmax_backward, y": Operation(
        backward(logitscope.log_softmax_backward, into=0), nan="lane", infinity=None, nothing=None
    ),
    "log_softmax_backward, dy": Operation(
        backward(logitscope.log_softmax_backward, into=1), infinity="infinite", nothing="infinite"
    ),
    "logsumexp": Operation(one(logitscope.logsumexp), infinity=None),
    "logsumexp, pair": Operation(
        partial(logitscope.logsumexp, return_pair=True), infinity=None, nothing=None
    ),
    "logsumexp_backward": Operation(of_lse),
    "softmax_stats": Operation(logitscope.softmax_stats, infinity=None, nothing=None),
    "sparsemax": Operation(one(logitscope.sparsemax)),
    "entmax15": Operation(one(logitscope.entmax15)),
    "sparsemax_backward, y": Operation(
        backward(logitscope.sparsemax_backward, into=0), infinity=None, nothing=None
    ),
    "sparsemax_backward, dy": Operation(
        backward(logitscope.sparsemax_backward, into=1), infinity="infinite", nothing="infinite"
    ),
    "entmax15_backward, y": Operation(
        backward(logitscope.entmax15_backward, into=0), infinity=None, nothing=None
    ),
    "entmax15_backward, dy": Operation(
        backward(logitscope.entmax15_backward, into=1), infinity="infinite", nothing="infinite"
    ),
    "stablemax": Operation(one(logitscope.stablemax)),
    "stablemax_backward, x": Operation(of_stablemax, nan="lane", infinity=None, nothing=None),
    "log_stablemax": Operation(one(logitscope.log_stablemax)),
    "log_stablemax_backward, x": Operation(of_log_stablemax, nan="lane", infinity=None, nothing=None),
    "topk_softmax": Operation(one(logitscope.topk_softmax, k=5), infinity=None),
    "topk_softmax, the selected": Operation(
        partial(logitscope.topk_softmax, k=5, return_indices=True), infinity=None, nothing="fine"
    ),
    "topk_softmax_backward": Operation(of_topk, nan=None, infinity=None, nothing=None),
    "ext_exp": Operation(logitscope.ext_exp, nan="lane", infinity=None, nothing=None),
    "poly_relu": Operation(
        one(activation.poly_relu, weight=np.float32([1, 2, 3])), nan="lane", infinity=None, nothing=None
    ),
    "poly_norm": Operation(one(activation.poly_norm, weight=np.float32([1, 2, 3])), nothing="row"),
    "poly_relu_backward": Operation(of_poly_relu, nan="lane", infinity=None, nothing=None),
    "poly_norm_backward": Operation(of_poly_norm, nothing="row"),
    "logsumexp_penalty": Operation(
        partial(loss.logsumexp_penalty, reduction="none", return_grad=True), infinity=None
    ),
    **{
        f"linear_cross_entropy, {mode}": Operation(partial(linear, mode=mode), nothing="row")
        for mode in ("chunked", "recompute")
    },
    "cross_entropy": Operation(with_gradient(loss.cross_entropy)),
    "cross_entropy, textbook": Operation(with_gradient(loss.cross_entropy, complement=False)),
    "cross_entropy, every option": Operation(
        with_gradient(
            loss.cross_entropy,
            label_smoothing=0.1,
            smooth_over="finite",
            temperature=1.3,
            lse_square_scale=0.02,
            entropy_weight=0.1,
        ),
        nothing="fine",
    ),
    "cross_entropy, softcap": Operation(
        with_gradient(loss.cross_entropy, softcap=4.0), infinity=None, nothing=None
    ),
    "cross_entropy, soft targets": Operation(soft, nothing=None),
    "comp_sum_loss": Operation(with_gradient(loss.comp_sum_loss, tau=1.5)),
    "generalized_cross_entropy": Operation(with_gradient(loss.generalized_cross_entropy)),
    "focal_loss": Operation(with_gradient(loss.focal_loss)),
    "poly_loss": Operation(with_gradient(loss.poly_loss)),
    "symmetric_cross_entropy": Operation(with_gradient(loss.symmetric_cross_entropy)),
    "stablemax_cross_entropy": Operation(with_gradient(loss.stablemax_cross_entropy)),
    "margin_loss": Operation(with_gradient(loss.margin_loss)),
    "taylor_softmax_loss": Operation(with_gradient(loss.taylor_softmax_loss), nothing="row"),
    "spherical_softmax_loss": Operation(with_gradient(loss.spherical_softmax_loss), nothing="row"),
    "spherical_loss, squared": Operation(with_gradient(loss.spherical_loss, kind="squared"), nothing="row"),
    "z_standardized_loss": Operation(with_gradient(loss.z_standardized_loss), nothing="row"),
    "binary_cross_entropy": Operation(binary, nan="lane", infinity=None, nothing=None),
    "sigmoid_focal_loss": Operation(
        partial(binary, function=loss.sigmoid_focal_loss), nan="lane", infinity=None, nothing=None
    ),
}


def clean(dtype):
    x = np.random.default_rng(0).standard_normal((3, SIZE)).astype(dtype)
    x[:, ::5] -= 6
    return x


def results(operation, x):
    """The results as plain arrays of floats or integers."""
    return [np.asarray(result) for result in operation.call(x)]


def floats(arrays):
    return [array.astype(np.float64) for array in arrays if array.dtype.kind not in "iub"]


def lanes_of(result, place):
    """What a bad number at a place may spoil alone: its lane, or all of a row that has one number."""
    return result[1, place] if result.ndim == 2 else result[1]


def every(operations):
    """Each operation with each type of numbers that it takes."""
    cases = [(name, operation, dtype) for name, operation in operations.items() for dtype in operation.dtypes]
    ids = [f"{name}-{dtype}" for name, _, dtype in cases]
    return pytest.mark.parametrize(("operation", "dtype"), [case[1:] for case in cases], ids=ids)


@every(OPERATIONS)
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_bad_number_stays_in_its_row(isa, operation, dtype, bad):
    wanted = results(operation, clean(dtype))
    for place in PLACES:
        x = clean(dtype)
        x[1, place] = bad
        got = results(operation, x)
        for array, untouched in zip(got, wanted, strict=True):
            assert array[[0, 2]].tobytes() == untouched[[0, 2]].tobytes(), place
        spoilt = operation.nan if np.isnan(bad) else operation.infinity if bad > 0 else operation.nothing
        for array in floats(got):
            if spoilt == "row":
                assert np.isnan(array[1]).all(), place
            elif spoilt == "lane":
                assert np.isnan(lanes_of(array, place)).all(), place
            elif spoilt == "infinite":
                assert not np.isfinite(array[1]).any(), place
            elif spoilt is not None:
                assert not np.isnan(array[1]).any(), place


LEFT_OUT = {name: one for name, one in OPERATIONS.items() if one.nothing == "left out"}


@every(LEFT_OUT)
def test_negative_infinity_might_as_well_not_be_there(isa, operation, dtype):
    for place in PLACES:
        if place in TARGETS:
            continue
        x = clean(dtype)
        x[:, place] = -INF
        low = x.copy()
        low[:, place] = -1e4 if dtype.itemsize == 2 else -1e30
        tolerance = {8: 1e-13, 4: 2e-6, 2: 2e-2}[dtype.itemsize]
        for got, wanted in zip(floats(results(operation, x)), floats(results(operation, low)), strict=True):
            if got.ndim == 2:
                assert (np.isneginf(got[:, place]) | (np.abs(got[:, place]) == 0)).all()
                got, wanted = np.delete(got, place, -1), np.delete(wanted, place, -1)
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


LONG = (1 << 17) + 37


@pytest.mark.parametrize("place", [0, 65_535, 65_536, 131_071, 131_072, LONG - 1])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_bad_number_anywhere_in_a_long_row_spoils_it(isa, dtype, place):
    for bad, limit in ((NAN, NAN), (INF, INF)):
        x = np.zeros((2, LONG), dtype)
        x[1, place] = bad
        for algorithm in Algorithm.__args__:
            y = logitscope.softmax(x, algorithm=algorithm)
            assert np.isnan(y[1].astype(np.float32)).all()
            assert not np.isnan(y[0].astype(np.float32)).any()
        assert np.isnan(logitscope.log_softmax(x)[1].astype(np.float32)).all()
        lse = logitscope.logsumexp(x).astype(np.float64)
        np.testing.assert_array_equal(lse[1], limit)
        assert np.isfinite(lse[0])
