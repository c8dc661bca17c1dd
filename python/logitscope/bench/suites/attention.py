"""Attention: forward, forward with backward, and decoding with a long cache, beside torch's fused kernel and JAX.

The roofline counts multiplications and additions alone, as papers do; exponentials come on top.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

import logitscope
from logitscope.bench.cases import Case, Contender, Pass
from logitscope.bench.peers import as_torch, numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from logitscope.bench.cases import Settings
    from logitscope.bench.peers import Peers

LENGTHS = (128, 512, 2048, 8192)
TRAINED = 2048
"""The longest that is measured with its backward pass."""
HALVED = (512, 2048)
"""The lengths that are also measured in bfloat16."""
HEAD_SIZES = (64, 128)
CACHE = 8192
BINS = 32
TOP = 8
DROPPED = (512, 64)
"""The length and head size that are measured with dropout."""
RATE = 0.1
TOLERANCE = 1e-3

Shape = tuple[int, int, int, int, int]
"""Heads, heads of keys, queries, keys, head size."""


def cases(settings: Settings, peers: Peers) -> Iterator[Case]:
    """Square attention of each length and head size, causal or not; then one query over a cache; some in bfloat16."""
    sizes = settings.sizes or [(length, size) for length in LENGTHS for size in HEAD_SIZES]
    if settings.smoke:
        sizes = [(20, 16)]
    yield from _of_dtype(sizes, settings.dtype, settings, peers)
    if settings.sizes is None and settings.dtype == "float32" and find_spec("ml_dtypes"):
        halved = [(length, size) for length, size in sizes if length in HALVED or settings.smoke]
        yield from _of_dtype(halved, "bfloat16", settings, peers)


def _of_dtype(
    sizes: Iterable[tuple[int, int]], dtype: str, settings: Settings, peers: Peers
) -> Iterator[Case]:
    for backward in (False, True):
        for length, size in sizes:
            if settings.sizes or not backward or length <= TRAINED:
                for causal in (False, True):
                    yield _square(length, size, causal, backward, dtype, peers)
    if settings.sizes is None and dtype == "float32":
        length, size = (20, 16) if settings.smoke else DROPPED
        for backward in (False, True):
            yield _dropout(length, size, backward, peers)
    if settings.sizes is None:
        keys = 50 if settings.smoke else CACHE
        for heads_of_keys in (32, 8):
            yield _decode((32, heads_of_keys, 1, keys, 128), dtype, peers)


def _square(length: int, size: int, causal: bool, backward: bool, dtype: str, peers: Peers) -> Case:
    heads = min(16, max(1, CACHE // length))
    products = 7 if backward else 2
    seen = heads * length * (length + 1) // 2 if causal else heads * length * length
    name = (
        f"{'causal, ' if causal else ''}{'forward and backward' if backward else 'forward'}{_suffix(dtype)}"
    )
    shape = (heads, heads, length, length, size)
    make = partial(_contenders, shape, causal, backward, dtype, peers)
    flops = 2 * products * seen * size
    work = (Pass(bf16_flops=flops) if dtype == "bfloat16" else Pass(flops=flops),)
    return Case("attention", f"attention, {name}", (heads, length, size), dtype, work, make, TOLERANCE)


def _decode(shape: Shape, dtype: str, peers: Peers) -> Case:
    heads, heads_of_keys, _, keys, size = shape
    read = 2 * heads_of_keys * keys * size * numpy_dtype(dtype).itemsize
    make = partial(_contenders, shape, False, False, dtype, peers)
    group = "attention, decoding" if heads == heads_of_keys else "attention, decoding with shared keys"
    group += _suffix(dtype)
    return Case(
        "decode", group, (heads, heads_of_keys, keys, size), dtype, (Pass(read=read),), make, TOLERANCE
    )


def _dropout(length: int, size: int, backward: bool, peers: Peers) -> Case:
    heads, name = CACHE // 512, "forward and backward" if backward else "forward"
    shape = (heads, heads, length, length, size)
    make = partial(_with_dropout, shape, backward, peers)
    work = (Pass(flops=2 * (7 if backward else 2) * heads * length * length * size),)
    group = f"attention, {name}, dropout"
    return Case("attention", group, (heads, length, size), "float32", work, make)


def _with_dropout(shape: Shape, backward: bool, peers: Peers) -> list[Contender]:
    """Everyone draws for himself what is dropped, so answers have the shape alone in common."""
    q, k, v, dout = _arrays(shape, "float32")

    def ours() -> Any:
        options: dict[str, Any] = {"dropout_p": RATE, "seed": 1}
        result = logitscope.attention(q, k, v, **options)
        return logitscope.attention_backward(dout, q, k, v, result, **options).dq if backward else result.out

    made = [Contender("logitscope", ours, ours=True, answer=_shape)]
    if (torch := peers.torch) is not None:
        tensors = [as_torch(torch, x).requires_grad_(backward) for x in (q, k, v)]
        upstream = as_torch(torch, dout)

        def theirs() -> Any:
            out = torch.nn.functional.scaled_dot_product_attention(*tensors, dropout_p=RATE)
            return torch.autograd.grad(out, tensors, upstream)[0] if backward else out

        made.append(Contender("torch", theirs, answer=_shape))
    return made


def _shape(array: Any) -> Any:
    return np.array(array.shape, np.float32)


def _suffix(dtype: str) -> str:
    """What keeps the ratios of 16-bit numbers apart from those of the others."""
    return f", {dtype}" if dtype in ("float16", "bfloat16") else ""


def _arrays(shape: Shape, dtype: str) -> list[NDArray[Any]]:
    heads, heads_of_keys, queries, keys, size = shape
    rng = np.random.default_rng(0)
    sizes = [(1, heads, queries, size), *[(1, heads_of_keys, keys, size)] * 2, (1, heads, queries, size)]
    return [rng.standard_normal(one, dtype=np.float32).astype(numpy_dtype(dtype)) for one in sizes]


def _contenders(shape: Shape, causal: bool, backward: bool, dtype: str, peers: Peers) -> list[Contender]:
    q, k, v, dout = _arrays(shape, dtype)

    def ours() -> Any:
        result = logitscope.attention(q, k, v, is_causal=causal)
        if not backward:
            return result.out
        return logitscope.attention_backward(dout, q, k, v, result, is_causal=causal).dk

    reads = (k, v) if shape[2] == 1 else ()
    made = [Contender("logitscope", ours, ours=True, reads=reads)]
    if reads:
        cache = logitscope.KVCache(1, shape[1], shape[3], shape[4], dtype=numpy_dtype(dtype))
        cache.append(k, v)
        decode = partial(logitscope.attention_decode, q, cache)
        reads_of_cache = (cache.keys, cache.values)
        made.append(Contender("logitscope, KVCache", lambda: decode().out, ours=True, reads=reads_of_cache))
    if not backward and shape[2] > 1:

        def watched() -> Any:
            bins = (min(BINS, shape[2]), min(BINS, shape[3]))
            return logitscope.attention(q, k, v, is_causal=causal, stats=("entropy",), map_bins=bins).out

        made.append(Contender("logitscope, entropy and map", watched, ours=True))
        statistics = {"stats": ("entropy", "logits", "variance")}
        top = {"top_keys": min(TOP, shape[3])}
        for name, options in (("all statistics", statistics), (f"{TOP} top keys", top)):
            run = partial(_out, q, k, v, is_causal=causal, **options)
            made.append(Contender(f"logitscope, {name}", run, ours=True))
    shared = shape[0] != shape[1]
    if (torch := peers.torch) is not None:
        tensors = [as_torch(torch, x).requires_grad_(backward) for x in (q, k, v)]
        upstream = as_torch(torch, dout)

        def by_torch(function: Any, **options: Any) -> Any:
            out = function(*tensors, is_causal=causal, **options)
            return torch.autograd.grad(out, tensors, upstream)[1] if backward else out

        fused = torch.nn.functional.scaled_dot_product_attention
        made.append(Contender("torch", partial(by_torch, fused, enable_gqa=shared), reads=reads))
        if backward:
            from logitscope.nn.functional import attention

            of_result = partial(by_torch, lambda *inputs, **options: attention(*inputs, **options).out)
            made.append(Contender("logitscope, torch autograd", of_result, ours=True))
    if (jax := peers.jax) is not None:
        # Its axes are (batch, length, heads, size).
        inputs = [jax.numpy.asarray(x.swapaxes(1, 2)) for x in (q, k, v, dout)]
        jitted = peers.jit(_by_jax(jax, causal, backward))
        run = partial(_finished, jax, jitted, *inputs)
        made.append(Contender("jax", run, answer=lambda results: results[-1].swapaxes(1, 2)))
    return made


def _out(*inputs: Any, **options: Any) -> Any:
    return logitscope.attention(*inputs, **options).out


def _finished(jax: Any, function: Any, *inputs: Any) -> Any:
    return jax.block_until_ready(function(*inputs))


def _by_jax(jax: Any, causal: bool, backward: bool) -> Any:
    """Gives all results, what is compared last: of a jitted function XLA leaves out what nobody gets."""

    def forward(q: Any, k: Any, v: Any, _: Any) -> Any:
        return (jax.nn.dot_product_attention(q, k, v, is_causal=causal),)

    def both(q: Any, k: Any, v: Any, dout: Any) -> Any:
        out, pull = jax.vjp(partial(jax.nn.dot_product_attention, is_causal=causal), q, k, v)
        dq, dk, dv = pull(dout)
        return out, dq, dv, dk

    return both if backward else forward
