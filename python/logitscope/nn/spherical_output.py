"""An output layer for very many classes: the exact step of gradient descent, at a cost that does not grow with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from logitscope import _native
from logitscope._arrays import array_of
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.nn.spherical_losses import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from logitscope.nn.spherical_losses import SphericalLoss

_HALVES = (torch.float16, torch.bfloat16)
_WIDE = {torch.float32: torch.float32, torch.float64: torch.float64} | dict.fromkeys(_HALVES, torch.float32)
"""What V is computed with, by what it holds."""
_REFRESH_PERIOD = 10_000
_ROWS = 1 << 16
"""Rows of V that are looked at in float64 at a time."""


@dataclass(frozen=True, slots=True)
class SphericalDrift:
    """How far what the layer keeps is from what its weight says, largest absolute differences."""

    gram: float
    """Of Q and W^T W."""
    total: float
    """Of wbar and W^T 1."""
    inverse: float
    """Of U U^-1 and the identity."""


@dataclass(frozen=True, slots=True)
class SphericalStats:
    """What there is to watch in the layer."""

    condition: float
    """Largest over smallest singular value of U."""
    drift: SphericalDrift | None
    """What the last :meth:`SphericalOutput.check` found."""
    step_seconds: float
    """Time of the last step: loss, gradient and update. NaN before the first."""


class SphericalOutput(nn.Module):
    """Output layer and loss over ``num_classes`` classes, whose step costs O(d²) an example.

    Vincent, de Brébisson and Bouthillier (arXiv 1412.7091) and de Brébisson and Vincent (arXiv 1604.08859): a loss of
    the target's logit, the sum and the sum of squares of all logits needs no other logit. The weight W is kept as
    ``V U + 1 omega^T``, and one step of gradient descent on W changes U, omega, and the rows of V of the targets. It
    is the step of a dense layer, to rounding.

    The layer updates itself in the backward pass: it has no parameters, and plain gradient descent with ``lr`` is all
    it can do; momentum and Adam would touch every row. For a bias, append a small constant (0.001) to the input.

    Parameters
    ----------
    in_features
        d.
    num_classes
        D, at least 2.
    loss
        ``"z"``: ``softplus(a (b - z)) / a`` of the target's logit z standardised over the classes; ``"taylor"``:
        log-Taylor-softmax; ``"spherical"``: log-spherical-softmax with ``eps``; ``"squared"``: squared distance to the
        one-hot target; or a function of (target's logits (m,) or (m, K), sums of squares (m,), sums (m,), D) in torch
        operations that gives m losses.
    a, b
        Of the ``"z"`` loss: sharpness above 0, and the standardised logit that is enough.
    eps
        Of the ``"spherical"`` loss, above 0.
    reduction
        ``"mean"`` or ``"sum"`` over the examples.
    lr, weight_decay
        Learning rate and decay of W; both may be set between steps.
    stabilize_period
        Steps between looks at the singular values of U; those outside 0.5..2 are moved into V. Losses and rates that
        pull hard at the sum of squares, such as ``"squared"``, need it more often.
    dtype
        Of V: torch.float32, float64, float16 or bfloat16; everything of size d is float64. A step of 16 bits rounds
        the rows that it moves to the nearest, so what is small beside them is lost; what is kept of the weight is
        that of the rounded one.
    seed
        Of the first V, normal with deviation 0.001.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn import SphericalOutput
    >>> layer = SphericalOutput(8, 1000, lr=0.1)
    >>> hidden = torch.randn(4, 8, requires_grad=True)
    >>> loss = layer(hidden, torch.tensor([3, 1, 4, 1]))
    >>> loss.backward()  # also moves the layer's weight
    >>> hidden.grad.shape, layer.dense_weight().shape
    (torch.Size([4, 8]), torch.Size([1000, 8]))
    """

    v: Tensor
    u: Tensor
    inverse: Tensor
    gram: Tensor
    omega: Tensor
    total: Tensor
    steps: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        loss: str | SphericalLoss = "z",
        a: float = 1.0,
        b: float = 5.0,
        eps: float = 0.1,
        reduction: str = "mean",
        lr: float = 0.01,
        weight_decay: float = 0.0,
        stabilize_period: int = 100,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (("in_features", in_features, 1), ("num_classes", num_classes, 2)):
            if value < least:
                _refuse(name, value, f"an integer, at least {least}")
        for name, number in (("a", a), ("eps", eps)):
            if not 0 < number < float("inf"):
                _refuse(name, number, "a finite number above 0")
        if isinstance(loss, str) and loss not in LOSSES:
            _refuse("loss", repr(loss), ", ".join(map(repr, LOSSES)) + " or a function")
        if reduction not in ("mean", "sum"):
            _refuse("reduction", repr(reduction), "'mean' or 'sum'")
        if stabilize_period < 1:
            _refuse("stabilize_period", stabilize_period, "an integer, at least 1")
        if dtype not in _WIDE:
            message = f"SphericalOutput: dtype is {dtype}; use torch.float32, float64, float16 or bfloat16"
            raise DTypeError(message)
        self.loss = loss
        self.a, self.b, self.eps = a, b, eps
        self.reduction = reduction
        self.lr, self.weight_decay = lr, weight_decay
        self.stabilize_period = stabilize_period
        generator = torch.Generator().manual_seed(seed)
        first = torch.empty(num_classes, in_features, dtype=dtype).normal_(0.0, 0.001, generator=generator)
        self.register_buffer("v", first)
        self.register_buffer("u", torch.eye(in_features, dtype=torch.float64))
        self.register_buffer("inverse", torch.eye(in_features, dtype=torch.float64))
        self.register_buffer("gram", torch.empty(in_features, in_features, dtype=torch.float64))
        self.register_buffer("omega", torch.zeros(in_features, dtype=torch.float64))
        self.register_buffer("total", torch.empty(in_features, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._drift: SphericalDrift | None = None
        self._step_seconds = float("nan")
        self.refresh()

    @property
    def in_features(self) -> int:
        """The size d of what comes in."""
        return self.v.shape[1]

    @property
    def num_classes(self) -> int:
        """The number D of classes."""
        return self.v.shape[0]

    def forward(self, h: Tensor, targets: Tensor) -> Tensor:
        """Loss of hidden rows (..., d) and targets (...), or (..., K) for a loss of several.

        In training the backward pass of what this returns moves the weight, once; a pass of a layer that has moved
        since is refused.
        """
        rows, classes = self._inputs(h, targets)
        if not (self.training and torch.is_grad_enabled()):
            return self._reduced(rows, classes)[0].detach().to(h.dtype)
        anchor = torch.zeros((), requires_grad=True)  # the layer moves even where nothing before it learns
        loss: Tensor = _Step.apply(rows, classes, self, anchor)
        return loss.to(h.dtype)

    def scores(self, h: Tensor, classes: Tensor | None = None) -> Tensor:
        """Logits of hidden rows (..., d): all (..., D), or those of ``classes`` (C,) as (..., C)."""
        hidden = h.detach().double()
        v = self.v if classes is None else self.v[classes]
        wide = _WIDE[v.dtype]
        by_u = (hidden @ self.u.T).to(wide)
        logits = torch.cat([by_u @ part.to(wide).T for part in torch.split(v, _ROWS)], dim=-1)
        return (logits + (hidden @ self.omega)[..., None].to(wide)).to(h.dtype)

    def topk(self, h: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Give the ``k`` largest logits of each row, and their classes; as dear as a dense layer."""
        values, indices = self.scores(h).topk(k)
        return values, indices

    def dense_weight(self) -> Tensor:
        """W (D, d), in the dtype of V."""
        return torch.cat([part.to(self.v.dtype) for part in self._dense_parts()])

    def check(self) -> SphericalDrift:
        """Compare what is kept with what the weight says; costs O(D d²)."""
        gram, total = self._sums()
        identity = torch.eye(self.in_features, dtype=torch.float64)
        self._drift = SphericalDrift(
            gram=float((self.gram - gram).abs().max()),
            total=float((self.total - total).abs().max()),
            inverse=float((self.u @ self.inverse.T - identity).abs().max()),
        )
        return self._drift

    @torch.no_grad()
    def refresh(self) -> None:
        """Make anew, from the weight, what is kept of it; costs O(D d²). Done by itself every 10,000 steps."""
        gram, total = self._sums()
        self.gram.copy_(gram)
        self.total.copy_(total)
        self.inverse.copy_(torch.linalg.inv(self.u).T)

    @torch.no_grad()
    def stabilize(self) -> None:
        """Move singular values of U that are outside 0.5..2 into V, W unchanged; done every ``stabilize_period``."""
        left, values, _ = torch.linalg.svd(self.u)
        outside = (values < 0.5) | (values > 2.0)
        if bool(outside.any()):
            vectors = left[:, outside]
            alpha = 1 / values[outside] - 1
            beta = -alpha / (1 + alpha)
            self.u += (vectors * alpha) @ (vectors.T @ self.u)
            wide = _WIDE[self.v.dtype]
            moved, back = vectors.to(wide), (vectors * beta).T.to(wide)
            for part in torch.split(self.v, _ROWS):
                rows = part.to(wide)  # the part itself, but for 16 bits
                part.copy_(rows.addmm_(rows @ moved, back))
            if wide != self.v.dtype:
                self.refresh()  # rounding V has moved the weight
        self.inverse.copy_(torch.linalg.inv(self.u).T)

    @torch.no_grad()
    def unfactorize(self) -> None:
        """Make V the weight itself, U the identity and omega 0; costs O(D d²)."""
        start = 0
        for part in self._dense_parts():
            self.v[start : start + len(part)] = part.to(self.v.dtype)
            start += len(part)
        self.u.copy_(torch.eye(self.in_features, dtype=torch.float64))
        self.omega.zero_()
        self.refresh()

    @property
    def stats(self) -> SphericalStats:
        """What there is to watch; costs the singular values of U."""
        values = torch.linalg.svdvals(self.u)
        return SphericalStats(float(values[0] / values[-1]), self._drift, self._step_seconds)

    def extra_repr(self) -> str:
        """Show sizes and loss."""
        loss = repr(self.loss) if isinstance(self.loss, str) else getattr(self.loss, "__name__", "function")
        return f"in_features={self.in_features}, num_classes={self.num_classes}, loss={loss}, lr={self.lr}"

    def _inputs(self, h: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Check shapes and types: rows (m, d), classes (m,) or (m, K)."""
        if h.dim() == 0 or h.shape[-1] != self.in_features or not h.is_floating_point():
            message = (
                f"SphericalOutput: h is {h.dtype} {tuple(h.shape)}; use floats (..., {self.in_features})"
            )
            raise ShapeError(message)
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            message = (
                f"SphericalOutput: targets are {targets.dtype}; use an integer type, such as torch.int64"
            )
            raise DTypeError(message)
        rows = tuple(h.shape[:-1])
        several = tuple(targets.shape[:-1]) == rows and targets.dim() == len(rows) + 1
        if tuple(targets.shape) != rows and not several:
            message = f"SphericalOutput: targets has shape {tuple(targets.shape)}; use {rows}, or {rows} and an axis"
            raise ShapeError(message)
        if several and self.loss in ("z", "taylor", "spherical"):
            message = (
                f"SphericalOutput: targets has an axis more than h has; use loss 'squared', not '{self.loss}'"
            )
            raise ShapeError(message)
        flat = targets.reshape(-1, targets.shape[-1]) if several else targets.reshape(-1)
        wrong = (flat < 0) | (flat >= self.num_classes)
        if bool(wrong.any()):
            place = wrong.nonzero()[0]
            value, row = int(flat[tuple(place)]), int(place[0])
            message = (
                f"SphericalOutput: target {value} in row {row} is no class; use 0..{self.num_classes - 1}"
            )
            raise TargetError(message)
        return h.reshape(-1, self.in_features), flat.long().contiguous()

    def _reduced(self, rows: Tensor, classes: Tensor) -> tuple[Tensor, _native.SphericalPass, list[Tensor]]:
        """Compute loss, the arrays of the forward pass, and the statistics that the loss depends on."""
        m, d = rows.shape
        passed: _native.SphericalPass = {
            "hidden": np.ascontiguousarray(rows.detach().double().numpy()),
            "targets": classes.numpy(),
            "by_gram": np.empty((m, d)),
            "by_u": np.empty((m, d)),
            "own": np.empty(tuple(classes.shape)),
            "square": np.empty(m),
            "sum": np.empty(m),
        }
        _native.spherical_output(self._arrays(), passed, None)
        own, square, sum_ = (torch.from_numpy(passed[name]) for name in ("own", "square", "sum"))
        statistics = [own, square, sum_]
        with torch.enable_grad():
            for statistic in statistics:
                statistic.requires_grad_()
            if isinstance(self.loss, str):
                extras = {"a": self.a, "b": self.b, "eps": self.eps}
                losses = LOSSES[self.loss](own, square, sum_, self.num_classes, **extras)
            else:
                losses = self.loss(own, square, sum_, self.num_classes)
            if tuple(losses.shape) != (m,):
                message = f"SphericalOutput: loss gives shape {tuple(losses.shape)}; use one of shape {(m,)}"
                raise ShapeError(message)
            loss = losses.mean() if self.reduction == "mean" else losses.sum()
        return loss, passed, statistics

    def _arrays(self) -> Any:
        names = ("v", "u", "inverse", "gram", "omega", "total")
        return {name: array_of(getattr(self, name)) for name in names}

    def _dense_parts(self) -> Iterator[Tensor]:
        """W in parts of rows, float64."""
        for part in torch.split(self.v, _ROWS):
            yield part.double() @ self.u + self.omega

    def _sums(self) -> tuple[Tensor, Tensor]:
        """W^T W and W^T 1."""
        gram, total = torch.zeros_like(self.gram), torch.zeros_like(self.total)
        for part in self._dense_parts():
            gram += part.T @ part
            total += part.sum(dim=0)
        return gram, total

    @torch.no_grad()
    def _move(self, passed: _native.SphericalPass, slopes: list[Tensor]) -> Tensor:
        """Make the step; returns the gradient of the hidden rows."""
        own, square, sum_ = (np.ascontiguousarray(slope.numpy()) for slope in slopes)
        gradient = np.empty_like(passed["hidden"])
        step: Any = {
            "own": own,
            "square": square,
            "sum": sum_,
            "learning_rate": float(self.lr),
            "weight_decay": float(self.weight_decay),
            "gradient": gradient,
        }
        _native.spherical_output(self._arrays(), passed, step)
        self.steps += 1
        steps = int(self.steps)
        if steps % self.stabilize_period == 0:
            self.stabilize()
        if steps % _REFRESH_PERIOD == 0:
            self.refresh()
        return torch.from_numpy(gradient)


class _Step(torch.autograd.Function):
    """The loss of a batch, whose backward pass moves the layer."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, classes: Tensor, layer: SphericalOutput, anchor: Tensor) -> Tensor:
        started = time.perf_counter()
        loss, ctx.passed, statistics = layer._reduced(rows, classes)
        used = torch.autograd.grad(loss, statistics, allow_unused=True)
        ctx.slopes = [
            torch.zeros_like(statistic) if slope is None else slope
            for slope, statistic in zip(used, statistics, strict=True)
        ]
        ctx.layer, ctx.steps, ctx.dtype = layer, int(layer.steps), rows.dtype
        ctx.seconds = time.perf_counter() - started
        return loss.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        started = time.perf_counter()
        layer: SphericalOutput = ctx.layer
        if int(layer.steps) != ctx.steps:
            message = "SphericalOutput: the layer has moved since this loss was computed; use one backward pass a loss"
            raise ArgumentError(message)
        gradient = layer._move(ctx.passed, [slope * upstream for slope in ctx.slopes])
        layer._step_seconds = ctx.seconds + time.perf_counter() - started
        return gradient.to(ctx.dtype), None, None, None


def _refuse(name: str, got: Any, expected: str) -> NoReturn:
    message = f"SphericalOutput: {name} is {got}; use {expected}"
    raise ArgumentError(message)
