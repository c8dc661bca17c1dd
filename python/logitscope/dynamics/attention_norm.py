"""What attention adds to a model at its first steps: the measurement that tells a bias of sigmoid attention wrong.

Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", ICLR 2025, arXiv 2409.04431.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitscope.dynamics.attention_probe import AttentionProbe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from logitscope.record.watch import AttentionObservation


@dataclass(frozen=True, slots=True, eq=False)
class AttentionNorms:
    """One layer in one forward pass."""

    out_norm: float
    """Mean over the tokens of the norm of what the layer gives."""
    row_sums: NDArray[np.float32]
    """(B, H, T), sums of the weights; 1 with a softmax."""
    max_logit: NDArray[np.float32]
    """(H,), largest score of each head."""


class AttentionNormProbe(AttentionProbe):
    """Measures what each attention layer of a model gives, in every forward pass until it is closed.

    Parameters
    ----------
    model
        A module with attention of ``logitscope.nn`` in it; a watch of the recorder may be there, too.

    Examples
    --------
    >>> import torch
    >>> from logitscope.dynamics import AttentionNormProbe
    >>> from logitscope.nn import SigmoidAttention
    >>> model = SigmoidAttention(8, 2, seq_len=4)
    >>> with AttentionNormProbe(model) as probe:
    ...     out = model(torch.zeros(1, 4, 8))
    >>> probe.last[0].row_sums[0, 0].round(2).tolist(), probe.last[0].out_norm
    ([0.20000000298023224, 0.4000000059604645, 0.6000000238418579, 0.800000011920929], 0.0)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.last: list[AttentionNorms | None] = [None] * len(self.modules)
        """What each layer gave in the last forward pass."""
        self._observed: dict[int, AttentionObservation] = {}
        self._hooks = [
            module.register_forward_hook(lambda *call, layer=layer: self._measure(layer, call[-1]))
            for layer, (_, module) in enumerate(self.modules)
        ]

    def take(self, layer: int, observation: AttentionObservation) -> None:
        """Keep it until the layer's output is there."""
        self._observed[layer] = observation

    def close(self) -> None:
        """Leave the model as it was."""
        super().close()
        for hook in self._hooks:
            hook.remove()

    def _measure(self, layer: int, output: Tensor) -> None:
        observation = self._observed.pop(layer, None)
        if observation is None:  # another observer has the module for now
            return
        module: Any = self.modules[layer][1]
        sums = np.exp(observation.lse) if getattr(module, "sigmoid_bias", None) is not None else None
        self.last[layer] = AttentionNorms(
            float(output.detach().norm(dim=-1).mean()),
            np.ones_like(observation.lse) if sums is None else sums,
            observation.max_logit.max(axis=(0, 2)),
        )
