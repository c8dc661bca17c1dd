"""Probes see what attention does, and disturb neither the model nor a watch of the recorder."""

import numpy as np
import pytest
import torch

from logitscope import dynamics, nn, record
from logitscope.data import TextData
from logitscope.errors import ArgumentError
from logitscope.experiments.language import attention_maps


def gpt(attention):
    torch.manual_seed(0)
    config = nn.GPTConfig(vocabulary=7, context=10, layers=2, heads=2, width=16, attention=attention)
    return nn.GPT(config), torch.randint(0, 7, (3, 10))


@pytest.mark.parametrize("attention", ["softmax", "sigmoid"])
def test_that_norms_and_sums_are_those_of_the_layers(attention):
    model, tokens = gpt(attention)
    outputs = []
    hooks = [a.register_forward_hook(lambda *call: outputs.append(call[-1])) for a in model.attentions]
    with dynamics.AttentionNormProbe(model) as probe:
        model(tokens)
    for found, out in zip(probe.last, outputs, strict=True):
        assert found.out_norm == pytest.approx(out.norm(dim=-1).mean().item())
        assert found.row_sums.shape == (3, 2, 10)
        assert found.max_logit.shape == (2,)
        if attention == "softmax":
            assert (found.row_sums == 1).all()
        else:
            np.testing.assert_allclose(
                found.row_sums, np.broadcast_to(np.arange(1, 11) / 11, (3, 2, 10)), rtol=0.1
            )
    for hook in hooks:
        hook.remove()
    model(tokens)
    assert all(a.observer is None and not a._forward_hooks for a in model.attentions)


def test_that_a_probe_and_a_watch_get_both_what_they_want(tmp_path):
    model, tokens = gpt("sigmoid")
    with (
        record.start("both", path=tmp_path / "both.scope") as scope,
        scope.watch(model, every=2, maps_every=2) as watch,
        dynamics.AttentionNormProbe(model) as probe,
    ):
        for step in range(3):
            watch.step(step)
            probe.last[:] = [None, None]
            model(tokens)
            assert None not in probe.last
    with record.RunReader(scope.path) as run:
        assert run.scalars("attention/entropy/layer0").steps.tolist() == [0, 2]
        assert run.array("attention/map").array.shape == (2, 2, 10, 10)


def test_that_a_model_without_attention_is_refused():
    with pytest.raises(
        ArgumentError, match=r"^AttentionNormProbe: the model has no attention that can be watched"
    ):
        dynamics.AttentionNormProbe(torch.nn.Linear(2, 2))


def test_that_a_look_at_maps_in_between_disturbs_no_probe():
    model, tokens = gpt("sigmoid")
    text = TextData.from_text("abcdefg" * 400, name="letters")
    with dynamics.AttentionNormProbe(model) as probe:
        model(tokens)
        before = probe.last[0]
        assert attention_maps(model, text).shape == (2, 2, 10, 10)
        assert probe.last[0] is before
        model(tokens)
        assert probe.last[0] is not before
        assert probe.last[0].out_norm == before.out_norm
    assert all(attention.observer is None for attention in model.attentions)
