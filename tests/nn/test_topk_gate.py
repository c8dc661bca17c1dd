"""The gate of mixtures of experts: selection, weights, auxiliary losses."""

import pytest
import torch

from logitscope.errors import ArgumentError
from logitscope.nn import TopKSoftmaxGate, load_balance_loss


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def test_that_weights_are_a_softmax_over_the_selected() -> None:
    gate = TopKSoftmaxGate(6, 9, k=3)
    torch.nn.init.normal_(gate.bias)
    x = torch.randn(4, 5, 6)
    weights, indices, logits, _ = gate(x)
    values, wanted = logits.topk(3)
    torch.testing.assert_close(indices, wanted)
    torch.testing.assert_close(weights, torch.softmax(values, -1))
    torch.testing.assert_close(logits, x @ gate.score.weight.T + gate.bias)


def test_that_selection_without_bias_ranks_scores_and_weighs_by_both() -> None:
    gate = TopKSoftmaxGate(6, 9, k=2, select_with_bias=False)
    torch.nn.init.normal_(gate.bias, std=5.0)
    x = torch.randn(50, 6)
    weights, indices, logits, _ = gate(x)
    torch.testing.assert_close(indices, (x @ gate.score.weight.T).topk(2).indices)
    torch.testing.assert_close(weights, torch.softmax(logits.gather(-1, indices), -1))
    with_bias = TopKSoftmaxGate(6, 9, k=2)
    with_bias.load_state_dict(gate.state_dict())
    assert not torch.equal(with_bias(x).indices, indices)


def test_that_noise_comes_in_training_alone_and_is_learned() -> None:
    gate = TopKSoftmaxGate(6, 9, noisy=True)
    x = torch.randn(4, 6)
    assert not torch.equal(gate(x).logits, gate(x).logits)
    gate(x).weights[:, 0].sum().backward()
    assert gate.noise.weight.grad.abs().sum() > 0
    gate.eval()
    torch.testing.assert_close(gate(x).logits, gate(x).logits, rtol=0, atol=0)


def test_that_the_load_balance_loss_is_1_for_all_and_e_for_one() -> None:
    experts = 6
    even = torch.arange(12).remainder(experts)[:, None]
    torch.testing.assert_close(load_balance_loss(torch.zeros(12, experts), even), torch.tensor(1.0))
    one = torch.full((12, experts), -200.0)
    one[:, 2] = 200.0
    alone = torch.full((12, 1), 2)
    torch.testing.assert_close(load_balance_loss(one, alone), torch.tensor(float(experts)))


def test_that_auxiliary_losses_add_up_and_have_gradients() -> None:
    gate = TopKSoftmaxGate(6, 9, balance_coef=0.5, z_coef=0.25)
    x = torch.randn(20, 6)
    output = gate(x)
    wanted = 0.5 * load_balance_loss(output.logits, output.indices)
    wanted = wanted + 0.25 * output.logits.logsumexp(-1).square().mean()
    torch.testing.assert_close(output.aux_loss, wanted)
    output.aux_loss.backward()
    assert gate.score.weight.grad.abs().sum() > 0
    assert TopKSoftmaxGate(6, 9, balance_coef=0.0)(x).aux_loss == 0


@pytest.mark.parametrize("k", [0, 10])
def test_that_a_k_beyond_the_experts_is_refused(k: int) -> None:
    with pytest.raises(ArgumentError, match=rf"^TopKSoftmaxGate: k is {k}; use 1..9$"):
        TopKSoftmaxGate(6, 9, k=k)
