"""Selective attention: what it is at first, its gradients, temperatures of any sign, decoding, and conversion."""

import math

import pytest
import torch

from logitscope import KVCache, nn
from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn import functional


def selective(width=24, heads=4, seed=0, dtype=torch.float64, **options):
    torch.manual_seed(seed)
    return nn.SelectiveAttention(width, heads, **options).to(dtype)


def awake(module):
    """Give the gates weights, as training would."""
    torch.manual_seed(1)
    for parameter in nn.selective_param_groups(module)[0]["params"]:
        parameter.data = torch.randn_like(parameter)
    return module


def tokens(length=7, width=24, batch=2, dtype=torch.float64):
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(length), dtype=dtype)


def dense(module, x):
    """The formula, with a map."""
    q, k, v = module.project(x)
    n = torch.arange(1, x.shape[1] + 1).to(x.dtype)
    groups = module.num_heads // module.num_kv_heads

    def tau(heads, gate, position):
        result = torch.ones(heads.shape[:3], dtype=x.dtype)
        if gate is not None and gate.network is None:
            result = result + torch.tanh((torch.nn.functional.gelu(heads) * gate.w[:, None]).sum(-1))
        elif gate is not None:
            hidden = torch.nn.functional.gelu(gate.network(x))
            result = result + torch.tanh(torch.einsum("bth,gh->bgt", hidden, gate.w))
        return result if position is None else result + position.rate * n.log()

    tau_q = tau(q, module.query_gate, module.query_position)
    v = v * tau(v, module.value_gate, module.value_position)[..., None]
    k, v = (part.repeat_interleave(groups, 1) for part in (k, v))
    scores = tau_q[..., None] * (q @ k.mT) / math.sqrt(q.shape[-1])
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return module.join(scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v)


def test_that_new_gates_without_position_are_ordinary_attention():
    module = selective(position=False, bias=True, dtype=torch.float32)
    plain = nn.CausalSelfAttention(24, 4)
    plain.load_state_dict({name: module.state_dict()[name] for name in plain.state_dict()})
    x = tokens(dtype=torch.float32)
    torch.testing.assert_close(module(x), plain(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pos_param": "gompertz", "alpha_init": 0.5, "value_position": True},
        {"weight_sharing": False, "tmp_hidden": 5},
        {"num_kv_heads": 2, "per_head_gate": False, "head_dim": 5, "bias": True},
        {"query_gate": False},
        {"value_gate": False, "position": False},
    ],
)
def test_that_the_module_is_the_formula(options):
    module = awake(selective(**options))
    torch.testing.assert_close(module(tokens()), dense(module, tokens()), rtol=1e-10, atol=1e-10)


def test_that_a_constant_temperature_is_a_scale():
    q, k, v = torch.randn(3, 1, 2, 5, 4).double()
    tau = nn.selective_temperature(q, torch.zeros(4).double(), -1e9, torch.ones(5)) * 2.5
    scaled = functional.attention(q, k, v, scale=2.5 / 2.0).out
    torch.testing.assert_close(functional.attention(q, k, v, inv_temperature=tau).out, scaled)


@pytest.mark.parametrize("options", [{}, {"weight_sharing": False, "tmp_hidden": 3, "value_position": True}])
def test_that_gradients_of_all_parameters_are_right(options):
    module = awake(selective(8, 2, **options))
    x = tokens(4, 8, 1)
    named = dict(module.named_parameters())
    assert {name.partition(".")[0] for name in named} >= {
        "query_gate",
        "value_gate",
        "query_position",
        "qkv",
        "out",
    }

    def score(*parameters):
        return torch.func.functional_call(module, dict(zip(named, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(score, tuple(named.values()))


def test_that_a_temperature_of_zero_is_uniform_and_a_negative_one_turns_the_order_around():
    q, k = torch.randn(2, 1, 1, 6, 4).double()
    eye = torch.eye(6).double()[None, None]
    weights = functional.attention(
        q, k, eye, inv_temperature=torch.zeros(1, 1, 6).double(), is_causal=True
    ).out[0, 0]
    torch.testing.assert_close(weights, torch.ones(6, 6).double().tril() / torch.arange(1, 7)[:, None])
    up, down = (
        functional.attention(q, k, eye, inv_temperature=torch.full((1, 1, 6), tau).double()).out[0, 0]
        for tau in (1, -1)
    )
    torch.testing.assert_close(up.argsort(1), down.argsort(1).flip(1))


@pytest.mark.parametrize(
    "options", [{}, {"value_position": True, "num_kv_heads": 2}, {"rope": nn.RotaryPosition(6)}]
)
def test_that_decoding_step_by_step_is_the_full_pass(options):
    module = awake(selective(alpha_init=0.0, **options))
    x = tokens(9)
    whole = module(x).detach()
    cache = KVCache(2, module.num_kv_heads, 16, 6, dtype="float64")
    parts = [module(x[:, :4], cache=cache), *(module(x[:, i : i + 1], cache=cache) for i in range(4, 9))]
    torch.testing.assert_close(torch.cat(parts, 1).detach(), whole)
    _, stats = selective(alpha_init=0.0)(x, need_stats=True)
    growth = 1 + 0.5 * torch.arange(1, 10).double().log()
    torch.testing.assert_close(stats.tau_q[0, 0], growth)
    torch.testing.assert_close(stats.tau_v, torch.ones(2, 4, 9).double())


def test_that_positions_count_what_a_query_sees():
    module = selective(alpha_init=0.0, causal=False)
    x, other = tokens(5), tokens(8)
    count = torch.tensor(0.5).double()
    _, stats = module(x, need_stats=True)
    torch.testing.assert_close(stats.tau_q[0, 0], (1 + count * math.log(5)).expand(5))
    _, stats = module(x, kv=other, need_stats=True)
    torch.testing.assert_close(stats.tau_q[0, 0], (1 + count * math.log(8)).expand(5))
    assert stats.tau_v.shape == (2, 4, 8)
    mask = torch.arange(8) < 3
    _, stats = module(x, kv=other, mask=mask[None], need_stats=True)
    torch.testing.assert_close(stats.tau_q[0, 0], (1 + count * math.log(3)).expand(5))
    torch.testing.assert_close(
        module(x, kv=other, mask=mask[None]),
        selective(alpha_init=0.0, causal=False)(x, kv=other, mask=mask[None]),
    )
    turned = nn.SelectiveAttention(24, 4, batch_first=False).double()
    turned.load_state_dict(selective().state_dict())
    torch.testing.assert_close(turned(x.transpose(0, 1)).transpose(0, 1), selective()(x))


def test_that_closed_value_gates_give_nothing():
    module = selective(position=False)
    q, k, v = module.project(tokens())
    assert not functional.attention(q, k, torch.zeros(2, 4, 7, 1) * v, is_causal=True).out.any()
    module.value_gate.w.data.fill_(-1e4)  # tanh is -1 where gelu is positive
    module.qkv.weight.data.abs_()
    assert module(tokens().abs()).abs().max() < 1e-12


@pytest.mark.parametrize("pos_param", ["sigmoid", "gompertz"])
def test_that_sharing_weights_adds_next_to_no_parameters(pos_param):
    module = nn.SelectiveAttention(768, 12, value_position=True, pos_param=pos_param)
    (group,) = nn.selective_param_groups(module)
    added = sum(parameter.numel() for parameter in group["params"])
    assert added == 2 * 12 * 64 + 2
    assert added < 0.005 * 12 * 768**2  # of a layer with its network


def test_that_gates_alone_can_be_trained():
    model = nn.GPT(nn.GPTConfig(vocabulary=5, context=6, layers=2, heads=2, width=8, attention="selective"))
    assert all((a.query_gate.w == 0).all() for a in model.attentions)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(nn.selective_param_groups(model), lr=0.1)
    model(torch.randint(0, 5, (2, 6))).square().mean().backward()
    optimizer.step()
    changed = {
        name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert changed
    assert all(".query_" in name or ".value_" in name for name in changed)


@pytest.mark.parametrize(("alpha", "limit"), [(-30.0, 1e-5), (-4.6, 0.1)])
def test_that_a_converted_model_gives_what_it_gave(alpha, limit):
    torch.manual_seed(0)
    model = nn.GPT(nn.GPTConfig(vocabulary=5, context=6, layers=2, heads=2, width=8))
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    ids, x, hidden = (
        torch.randint(0, 5, (2, 6)),
        torch.randn(2, 6, 8),
        torch.ones(6, 6, dtype=torch.bool).triu(1),
    )
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    before = [model(ids), layer(x), layer(x, src_mask=hidden, src_key_padding_mask=padding)]
    for part in (model, layer):
        nn.convert_to_selective(part, alpha_init=alpha)
    after = [model(ids), layer(x), layer(x, src_mask=hidden, src_key_padding_mask=padding)]
    for old, new in zip(before, after, strict=True):
        assert 0 < (old - new).abs().max() + (alpha < -5) < limit + (alpha < -5)
    assert isinstance(layer.self_attn, nn.SelectiveMultiheadAttention)
    with torch.no_grad():
        torch.testing.assert_close(layer.eval()(x), after[1])


def test_that_a_filter_chooses_what_is_converted():
    model = nn.GPT(nn.GPTConfig(vocabulary=5, context=6, layers=2, heads=2, width=8))
    nn.convert_to_selective(model, lambda name, module: name.startswith("blocks.1"))
    kinds = [type(attention).__name__ for attention in model.attentions]
    assert kinds == ["CausalSelfAttention", "SelectiveAttention"]
    with pytest.raises(ArgumentError, match=r"^convert_to_selective: no attention was chosen; use a model"):
        nn.convert_to_selective(torch.nn.Linear(2, 2))


def test_that_wrong_input_is_refused():
    with pytest.raises(
        ArgumentError, match=r"^SelectiveAttention: tmp_hidden is 3 with weight_sharing; use one of"
    ):
        nn.SelectiveAttention(8, 2, tmp_hidden=3)
    with pytest.raises(ArgumentError, match=r"^SelectiveAttention: value_position needs value_gate; use"):
        nn.SelectiveAttention(8, 2, value_position=True, value_gate=False)
    with pytest.raises(
        ArgumentError, match=r"^PositionTemperature: positions has 0; use 1 or more, the first is 1$"
    ):
        nn.PositionTemperature()(torch.arange(3.0))
    with pytest.raises(ArgumentError, match=r"^PositionTemperature: kind is 'log'; use sigmoid or gompertz$"):
        nn.PositionTemperature(0.0, "log")
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(
        ShapeError, match=r"^selective_temperature: w has shape \(3,\) for q of \(1, 2, 3, 4\); use"
    ):
        nn.selective_temperature(q, torch.zeros(3), 0.0, torch.ones(3))
    with pytest.raises(
        ShapeError, match=r"^TokenTemperature: x has shape \(1, 2, 3, 4\); use \(B, 3, T, 4\)$"
    ):
        nn.TokenTemperature(4, 3)(q)
    module = nn.SelectiveAttention(8, 2)
    with pytest.raises(
        ArgumentError, match=r"^SelectiveAttention: cache is for causal self-attention; use it"
    ):
        module(torch.zeros(1, 2, 8), kv=torch.zeros(1, 2, 8), cache=KVCache(1, 2, 8, 4))
