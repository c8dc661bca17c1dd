"""PerpGrad: gradients without the part that only scales the weights.

Prieto, Barsbey, Mediano and Birdal, "Grokking at the Edge of Numerical Stability", ICLR 2025, arXiv 2501.04697
(there ⊥Grad, in its code OrthoGrad). Without regularisation a classifier that fits its data goes on lowering cross
entropy by scaling its logits up. In a net that is homogeneous in its weights that direction is the weights
themselves, so the part of the gradient along them is taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, optim

from logitscope.errors import ArgumentError, DTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Per = Literal["tensor", "neuron", "global"]

_ROUNDING = 4.0
"""What is left of a gradient below this many of its type's epsilons is rounding, and is not scaled up again."""


class PerpGrad(optim.Optimizer):
    """Takes from each gradient its part along the weights, then lets another optimizer step.

    Parameters
    ----------
    params
        Parameters or groups of them, as any optimizer takes; a group may have options of the other optimizer.
    base_cls
        Class of the optimizer that steps.
    per
        What is orthogonal to what: "tensor" as in the paper, "neuron" (each row of a matrix; a vector as a whole),
        or "global" (all parameters as one vector).
    rescale
        Whether a gradient keeps its norm, as in the paper.
    eps
        Added to what is divided by.
    base_kwargs
        Options of ``base_cls``, such as ``lr``.

    Notes
    -----
    Its ``param_groups`` and ``state`` are those of the other optimizer, ``base``, so learning rate schedulers work
    on it. Clip gradients before it, and unscale a ``GradScaler`` first: it keeps the norm that it finds. Decoupled
    weight decay is not projected. Adam's preconditioner and moments bend the direction again, in the paper too.

    Examples
    --------
    >>> import torch
    >>> from logitscope.optim import PerpGrad
    >>> weight = torch.nn.Parameter(torch.tensor([1.0, 0.0]))
    >>> optimizer = PerpGrad([weight], torch.optim.SGD, lr=0.5)
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> optimizer.step()
    >>> weight.data, weight.grad
    (tensor([ 1.0000, -2.5000]), tensor([0., 5.]))
    """

    def __init__(
        self,
        params: Any,
        base_cls: type[optim.Optimizer] = optim.AdamW,
        *,
        per: Per = "tensor",
        rescale: bool = True,
        eps: float = 1e-30,
        **base_kwargs: Any,
    ) -> None:
        _check_options(per, eps)
        self.per = per
        self.rescale = rescale
        self.eps = eps
        super().__init__(params, {})
        self.base = base_cls(self.param_groups, **base_kwargs)
        self.defaults = self.base.defaults
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Project the gradients and step; ``closure`` evaluates the model again and returns the loss."""
        if closure is not None:
            return self.base.step(lambda: self._projected(closure))
        self._project_all()
        return self.base.step()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to what is stepped."""
        if hasattr(self, "base"):
            self.base.add_param_group(param_group)
        else:
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Options, and the state of the other optimizer under ``base``."""
        return {
            "per": self.per,
            "rescale": self.rescale,
            "eps": self.eps,
            "base": self.base.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        _check_options(state_dict["per"], state_dict["eps"])
        self.base.load_state_dict(state_dict["base"])
        self.per, self.rescale, self.eps = (state_dict[name] for name in ("per", "rescale", "eps"))
        self._share()

    def _share(self) -> None:
        """Have the groups and the state of the other optimizer as one's own."""
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    def _project_all(self) -> None:
        parameters = (parameter for group in self.param_groups for parameter in group["params"])
        project_orthogonal_(parameters, per=self.per, rescale=self.rescale, eps=self.eps)

    def _projected(self, closure: Callable[[], Any]) -> Any:
        with torch.enable_grad():
            loss = closure()
        self._project_all()
        return loss


@torch.no_grad()
def project_orthogonal_(
    params: Iterable[Tensor], *, per: Per = "tensor", rescale: bool = True, eps: float = 1e-30
) -> None:
    """Take from the gradients of ``params``, in place, their part along the parameters themselves.

    Parameters
    ----------
    params
        Tensors; those without a gradient are passed over.
    per, rescale, eps
        As in :class:`PerpGrad`.

    Notes
    -----
    ``g - <w, g> / (<w, w> + eps) w``, then scaled to the norm of ``g``; sums are float64. Where next to nothing is
    left, a few roundings of a gradient along the weights, it is not scaled: that would make noise of it.

    Examples
    --------
    >>> import torch
    >>> from logitscope.optim import project_orthogonal_
    >>> weight = torch.ones(2, 2, requires_grad=True)
    >>> weight.grad = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    >>> project_orthogonal_([weight], per="neuron", rescale=False)
    >>> weight.grad
    tensor([[-1.,  1.],
            [ 0.,  0.]])
    """
    _check_options(per, eps)
    given = [tensor for tensor in params if tensor.grad is not None]
    for tensor in given:
        _check_gradient(tensor)
    vectors = [given] if per == "global" and given else [[tensor] for tensor in given]
    for tensors in vectors:
        _project(tensors, per, rescale, eps)


def _project(tensors: list[Tensor], per: Per, rescale: bool, eps: float) -> None:
    """Project the gradients of some tensors, which are one vector together."""
    gradients = [_grad(tensor) for tensor in tensors]
    w, g = (torch.cat([_as_rows(part, per) for part in parts], 1) for parts in (tensors, gradients))
    rows = g - (_dot(w, g) / (_dot(w, w) + eps)) * w
    if rescale:
        before, after = _dot(g, g).sqrt(), _dot(rows, rows).sqrt()
        roundings = max(torch.finfo(tensor.dtype).eps for tensor in tensors)
        is_rounding = after <= max(1e-12, _ROUNDING * roundings) * before
        rows = rows * torch.where(is_rounding, 1.0, before / (after + eps))
    sizes = [tensor.numel() // len(rows) for tensor in tensors]
    for gradient, part in zip(gradients, torch.split(rows, sizes, 1), strict=True):
        gradient.copy_(part.reshape(gradient.shape))


def _as_rows(tensor: Tensor, per: Per) -> Tensor:
    """In float64, a row for each part that is projected by itself."""
    rows = tensor.shape[0] if per == "neuron" and tensor.dim() > 1 else 1
    return tensor.detach().double().reshape(rows, -1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1, keepdim=True)


def _grad(tensor: Tensor) -> Tensor:
    gradient = tensor.grad
    assert gradient is not None
    return gradient


def _check_options(per: str, eps: float) -> None:
    if per not in get_args(Per):
        message = f"PerpGrad: per is {per!r}; use {', '.join(get_args(Per))}"
        raise ArgumentError(message)
    if not eps >= 0:
        message = f"PerpGrad: eps is {eps}; use 0 or more"
        raise ArgumentError(message)


def _check_gradient(tensor: Tensor) -> None:
    gradient = _grad(tensor)
    if gradient.is_sparse:
        message = "PerpGrad: a gradient is sparse; use a dense one (Embedding(..., sparse=False))"
        raise DTypeError(message)
    if gradient.is_complex():
        message = f"PerpGrad: a gradient is {gradient.dtype}; use real parameters"
        raise DTypeError(message)


OPTIMIZER: Mapping[str, Callable[..., optim.Optimizer]] = {"perpgrad": PerpGrad}
"""What this module offers under which name."""
