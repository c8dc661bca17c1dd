"""The experiment on the Z-loss measures what it says."""

import pytest
import torch

from logitscope.experiments import z_loss as experiment


class Given(torch.nn.Module):
    """Gives the same logits whatever comes."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(contexts)]


def test_that_an_error_is_how_often_others_come_first() -> None:
    logits = torch.arange(200.0).repeat(4, 1)
    targets = torch.tensor([199, 196, 192, 120])  # ranks 0, 3, 7, 79
    errors, z = experiment._errors(Given(logits), torch.zeros(4, 4, dtype=torch.long), targets)
    assert errors == {1: 75.0, 5: 50.0, 10: 25.0, 50: 25.0, 100: 0.0}
    assert z[0].item() == pytest.approx((199 - 99.5) / logits[0].std(correction=0).item())


def test_that_words_to_train_and_to_test_on_are_apart() -> None:
    contexts, targets, test_contexts, test_targets = experiment._words()
    assert contexts.shape == (len(targets), 4)
    assert test_contexts.shape == (len(test_targets), 4)
    assert 0.08 < len(test_targets) / len(targets) < 0.14
    # A context is the words before its target.
    assert torch.equal(contexts[1:400, 3], targets[:399])
    assert int(torch.cat([targets, test_targets]).max()) <= 2000


def test_that_step_times_are_those_of_all_layers() -> None:
    times = experiment._step_times(50)
    assert times.keys() == {"factored", "hierarchical", "dense_softmax", "dense_z"}
    assert all(seconds > 0 for seconds in times.values())
