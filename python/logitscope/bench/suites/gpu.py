"""Operations on a GPU beside the CPU's: where the arrays are there already, and with the copies there and back.

Beside them the card's own limits: a copy of as many bytes in its memory, as many multiplications and additions. The
ratio of a limit is the share of it that is reached; the CPU's, beside "with copies", is above 1 where sending pays.
It needs a GPU, or `LOGITSCOPE_GPU_ADAPTER` with the name of software that stands for one, and says so where there is
none.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import logitscope
from logitscope.bench.cases import Case, Contender, Pass
from logitscope.bench.peers import numpy_dtype
from logitscope.bench.suites.softmax import logits
from logitscope.gpu import Device, GpuArray, available, default_device
from logitscope.loss import cross_entropy, linear_cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logitscope.bench.cases import Settings
    from logitscope.bench.peers import Peers

    OpenDevice = Callable[[], Device]
    Limit = Callable[[Device, list[GpuArray]], object]

ON_CPU, THERE, COPIED = "CPU", "GPU", "GPU with copies"
LIMIT = "GPU's "
"""How the names of the card's own limits begin."""
SHAPES = ((1, 1000), (64, 1000), (1024, 1000), (65_536, 128), (8192, 1000), (2048, 4096), (2048, 32_000))
LINEAR = ((256, 128, 8192), (2048, 512, 32_000))
ATTENTION = ((128, 64), (512, 64), (2048, 64))
HEADS = 8


def cases(settings: Settings, peers: Peers) -> Iterator[Case]:
    """Softmax and cross entropy of each shape, then a linear layer with its loss, then attention of each length."""
    if settings.smoke and not available(allow_software=True):
        return
    device = partial(Device, allow_software=True) if settings.smoke else default_device
    shapes = settings.sizes or (((6, 40),) if settings.smoke else SHAPES)
    itemsize = numpy_dtype(settings.dtype).itemsize
    for rows, columns in shapes:
        work = (Pass(copied=rows * columns * itemsize, exps=rows * columns),)
        for name, make in (("softmax", _softmax), ("cross_entropy", _cross_entropy)):
            contenders = partial(make, (rows, columns), settings.dtype, peers, device)
            yield Case(name, f"{name} on a GPU", (rows, columns), settings.dtype, work, contenders)
    for sizes in () if settings.sizes else ((4, 8, 40),) if settings.smoke else LINEAR:
        work = (Pass(flops=8 * int(np.prod(sizes))),)
        contenders = partial(_linear, sizes, settings.dtype, peers, device)
        group = "linear cross entropy with gradients on a GPU"
        yield Case("linear_cross_entropy", group, sizes, settings.dtype, work, contenders, 1e-3)
    for length, size in () if settings.sizes else ((16, 16),) if settings.smoke else ATTENTION:
        shape = (HEADS, length, size)
        work = (Pass(flops=4 * HEADS * length * length * size),)
        make_attention = partial(_attention, shape, settings.dtype, peers, device)
        yield Case("attention", "attention on a GPU", shape, settings.dtype, work, make_attention, 1e-3)


def measured_on() -> str:
    """Name the GPU, its driver with it."""
    info = default_device().info
    return f"{info.name} ({info.kind}, {info.backend}, {info.driver})"


def facts() -> dict[str, str]:
    """Say what the GPU can do: driver, features, limits; and what it keeps for later arrays by now."""
    device = default_device()
    info = device.info
    limits = {name.replace("_", " "): f"{limit:,}" for name, limit in info.limits.items()}
    features = ", ".join(info.features) or "none"
    return {"GPU": measured_on(), "features": features, **limits, "pool bytes": f"{device.pool_bytes:,}"}


def _contenders(
    function: Callable[..., Any],
    arrays: list[Any],
    by_torch: Callable[..., Any],
    peers: Peers,
    open_device: OpenDevice,
    limits: dict[str, Limit],
) -> list[Contender]:
    """Make those of a function of arrays whose result is one array."""
    device = open_device()
    there = [GpuArray(array, device) for array in arrays]

    def run_there(call: Callable[[], object]) -> object:
        result = call()
        device.finish()
        return result

    def copied() -> Any:
        return function(*(GpuArray(array, device) for array in arrays)).numpy()

    made = [
        Contender(ON_CPU, lambda: function(*arrays)),
        Contender(THERE, lambda: run_there(lambda: function(*there)), ours=True, answer=GpuArray.numpy),
        Contender(COPIED, copied, ours=True),
    ]
    torch = peers.torch
    if torch is not None and torch.cuda.is_available():
        tensors = [torch.from_numpy(array).cuda() for array in arrays]

        def on_cuda() -> Any:
            result = by_torch(torch, *tensors)
            torch.cuda.synchronize()
            return result

        made.append(Contender("torch, CUDA", on_cuda, answer=lambda result: result.cpu().numpy()))
    if limits:
        # They compute something else, so they answer what is wanted.
        wanted = function(*arrays)
        made += [
            Contender(name, partial(run_there, partial(limit, device, there)), answer=lambda _: wanted)
            for name, limit in limits.items()
        ]
    return made


def _copy(device: Device, arrays: list[GpuArray]) -> object:
    return device.native.copy(arrays[0].tensor)


def _multiply_adds(count: int, device: Device, _: list[GpuArray]) -> object:
    return device.native.multiply_adds(count)


def _softmax(shape: tuple[int, int], dtype: str, peers: Peers, open_device: OpenDevice) -> list[Contender]:
    return _contenders(
        logitscope.softmax, [logits(shape, dtype)], lambda torch, x: torch.softmax(x, -1), peers, open_device,
        {f"{LIMIT}copy": _copy},
    )  # fmt: skip


def _cross_entropy(
    shape: tuple[int, int], dtype: str, peers: Peers, open_device: OpenDevice
) -> list[Contender]:
    targets = np.random.default_rng(1).integers(0, shape[1], shape[0])

    def gradient(x: Any) -> Any:
        return cross_entropy(x, targets, return_grad=True)[1]

    def by_torch(torch: Any, x: Any) -> Any:
        x = x.requires_grad_()
        loss = torch.nn.functional.cross_entropy(x, torch.from_numpy(targets).to(x.device))
        return torch.autograd.grad(loss, x)[0]

    return _contenders(
        gradient, [logits(shape, dtype)], by_torch, peers, open_device, {f"{LIMIT}copy": _copy}
    )


def _linear(
    sizes: tuple[int, int, int], dtype: str, peers: Peers, open_device: OpenDevice
) -> list[Contender]:
    rows, width, classes = sizes
    rng = np.random.default_rng(0)
    shapes = ((rows, width), (classes, width))
    arrays = [
        (0.3 * rng.standard_normal(shape, dtype=np.float32)).astype(numpy_dtype(dtype)) for shape in shapes
    ]
    targets = rng.integers(0, classes, rows)

    def gradient(input: Any, weight: Any) -> Any:
        return linear_cross_entropy(input, weight, targets, return_grad=True)[1].input

    def by_torch(torch: Any, input: Any, weight: Any) -> Any:
        input, weight = input.requires_grad_(), weight.requires_grad_()
        there = torch.from_numpy(targets).to(input.device)
        loss = torch.nn.functional.cross_entropy(input @ weight.T, there)
        return torch.autograd.grad(loss, (input, weight))[0]

    # The logits twice, and the two products of their gradient.
    limit = partial(_multiply_adds, 8 * rows * width * classes)
    return _contenders(gradient, arrays, by_torch, peers, open_device, {f"{LIMIT}multiply-adds": limit})


def _attention(
    shape: tuple[int, int, int], dtype: str, peers: Peers, open_device: OpenDevice
) -> list[Contender]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((1, *shape), dtype=np.float32).astype(numpy_dtype(dtype)) for _ in range(3)]

    def out(q: Any, k: Any, v: Any) -> Any:
        return logitscope.attention(q, k, v).out

    def by_torch(torch: Any, q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def by_sigmoid(_: Device, there: list[GpuArray]) -> object:
        return logitscope.attention(*there, kind="sigmoid").out

    heads, length, size = shape
    limits: dict[str, Limit] = {
        f"{LIMIT}multiply-adds": partial(_multiply_adds, 4 * heads * length * length * size),
        "GPU, sigmoid": by_sigmoid,
    }
    return _contenders(out, arrays, by_torch, peers, open_device, limits)
