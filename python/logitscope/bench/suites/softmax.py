"""The softmax family: rows in the cache, one row of 64 Mi out of it, and the algorithms beside each other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import logitscope
from logitscope import _native
from logitscope.bench.algorithms import ALGORITHMS, work_of
from logitscope.bench.cases import IN_CACHE, Case, Contender, Pass
from logitscope.bench.peers import as_torch, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from logitscope.bench.cases import Settings
    from logitscope.bench.peers import Peers
    from logitscope.ops.softmax import Algorithm

COLUMNS = (128, 512, 1000, 4096, 10_000, 32_000)
FEW_COLUMNS = (128, 1000, 32_000)
LONG = 1 << 26
LONG_TOLERANCE = 0.02
"""torch adds up 64 Mi float32 numbers with an error near 1 %."""


class Operation(NamedTuple):
    """One operation over rows and how each library calls it."""

    columns: tuple[int, ...]
    ours: Callable[..., Any]
    torch: Callable[..., Any]
    """Of the module and a tensor; ``out=`` where it takes one."""
    jax: Callable[[Any], Any]
    scipy: Callable[[Any, Any], Any]
    reduces: bool = False


def _jax_softmax(x: Any) -> Any:
    import jax

    return jax.nn.softmax(x, axis=-1)


def _jax_log_softmax(x: Any) -> Any:
    import jax

    return jax.nn.log_softmax(x, axis=-1)


def _jax_logsumexp(x: Any) -> Any:
    import jax

    return jax.nn.logsumexp(x, axis=-1)


OPERATIONS = {
    "softmax": Operation(
        COLUMNS,
        logitscope.softmax,
        lambda torch, x, **out: torch.softmax(x, -1, **out),
        _jax_softmax,
        lambda special, x: special.softmax(x, axis=-1),
    ),
    "log_softmax": Operation(
        FEW_COLUMNS,
        logitscope.log_softmax,
        lambda torch, x, **out: torch.log_softmax(x, -1, **out),
        _jax_log_softmax,
        lambda special, x: special.log_softmax(x, axis=-1),
    ),
    "logsumexp": Operation(
        FEW_COLUMNS,
        logitscope.logsumexp,
        lambda torch, x, **out: torch.logsumexp(x, -1, **out),
        _jax_logsumexp,
        lambda special, x: special.logsumexp(x, axis=-1),
        reduces=True,
    ),
}


def cases(settings: Settings, peers: Peers) -> Iterator[Case]:
    """Rows of each operation, then the long row."""
    itemsize = numpy_dtype(settings.dtype).itemsize
    for name, operation in OPERATIONS.items():
        for shape in _shapes(operation, settings):
            elements = shape[0] * shape[1]
            size = elements * itemsize
            sweep = Pass(read=size, exps=elements) if operation.reduces else Pass(copied=size, exps=elements)
            make = partial(_contenders, operation, shape, settings.dtype, peers)
            yield Case(name, f"{name} in cache", shape, settings.dtype, (sweep,), make)
    if settings.sizes is not None:
        return
    shape = (1, 1 << 15 if settings.smoke else LONG)
    work = work_of("two_pass", shape[1], itemsize)
    make = partial(_contenders, OPERATIONS["softmax"], shape, settings.dtype, peers)
    yield Case("softmax", "softmax of one long row", shape, settings.dtype, work, make, LONG_TOLERANCE)
    for isa in reversed(_native.available_isas()):
        if isa != "scalar":
            make = partial(_algorithms, shape, settings.dtype, isa)
            yield Case("softmax", f"algorithms, {isa}", shape, settings.dtype, work, make)


def _shapes(operation: Operation, settings: Settings) -> list[tuple[int, int]]:
    if settings.sizes is not None:
        return list(settings.sizes)
    if settings.smoke:
        return [(3, 128), (2, 1000)]
    return [(IN_CACHE // columns, columns) for columns in operation.columns]


def logits(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Normally distributed, of deviation 3."""
    numbers = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return (3 * numbers).astype(numpy_dtype(dtype))


def _contenders(operation: Operation, shape: tuple[int, int], dtype: str, peers: Peers) -> list[Contender]:
    x = logits(shape, dtype)
    made = [Contender("logitscope", partial(operation.ours, x), ours=True)]
    if not operation.reduces:
        given = partial(operation.ours, x, out=np.empty_like(x))
        made.append(Contender("logitscope", given, into="given", ours=True))
    if (torch := peers.torch) is not None:
        tensor = as_torch(torch, x)
        made.append(Contender("torch", partial(operation.torch, torch, tensor)))
        if not operation.reduces:
            given = partial(operation.torch, torch, tensor, out=torch.empty_like(tensor))
            made.append(Contender("torch", given, into="given"))
    if peers.jax is not None:
        jitted = peers.jit(operation.jax)
        array = peers.jax.numpy.asarray(x)
        made.append(Contender("jax", lambda: jitted(array).block_until_ready()))
    if peers.scipy is not None and dtype in ("float32", "float64"):
        made.append(Contender("scipy", partial(operation.scipy, peers.scipy.special, x)))
    return made


def _algorithms(shape: tuple[int, int], dtype: str, isa: str) -> list[Contender]:
    """The two algorithms of two passes against those of three."""
    x = logits(shape, dtype)
    out = np.empty_like(x)

    def run(algorithm: Algorithm) -> Any:
        in_use = _native.isa()
        _native.select_isa(isa)
        try:
            return logitscope.softmax(x, algorithm=algorithm, out=out)
        finally:
            _native.select_isa(in_use)

    return [
        Contender(
            algorithm,
            partial(run, algorithm),
            ours=not algorithm.startswith("three"),
            work=work_of(algorithm, shape[1], x.itemsize),
        )
        for algorithm in ALGORITHMS
    ]
