"""The attention modules do the same arithmetic, follow their temperature, and show what an observer asks for."""

import numpy as np
import pytest
import torch

from logitscope.nn import CausalSelfAttention, TorchCausalSelfAttention

pytest.importorskip("logitscope.record.watch")
from logitscope.record.watch import AttentionObservation, AttentionRequest


class Recording:
    """An observer that asks for the same each time and keeps what it gets."""

    def __init__(self, request: AttentionRequest | None) -> None:
        self.answer = request
        self.seen: list[AttentionObservation] = []

    def request(self, _module: object) -> AttentionRequest | None:
        return self.answer

    def observe(self, _module: object, observation: AttentionObservation) -> None:
        self.seen.append(observation)


@pytest.fixture
def module() -> CausalSelfAttention:
    torch.manual_seed(0)
    return CausalSelfAttention(32, 4)


def weights(module: CausalSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """(B, H, T, T) attention weights by the formula."""
    q, k, _ = module.qkv(x).view(*x.shape[:2], 3, 4, 8).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / 8**0.5 / module.temperature
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.25, torch.tensor(3.0), torch.rand(4, 1) + 0.5])
def test_that_both_modules_do_the_same_arithmetic(module, temperature) -> None:
    peer = TorchCausalSelfAttention(32, 4)
    peer.load_state_dict(module.state_dict())
    module.temperature = peer.temperature = temperature
    x = torch.randn(2, 16, 32)
    torch.testing.assert_close(module(x), peer(x), rtol=2e-5, atol=2e-5)


def test_that_a_learned_temperature_has_a_gradient(module) -> None:
    module.temperature = torch.nn.Parameter(torch.ones(4, 1))
    assert "temperature" in dict(module.named_parameters())
    module(torch.randn(2, 16, 32)).square().sum().backward()
    assert (module.temperature.grad != 0).all()


def test_that_a_temperature_acts_from_the_next_call_on(module) -> None:
    x = torch.randn(1, 16, 32)
    before = module(x)
    module.temperature = 100.0
    torch.testing.assert_close(weights(module, x)[0, :, -1], torch.full((4, 16), 1 / 16), atol=2e-3, rtol=0)
    assert not torch.allclose(module(x), before)


def test_that_an_observer_gets_statistics_and_the_map_of_its_sample(module) -> None:
    observer = Recording(AttentionRequest(map_bins=(16, 16), sample=1))
    module.observer = observer
    module.temperature = 0.5
    x = 3 * torch.randn(2, 16, 32)
    module(x)
    (observation,) = observer.seen
    expected = weights(module, x).detach()
    np.testing.assert_allclose(observation.map, expected[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        observation.entropy, torch.special.entr(expected).sum(-1), rtol=1e-4, atol=1e-5
    )
    assert observation.lse.shape == observation.max_logit.shape == (2, 4, 16)
    np.testing.assert_allclose(
        np.exp(observation.max_logit - observation.lse), expected.amax(-1), rtol=1e-4, atol=1e-6
    )


def test_that_a_sample_beyond_the_batch_is_its_last_element(module) -> None:
    observer = Recording(AttentionRequest(map_bins=(16, 16), sample=7))
    module.observer = observer
    x = torch.randn(2, 16, 32)
    module(x)
    np.testing.assert_allclose(observer.seen[0].map, weights(module, x)[1].detach(), rtol=1e-4, atol=1e-6)


def test_that_observing_changes_neither_result_nor_gradient(module) -> None:
    x = torch.randn(2, 16, 32)
    plain = module(x)
    plain.sum().backward()
    gradient = module.qkv.weight.grad.clone()
    module.zero_grad()
    module.observer = Recording(AttentionRequest(map_bins=None, sample=0))
    observed = module(x)
    observed.sum().backward()
    assert module.observer.seen[0].map is None
    torch.testing.assert_close(observed, plain, rtol=0, atol=0)
    torch.testing.assert_close(module.qkv.weight.grad, gradient, rtol=0, atol=0)


def test_that_an_observer_that_wants_nothing_gets_nothing(module) -> None:
    module.observer = Recording(None)
    module(torch.randn(2, 16, 32))
    assert module.observer.seen == []
