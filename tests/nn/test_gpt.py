"""The language model is causal, learns, and is the same model whichever kernel does its attention."""

import pytest
import torch

from logitscope.errors import ArgumentError, ShapeError
from logitscope.methods import method_names
from logitscope.nn import GPT, CrossEntropyLoss, GPTConfig

SMALL = {"vocabulary": 11, "context": 16, "layers": 2, "heads": 2, "width": 16}


def model(**options) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(**{**SMALL, **options}))


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 11, shape, generator=torch.Generator().manual_seed(1))


def test_that_later_tokens_do_not_change_earlier_logits() -> None:
    gpt, text = model(), tokens(2, 16)
    changed = text.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 11
    torch.testing.assert_close(gpt(text)[:, :9], gpt(changed)[:, :9])
    assert not torch.allclose(gpt(text)[:, 9:], gpt(changed)[:, 9:])


def test_that_an_untrained_model_guesses_evenly() -> None:
    loss = CrossEntropyLoss()(model()(tokens(8, 16)).mT, tokens(16, 8).T)
    assert loss.item() == pytest.approx(torch.tensor(11.0).log().item(), abs=0.1)


def test_that_training_with_our_kernels_follows_training_with_torchs() -> None:
    losses = {}
    for name, loss in (("softmax", CrossEntropyLoss()), ("torch", torch.nn.CrossEntropyLoss())):
        gpt = model(attention=name)
        optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
        losses[name] = []
        for step in range(12):
            text = torch.randint(0, 11, (8, 17), generator=torch.Generator().manual_seed(step)).cumsum(-1) % 3
            value = loss(gpt(text[:, :-1]).mT, text[:, 1:])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses[name].append(value.item())
    assert losses["softmax"] == pytest.approx(losses["torch"], abs=1e-3)
    assert losses["softmax"][-1] < 0.7 * losses["softmax"][0]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_that_the_whole_model_compiles_without_a_break() -> None:
    gpt, text = model(), tokens(2, 16)
    compiled = torch.compile(gpt, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(text), gpt(text))


def test_that_tied_weights_are_one_parameter() -> None:
    tied, untied = model(), model(tie_weights=False)
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
    tied_size, untied_size = (sum(p.numel() for p in gpt.parameters()) for gpt in (tied, untied))
    assert untied_size - tied_size == 11 * 16


def test_that_generation_continues_the_prompt_and_follows_its_seed() -> None:
    gpt, prompt = model(), tokens(3)
    first, second = (gpt.generate(prompt, 40, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.shape == (43,)
    torch.testing.assert_close(first[:3], prompt)
    torch.testing.assert_close(first, second)


def test_that_a_temperature_reaches_all_layers() -> None:
    gpt = model()
    gpt.set_temperature(2.5)
    assert [attention.temperature for attention in gpt.attentions] == [2.5, 2.5]


def test_that_every_kind_of_attention_on_offer_runs() -> None:
    assert set(method_names("attention")) >= {"softmax", "torch"}
    for name in method_names("attention"):
        assert model(attention=name)(tokens(2, 16)).isfinite().all()


def test_that_every_activation_on_offer_trains() -> None:
    assert set(method_names("activation")) >= {"gelu", "polynorm", "polyrelu", "relu", "relu2", "swiglu"}
    sizes = set()
    for name in method_names("activation"):
        gpt = model(activation=name)
        CrossEntropyLoss()(gpt(tokens(2, 16)).flatten(0, 1), tokens(2, 16).flatten()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in gpt.blocks.parameters())
        sizes.add(sum(p.numel() for p in gpt.parameters()))
    assert max(sizes) < 1.02 * min(sizes)


def test_that_options_stand_for_a_config_or_change_one() -> None:
    assert GPT(**SMALL).config == GPTConfig(**SMALL)
    changed = GPT(GPTConfig(**SMALL), attention="torch", activation="relu")
    assert changed.config == GPTConfig(**SMALL, attention="torch", activation="relu")


def test_that_wrong_choices_are_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match=r"attention: there is no 'sofmax'; use .*softmax.*torch"):
        model(attention="sofmax")
    with pytest.raises(ArgumentError, match=r"activation: there is no 'rely'; use gelu, .*relu"):
        model(activation="rely")
    with pytest.raises(ArgumentError, match="GPTConfig: width 10 is no multiple of 4 heads"):
        model(width=10, heads=4)
    with pytest.raises(ArgumentError, match="layers is 0; use 1 or more"):
        model(layers=0)
    with pytest.raises(ShapeError, match="17 tokens; use 16 or fewer"):
        model()(tokens(2, 17))
