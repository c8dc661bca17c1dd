"""One training step of output layers over very many classes: loss, gradient of the hidden rows, and update.

What SphericalOutput, whose step does not depend on the number of classes, is held against: the two-level
HierarchicalSoftmax with sparse gradients, and a dense layer with our own fused cross entropy. All descend plainly.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from logitscope.bench.cases import Case, Contender, Pass
from logitscope.bench.peers import numpy_dtype
from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logitscope.bench.cases import Settings
    from logitscope.bench.peers import Peers

FEATURES = 256
ROWS = 128
CLASSES = (1000, 10_000, 100_000, 793_471)
RATE = 0.01


def cases(settings: Settings, peers: Peers) -> Iterator[Case]:
    """(rows, classes); the losses are others, so what is compared is whether the hidden rows have a gradient."""
    shapes = settings.sizes or (((6, 40),) if settings.smoke else [(ROWS, classes) for classes in CLASSES])
    for rows, classes in shapes:
        # The products of the hidden rows with matrices (d, d): four forward and back, and those of the update.
        work = Pass(flops=16 * rows * FEATURES**2)
        make = partial(_contenders, rows, classes, settings.dtype, peers)
        yield Case("output", "output layers", (rows, FEATURES, classes), settings.dtype, (work,), make)


def _contenders(rows: int, classes: int, dtype: str, peers: Peers) -> list[Contender]:
    torch = peers.torch
    if torch is None:
        message = "bench: output layers are torch modules; use pip install logitscope[torch]"
        raise ArgumentError(message)
    from logitscope.nn import HierarchicalSoftmax, SphericalOutput
    from logitscope.nn.functional import linear_cross_entropy

    kind = getattr(torch, numpy_dtype(dtype).name)
    torch.manual_seed(0)
    hidden = torch.randn(rows, FEATURES, dtype=kind, requires_grad=True)
    targets = torch.randint(0, classes, (rows,))
    spherical = SphericalOutput(FEATURES, classes, lr=RATE, dtype=kind)
    hierarchical = HierarchicalSoftmax(FEATURES, classes, sparse=True).to(kind)
    weight = torch.empty(classes, FEATURES, dtype=kind).normal_(0.0, 0.01).requires_grad_()

    def step(layer: Callable[..., Any], parameters: list[Any]) -> Any:
        layer(hidden, targets).backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=-RATE)
                parameter.grad = None
        gradient, hidden.grad = hidden.grad, None
        return gradient

    def dense(hidden: Any, targets: Any) -> Any:
        return linear_cross_entropy(hidden, weight, targets)

    return [
        Contender("SphericalOutput", partial(step, spherical, []), ours=True, answer=_is_a_gradient),
        Contender(
            "HierarchicalSoftmax",
            partial(step, hierarchical, list(hierarchical.parameters())),
            answer=_is_a_gradient,
        ),
        Contender("dense layer", partial(step, dense, [weight]), answer=_is_a_gradient),
    ]


def _is_a_gradient(gradient: Any) -> Any:
    """1 where a number is finite and its row is not all 0."""
    return (gradient.isfinite() & (gradient != 0).any(dim=-1, keepdim=True)).double()
