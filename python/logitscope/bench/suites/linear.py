"""A linear layer and cross entropy in one, forward and backward: every mode beside torch's layer and loss.

The roofline counts the three matrix products. Logits that spread widely make probabilities denormal, which slows peers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.bench.cases import Case, Contender, Pass
from logitscope.bench.peers import as_torch, numpy_dtype
from logitscope.loss import linear_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logitscope.bench.cases import Settings
    from logitscope.bench.peers import Peers

FEATURES = 512
SHAPES = ((2048, 32_000),)
SPREADS = {"linear cross entropy": 1.0, "linear cross entropy, wide logits": 30.0}
MODES = ("auto", "plain", "chunked", "recompute")
TOLERANCE = 1e-3


def cases(settings: Settings, peers: Peers) -> Iterator[Case]:
    """(rows, classes) of each spread of the logits; what is compared is the gradient of the inputs."""
    shapes = settings.sizes or (((6, 40),) if settings.smoke else SHAPES)
    for group, spread in SPREADS.items():
        for rows, classes in shapes:
            shape = (rows, FEATURES, classes)
            work = Pass(flops=6 * rows * FEATURES * classes)
            make = partial(_contenders, shape, spread, settings.dtype, peers)
            yield Case("linear_cross_entropy", group, shape, settings.dtype, (work,), make, TOLERANCE)


def _jax_loss(inputs: Any, weight: Any, targets: Any) -> Any:
    import jax

    logits = inputs @ weight.T
    own = jax.numpy.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=-1) - own).mean()


def _contenders(shape: tuple[int, int, int], spread: float, dtype: str, peers: Peers) -> list[Contender]:
    rows, features, classes = shape
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((rows, features), dtype=np.float32).astype(numpy_dtype(dtype))
    weight = rng.standard_normal((classes, features), dtype=np.float32) * (spread / features**0.5)
    weight = weight.astype(numpy_dtype(dtype))
    targets = rng.integers(0, classes, rows)

    def ours(mode: Any) -> Any:
        return linear_cross_entropy(inputs, weight, targets, mode=mode, return_grad=True)[1].input

    made = [Contender(f"logitscope, {mode}", partial(ours, mode), ours=True) for mode in MODES]
    if (torch := peers.torch) is not None:
        tensors = [as_torch(torch, x).requires_grad_() for x in (inputs, weight)]
        of_rows = torch.from_numpy(targets)

        def by_torch() -> Any:
            logits = torch.nn.functional.linear(*tensors)
            loss = torch.nn.functional.cross_entropy(logits, of_rows)
            return torch.autograd.grad(loss, tensors)[0]

        made.append(Contender("torch", by_torch))
    if (jax := peers.jax) is not None:
        both = peers.jit(jax.value_and_grad(_jax_loss, argnums=(0, 1)))
        arrays = [jax.numpy.asarray(x) for x in (inputs, weight, targets)]

        def by_jax() -> Any:
            _, (of_inputs, of_weight) = both(*arrays)
            of_weight.block_until_ready()
            return of_inputs

        made.append(Contender("jax", by_jax))
    return made
