"""What a language model would cost under encryption, counted from its sizes.

Jha and Reagen, "Entropy-Guided Attention for Private LLMs", arXiv 2501.03489. Nothing is encrypted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from logitscope.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logitscope.nn.gpt import GPTConfig

OPERATIONS = ("softmax", "layer_norm", "activation", "multiplication")


@dataclass(frozen=True, slots=True)
class PrivateInferenceCost:
    """Counts for one sequence of the full context."""

    softmax: int
    """Numbers that go through a softmax: L H rows of T for each of T queries."""
    layer_norm: int
    """Numbers that are normalised."""
    activation: int
    """Numbers that go through the activation of the networks."""
    network_flops: int
    """Multiplications and additions of the networks."""
    flops: int
    """The same of all layers, attention included, without embedding and head."""
    gigabytes: float | None = None
    """Communication by the table; None without one."""
    seconds: float | None = None
    """Latency by the table; None without one."""


def private_inference_cost(
    config: GPTConfig,
    table: Mapping[str, tuple[float, float]] | None = None,
    *,
    layer_norm: bool = True,
    activation: bool = True,
    network: Literal["two_layer", "fused"] = "two_layer",
) -> PrivateInferenceCost:
    """Count what an encrypted forward pass would have to do.

    Parameters
    ----------
    config
        Sizes of the model.
    table
        What one number costs by operation, ``{name: (bytes, seconds)}`` for names of "softmax", "layer_norm",
        "activation" and "multiplication" (a multiplication and an addition of a matrix product); what is missing costs
        nothing. Measure it with the protocol that you use: the paper had BumbleBee over a wide-area network.
    layer_norm, activation
        Whether the model has them.
    network
        "two_layer", of four times the width, or "fused", one square matrix.

    Raises
    ------
    ArgumentError
        For a name in the table that is no operation.

    Examples
    --------
    >>> from logitscope.dynamics import private_inference_cost
    >>> from logitscope.nn import GPTConfig
    >>> small = GPTConfig(vocabulary=50257, context=128, layers=12, heads=12, width=768)
    >>> cost = private_inference_cost(small)
    >>> round(cost.network_flops / 1e9, 1), cost.softmax
    (14.5, 2359296)
    >>> fused = private_inference_cost(small, layer_norm=False, activation=False, network="fused")
    >>> cost.network_flops // fused.network_flops, fused.layer_norm
    (8, 0)
    """
    unknown = set(table or ()) - set(OPERATIONS)
    if unknown:
        message = f"private_inference_cost: table has {sorted(unknown)}; use names of {', '.join(OPERATIONS)}"
        raise ArgumentError(message)
    layers, tokens, width = config.layers, config.context, config.width
    squares = 8 if network == "two_layer" else 1
    network_flops = 2 * layers * tokens * squares * width**2
    attention_flops = 2 * layers * tokens * (4 * width**2 + 2 * tokens * width)
    counts = {
        "softmax": layers * config.heads * tokens**2,
        "layer_norm": 2 * layers * tokens * width if layer_norm else 0,
        "activation": layers * tokens * 4 * width if activation else 0,
        "multiplication": (network_flops + attention_flops) // 2,
    }
    costs = None if table is None else [(counts[name], *table[name]) for name in table]
    return PrivateInferenceCost(
        counts["softmax"],
        counts["layer_norm"],
        counts["activation"],
        network_flops,
        network_flops + attention_flops,
        None if costs is None else sum(count * size for count, size, _ in costs) / 1e9,
        None if costs is None else sum(count * seconds for count, _, seconds in costs),
    )
