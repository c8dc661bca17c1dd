"""Errors in units in the last place (ULP): ours beside torch's, both against float64.

An error is the distance to the true value in units of the last binary place that the true value has in the element
type. Left out are true values below twice the smallest normal number: exponentials below 2^-125.5 are 0 here. NaN or
an infinity where the truth is finite counts as an infinite error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import logitscope
from logitscope.bench.peers import as_torch
from logitscope.bench.report import Table
from logitscope.loss import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]

SHAPES = ((64, 17), (64, 1000), (16, 32_000))


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one operation on one kind of logits."""

    operation: str
    logits: str
    who: str
    largest: float
    median: float


class Operation(NamedTuple):
    """An operation on rows and their targets, in float64 and as the libraries compute it."""

    truth: Callable[[Array, Array], Array]
    ours: Callable[[Array, Array], Array]
    torch: Callable[[Any, Any, Any], Any]
    """Of the module, logits and targets."""


def _powers(x: Array) -> Array:
    powers: Array = np.exp(x - x.max(-1, keepdims=True))
    return powers


def _softmax(x: Array, _: Array) -> Array:
    powers = _powers(x)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _others(x: Array, own: Array) -> tuple[Array, Array]:
    """The largest of the logits other than the own one, less that; and the sum of powers relative to it."""
    distances = x - np.take_along_axis(x, own[:, None], -1)
    np.put_along_axis(distances, own[:, None], -np.inf, -1)
    largest = distances.max(-1)
    return largest, np.exp(distances - largest[:, None]).sum(-1)


def _loss(x: Array, targets: Array) -> Array:
    """log(1 + sum e^d) of the distances d to the others, so that nothing cancels."""
    largest, total = _others(x, targets)
    return np.asarray(np.logaddexp(0, largest + np.log(total)))


def _log_softmax(x: Array, _: Array) -> Array:
    """As a loss where the element is the largest; elsewhere nothing cancels."""
    first = x.argmax(-1)
    lowest = _loss(x, first)
    result: Array = (x - np.take_along_axis(x, first[:, None], -1)) - lowest[:, None]
    np.put_along_axis(result, first[:, None], -lowest[:, None], -1)
    return result


def _logsumexp(x: Array, _: Array) -> Array:
    return np.asarray(x.max(-1) + np.log(_powers(x).sum(-1)))


def _gradient(x: Array, targets: Array) -> Array:
    gradient = _softmax(x, targets)
    np.put_along_axis(gradient, targets[:, None], np.expm1(-_loss(x, targets))[:, None], -1)
    return gradient


def _torch_gradient(torch: Any, x: Any, targets: Any) -> Any:
    leaf = x.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(leaf, targets, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


OPERATIONS = {
    "softmax": Operation(
        _softmax, lambda x, _: logitscope.softmax(x), lambda torch, x, _: torch.softmax(x, -1)
    ),
    "log_softmax": Operation(
        _log_softmax, lambda x, _: logitscope.log_softmax(x), lambda torch, x, _: torch.log_softmax(x, -1)
    ),
    "logsumexp": Operation(
        _logsumexp, lambda x, _: logitscope.logsumexp(x), lambda torch, x, _: torch.logsumexp(x, -1)
    ),
    "cross_entropy": Operation(
        _loss,
        lambda x, targets: cross_entropy(x, targets, reduction="none"),
        lambda torch, x, targets: torch.nn.functional.cross_entropy(x, targets, reduction="none"),
    ),
    "its gradient": Operation(
        _gradient,
        lambda x, targets: cross_entropy(x, targets, reduction="sum", return_grad=True)[1],
        _torch_gradient,
    ),
}

LOGITS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "normal, deviation 1": lambda rng, shape: rng.standard_normal(shape),
    "normal, deviation 10": lambda rng, shape: 10 * rng.standard_normal(shape),
    "uniform in -1000..1000": lambda rng, shape: rng.uniform(-1000, 1000, shape),
    "normal around 100000": lambda rng, shape: 1e5 + rng.standard_normal(shape),
    "one 20 above the others": lambda rng, shape: (
        rng.standard_normal(shape) + 20 * (np.arange(shape[1]) == 3)
    ),
    "all equal": lambda rng, shape: np.full(shape, rng.standard_normal()),
}


def samples(kind: str, shapes: tuple[tuple[int, int], ...]) -> Iterator[tuple[Array, Array]]:
    """Logits in float32 and targets; always the same."""
    for index, shape in enumerate(shapes):
        rng = np.random.default_rng(index)
        x = LOGITS[kind](rng, shape).astype(np.float32)
        targets = rng.integers(0, shape[1], shape[0])
        targets[::2] = x.argmax(-1)[::2]
        yield x, targets


def ulps(got: Array, truth: Array) -> Array:
    """Errors of the results whose true value is not too small."""
    numbers = np.finfo(got.dtype)
    normal = np.abs(truth) >= 2 * numbers.tiny
    got, truth = got.astype(np.float64)[normal], truth[normal]
    unit = np.exp2(np.floor(np.log2(np.abs(truth)))) * float(numbers.eps)
    errors: Array = np.where(np.isfinite(got), np.abs(got - truth) / unit, np.inf)
    return errors


def measure(torch: Any, shapes: tuple[tuple[int, int], ...] = SHAPES) -> list[Errors]:
    """Errors of all operations on all kinds of logits; without torch's where that is None."""
    measured = []
    for name, operation in OPERATIONS.items():
        for kind in LOGITS:
            errors: dict[str, list[Array]] = {"logitscope": []}
            for x, targets in samples(kind, shapes):
                truth = operation.truth(x.astype(np.float64), targets)
                errors["logitscope"].append(ulps(np.asarray(operation.ours(x, targets)), truth))
                if torch is not None:
                    got = operation.torch(torch, as_torch(torch, x), torch.from_numpy(targets)).numpy()
                    errors.setdefault("torch", []).append(ulps(got, truth))
            for who, parts in errors.items():
                together = np.concatenate(parts)
                measured.append(
                    Errors(name, kind, who, float(together.max(initial=0)), float(np.median(together)))
                )
    return measured


def table(measured: list[Errors]) -> Table:
    """One line an operation and kind of logits."""
    whos = list(dict.fromkeys(errors.who for errors in measured))
    columns = ["operation", "logits", *(f"{who}, {which}" for who in whos for which in ("largest", "median"))]
    lines: dict[tuple[str, str], list[str]] = {}
    for errors in measured:
        lines.setdefault((errors.operation, errors.logits), []).extend(
            (_number(errors.largest), _number(errors.median))
        )
    return Table("errors in ULP, float32", columns, [[*key, *numbers] for key, numbers in lines.items()])


def _number(error: float) -> str:
    return f"{error:.2f}" if error < 1000 else f"{error:.1e}"
