"""Losses over class logits: cross entropy, forward and backward together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.bench.cases import Case, Contender, Pass
from logitscope.bench.peers import as_torch, numpy_dtype
from logitscope.bench.suites.softmax import logits
from logitscope.loss import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logitscope.bench.cases import Settings
    from logitscope.bench.peers import Peers

SHAPES = ((2048, 32_000), (512, 128_256), (8192, 1000))


def cases(settings: Settings, peers: Peers) -> Iterator[Case]:
    """Cross entropy of each shape; what is compared is the gradient."""
    shapes = settings.sizes or (((6, 40), (3, 1000)) if settings.smoke else SHAPES)
    for shape in shapes:
        elements = shape[0] * shape[1]
        work = Pass(copied=elements * numpy_dtype(settings.dtype).itemsize, exps=elements)
        make = partial(_contenders, shape, settings.dtype, peers)
        yield Case(
            "cross_entropy", "cross entropy, forward and backward", shape, settings.dtype, (work,), make
        )


def _jax_loss(logits: Any, targets: Any) -> Any:
    import jax

    own = jax.numpy.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=-1) - own).mean()


def _contenders(shape: tuple[int, int], dtype: str, peers: Peers) -> list[Contender]:
    x = logits(shape, dtype)
    targets = np.random.default_rng(1).integers(0, shape[1], shape[0])
    given = np.empty_like(x)
    made = [
        Contender("logitscope", lambda: cross_entropy(x, targets, return_grad=True)[1], ours=True),
        Contender(
            "logitscope", lambda: cross_entropy(x, targets, grad_out=given)[1], into="given", ours=True
        ),
    ]
    if (torch := peers.torch) is not None:
        tensor = as_torch(torch, x).requires_grad_()
        classes = torch.from_numpy(targets)

        def torch_gradient(loss: Any) -> Any:
            return torch.autograd.grad(loss(tensor, classes), tensor)[0]

        made.append(Contender("torch", partial(torch_gradient, torch.nn.functional.cross_entropy)))
        made.append(
            Contender("logitscope, torch autograd", partial(torch_gradient, cross_entropy), ours=True)
        )
    if (jax := peers.jax) is not None:
        both = peers.jit(jax.value_and_grad(_jax_loss))
        array, classes_of_rows = jax.numpy.asarray(x), jax.numpy.asarray(targets)

        def jax_gradient() -> Any:
            _, gradient = both(array, classes_of_rows)
            return gradient.block_until_ready()

        made.append(Contender("jax", jax_gradient))
    return made
