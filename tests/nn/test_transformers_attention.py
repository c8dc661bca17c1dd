"""Models of Hugging Face transformers with logitscope's attention, built here from their configurations."""

import sys

import pytest
import torch

import logitscope
from logitscope.errors import ArgumentError
from logitscope.nn import register_transformers

transformers = pytest.importorskip("transformers")
NAME = register_transformers()
SHAPE = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**options):
    config = transformers.LlamaConfig(
        **SHAPE, intermediate_size=48, num_key_value_heads=2, max_position_embeddings=64, **options
    )
    return transformers.LlamaForCausalLM(config)


def mistral(**options):
    config = transformers.MistralConfig(
        **SHAPE, intermediate_size=48, num_key_value_heads=2, sliding_window=5, **options
    )
    return transformers.MistralForCausalLM(config)


def gpt2(dropout=0.0, **options):
    config = transformers.GPT2Config(
        vocab_size=61, n_positions=64, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=dropout, bos_token_id=0, eos_token_id=0, **options,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def gpt_oss(**options):
    config = transformers.GptOssConfig(
        **SHAPE, intermediate_size=48, num_key_value_heads=2, head_dim=8, num_local_experts=2,
        num_experts_per_tok=1, sliding_window=5, max_position_embeddings=64, pad_token_id=0, **options,
    )  # fmt: skip
    model = transformers.GptOssForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.copy_(torch.linspace(-1, 1, 4))
    return model


def batch(is_padded=True):
    tokens = torch.randint(1, 61, (2, 17), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(tokens)
    if is_padded:
        mask[1, :4] = 0
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}


def train(make, implementation, steps=4, is_padded=True, **options):
    torch.manual_seed(0)
    model = make(attn_implementation=implementation, **options).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = model(**batch(is_padded)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize(
    ("make", "reference"), [(llama, "sdpa"), (gpt2, "sdpa"), (mistral, "sdpa"), (gpt_oss, "eager")]
)
def test_that_models_train_with_the_losses_of_the_reference(make, reference, is_padded):
    wanted, _ = train(make, reference, is_padded=is_padded)
    got, model = train(make, NAME, is_padded=is_padded)
    assert model.config._attn_implementation == NAME
    assert got == pytest.approx(wanted, abs=1e-4)
    assert got[-1] < got[0]


@pytest.mark.parametrize("make", [llama, gpt2, mistral, gpt_oss])
def test_that_the_weights_are_those_of_the_eager_implementation(make):
    weights = {}
    for implementation in ("eager", NAME):
        torch.manual_seed(0)
        model = make(attn_implementation=implementation).eval()
        with torch.no_grad():
            weights[implementation] = model(**batch(), output_attentions=True).attentions
            if implementation == NAME:
                assert model(**batch()).get("attentions") is None
    assert len(weights[NAME]) == 2
    for got, wanted in zip(weights[NAME], weights["eager"], strict=True):
        assert got.shape == (2, 4, 17, 17)
        # Queries that are padding see nothing here, and everything there.
        got, wanted = (torch.cat([x[0].flatten(1), x[1, :, 4:].flatten(1)], dim=1) for x in (got, wanted))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [llama, mistral, gpt_oss])
def test_that_generation_with_a_cache_gives_the_tokens_of_the_reference(make):
    tokens = {}
    for implementation in ("eager", NAME):
        torch.manual_seed(0)
        model = make(attn_implementation=implementation).eval()
        given = {name: batch()[name] for name in ("input_ids", "attention_mask")}
        tokens[implementation] = model.generate(**given, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(tokens[NAME], tokens["eager"])


def test_that_dropout_is_drawn_from_torchs_generator_and_only_in_training():
    plain, _ = train(gpt2, NAME)
    first, model = train(gpt2, NAME, dropout=0.3)
    second, _ = train(gpt2, NAME, dropout=0.3)
    assert first == second != plain
    assert all(loss < 6 for loss in first)
    with torch.no_grad():
        model.eval()
        assert model(**batch()).loss == model(**batch()).loss
        model.train()
        assert model(**batch()).loss != model(**batch()).loss


def test_that_the_kernels_run_and_no_mask_is_made_without_padding():
    torch.manual_seed(0)
    model = llama(attn_implementation=NAME)

    def step():
        model(**batch(is_padded=False)).loss.backward()

    told = logitscope.explain(function=step)
    assert told.path == "native"
    assert [step.operation for step in told.steps] == ["attention"] * 2 + ["attention_backward"] * 2
    assert told.steps[0].shapes == ((2, 4, 17, 8), (2, 2, 17, 8))
    assert told.refused == ()


def test_that_a_float_mask_and_a_position_bias_are_added():
    from logitscope.nn.transformers_attention import transformers_attention

    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(3))
    mask, bias = torch.randn(2, 1, 6, 6, generator=generator), torch.randn(1, 4, 6, 6, generator=generator)
    got, weights = transformers_attention(torch.nn.Module(), q, k, v, mask, position_bias=bias)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask + bias)
    torch.testing.assert_close(got, wanted.transpose(1, 2), atol=1e-5, rtol=1e-5)
    assert weights is None


def test_that_what_cannot_be_registered_is_refused(monkeypatch):
    assert register_transformers("ours") == register_transformers("ours") == "ours"
    for name in ("eager", "sdpa"):
        with pytest.raises(ArgumentError, match=f"name is '{name}', which transformers has given itself"):
            register_transformers(name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs Hugging Face transformers: pip install"):
        register_transformers()
