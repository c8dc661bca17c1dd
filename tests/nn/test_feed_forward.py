"""The network of a block has the activation and the number of weights that it is asked for."""

import pytest
import torch

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn import FeedForward, PolyNorm, ReLU2, SwiGLU


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_that_a_gate_leaves_the_number_of_weights() -> None:
    plain, gated = FeedForward(96), FeedForward(96, activation="swiglu")
    assert (plain.down.in_features, gated.down.in_features) == (384, 256)
    assert size(gated) == pytest.approx(size(plain), rel=0.01)


def test_that_a_width_is_found_for_a_number_of_parameters() -> None:
    other = FeedForward(64, 300, activation="relu")
    for name in ("polynorm", "swiglu", "gelu"):
        matched = FeedForward(64, activation=name, match_params_to=other)
        assert abs(size(matched) - size(other)) <= 3 * 65


def test_that_the_layers_are_applied_in_turn() -> None:
    torch.manual_seed(0)
    network, x = FeedForward(8, 5, activation=ReLU2), torch.randn(3, 8)
    wanted = (
        torch.relu(x @ network.up.weight.T + network.up.bias) ** 2 @ network.down.weight.T + network.down.bias
    )
    torch.testing.assert_close(network(x), wanted)
    assert isinstance(FeedForward(8, activation=lambda: PolyNorm(2)).activation, PolyNorm)


def test_that_swiglu_gates_the_second_half_by_the_first() -> None:
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    torch.testing.assert_close(SwiGLU()(torch.cat([a, b], dim=-1)), a * torch.sigmoid(a) * b)
    with pytest.raises(ShapeError, match="even length"):
        SwiGLU()(torch.zeros(2, 3))


def test_that_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="use one of them"):
        FeedForward(8, 4, match_params_to=FeedForward(8))
    with pytest.raises(ArgumentError, match="hidden 0; use 1 or more"):
        FeedForward(8, 0)
    with pytest.raises(ArgumentError, match="activation: there is no 'gelo'"):
        FeedForward(8, activation="gelo")
