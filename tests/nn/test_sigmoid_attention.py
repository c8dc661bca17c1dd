"""Sigmoid attention: weights, gradients, empty rows, the module and its block."""

import math

import numpy as np
import pytest
import torch

import logitscope
from logitscope import nn
from logitscope.errors import ArgumentError
from logitscope.nn.functional import sigmoid_attention


def problem(length=7, keys=None, dtype=torch.float64, heads=3, dim=5):
    generator = torch.Generator().manual_seed(length)
    shapes = ((2, heads, length, dim), (2, heads, keys or length, dim), (2, heads, keys or length, dim))
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def dense(q, k, v, bias, *, causal=False, added=0.0):
    scores = (
        q @ k.mT / math.sqrt(q.shape[-1]) + added + torch.as_tensor(bias, dtype=q.dtype).reshape(-1, 1, 1)
    )
    weights = torch.sigmoid(scores)
    return (weights.tril(k.shape[2] - q.shape[2]) if causal else weights) @ v


@pytest.mark.parametrize("n", [1, 5, 64])
def test_that_the_bias_of_minus_log_n_gives_new_models_sums_of_one(n):
    q = k = torch.zeros(1, 1, n, 4, dtype=torch.float64)
    found = sigmoid_attention(
        q, k, torch.eye(n, dtype=torch.float64)[None, None], bias=-math.log(n), is_causal=True
    )
    torch.testing.assert_close(found.out[0, 0], torch.full((n, n), 1 / (1 + n)).double().tril())
    torch.testing.assert_close(found.lse[0, 0].exp(), torch.arange(1, n + 1).double() / (1 + n))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 63, 64, 65, 130])
@pytest.mark.parametrize("causal", [False, True])
def test_that_tiles_and_their_tails_give_what_the_formula_gives(dtype, limit, length, causal):
    q, k, v = problem(length, dtype=dtype)
    bias = torch.tensor([-1.0, 0.0, 2.0], dtype=dtype) - math.log(length)
    out = sigmoid_attention(q, k, v, bias=bias, is_causal=causal).out
    wanted = dense(*(x.double() for x in (q, k, v)), bias.double(), causal=causal)
    assert (out - wanted).abs().max() <= limit * max(1.0, wanted.abs().max().item())


def test_that_gradients_are_right_for_the_bias_of_each_head_too():
    q, k, v = problem(5)
    bias = torch.tensor([-2.0, 0.3, 1.0], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (q, k, v, bias)]

    def score(q, k, v, bias):
        return sigmoid_attention(q, k, v, bias=bias, is_causal=True).out

    assert torch.autograd.gradcheck(score, inputs)
    one = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: score(q, k, v, one), one)


def test_that_hidden_keys_weigh_nothing_and_rows_that_see_none_are_zero():
    q, k, v = (x.requires_grad_() for x in problem(6))
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[2] = False
    eye = torch.eye(6, dtype=torch.float64).expand(2, 3, 6, 6)
    weights = sigmoid_attention(q, k, eye, bias=-1.0, mask=mask).out
    assert not weights[:, :, ~mask].any()
    assert (weights[:, :, mask] > 0).all()
    out = sigmoid_attention(q, k, v, bias=-1.0, mask=mask).out
    assert not out[:, :, 2].any()
    for gradient in torch.autograd.grad(out.square().sum(), (q, k, v)):
        assert gradient.isfinite().all()


def test_that_tiny_weights_are_not_lost():
    q, k = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), -60.0)
    weight = sigmoid_attention(q, k, torch.ones_like(k), bias=0.0).out.item()
    assert weight == pytest.approx(8.756510762696520e-27, rel=1e-5)
    assert 0.5 * (1 + torch.tanh(torch.tensor(-30.0))) == 0  # the form that GPU kernels use


def test_that_keys_may_come_in_any_order_and_in_parts():
    q, k, v = problem(40, 150)
    whole = sigmoid_attention(q, k, v, bias=-3.0).out
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sigmoid_attention(q, k[:, :, order], v[:, :, order], bias=-3.0).out, whole)
    parts = (
        sigmoid_attention(q, k[:, :, part], v[:, :, part], bias=-3.0).out
        for part in (slice(70), slice(70, 150))
    )
    torch.testing.assert_close(sum(parts), whole)


def test_that_alibi_is_a_dense_bias_of_distances():
    q, k, v = problem(9, heads=4)
    slopes = nn.SigmoidAttention(20, 4, seq_len=9, alibi=True).alibi_slopes.double()
    torch.testing.assert_close(slopes, torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]).double())
    distances = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    added = -slopes[:, None, None] * distances
    got = sigmoid_attention(q, k, v, bias=-1.0, alibi_slopes=slopes).out
    torch.testing.assert_close(got, dense(q, k, v, -1.0, added=added))
    array = logitscope.attention(
        *(x.numpy() for x in (q, k, v)), kind="sigmoid", sigmoid_bias=-1.0, bias=added.numpy()
    )
    np.testing.assert_allclose(array.out, got.numpy(), rtol=1e-12, atol=1e-12)


def test_that_one_key_with_a_large_bias_is_taken_whole():
    q, k, v = problem(1)
    torch.testing.assert_close(sigmoid_attention(q, k, v, bias=40.0).out, v)


@pytest.mark.parametrize(
    "options", [{}, {"learn_bias": True, "qk_norm": True}, {"alibi": True, "out_norm": "rms"}]
)
def test_that_the_module_is_the_formula(options):
    torch.manual_seed(0)
    module = nn.SigmoidAttention(24, 4, seq_len=10, num_kv_heads=2, bias=True, **options).double()
    x = torch.randn(2, 10, 24).double()
    q, k, v = torch.split(module.qkv(x).view(2, 10, 8, 6).transpose(1, 2), [4, 2, 2], 1)
    if module.q_norm is not None:
        q, k = module.q_norm(q), module.k_norm(k)
    k, v = (part.repeat_interleave(2, 1) for part in (k, v))
    distances = (torch.arange(10)[:, None] - torch.arange(10)).abs()
    added = 0.0 if module.alibi_slopes is None else -module.alibi_slopes[:, None, None] * distances
    mixed = dense(q, k, v, -math.log(10), causal=True, added=added)
    wanted = module.out(mixed.transpose(1, 2).flatten(2))
    if module.out_norm is not None:
        wanted = module.out_norm(wanted)
    torch.testing.assert_close(module(x), wanted, rtol=1e-6, atol=1e-6)  # -log n is kept in float32
    module(x).sum().backward()
    assert ("sigmoid_bias" in dict(module.named_parameters())) == ("learn_bias" in options)


def test_that_another_length_may_move_the_bias():
    torch.manual_seed(0)
    plain, moved = (nn.SigmoidAttention(8, 2, seq_len=4, length_rescale=flag) for flag in (False, True))
    moved.load_state_dict(plain.state_dict())
    x = torch.randn(1, 8, 8)
    torch.testing.assert_close(moved(x[:, :4]), plain(x[:, :4]))
    plain.sigmoid_bias -= math.log(2)
    torch.testing.assert_close(moved(x), plain(x))


def test_that_rotary_positions_make_scores_of_distances():
    turn = nn.RotaryPosition(6)
    q, k = torch.randn(2, 1, 1, 1, 6).double()
    scores = [(turn(q, start=i) * turn(k, start=i + 3)).sum() for i in (0, 5, 100)]
    torch.testing.assert_close(scores, [scores[0]] * 3)
    module = nn.SigmoidAttention(12, 2, seq_len=5, rope=turn)
    assert module(torch.randn(1, 5, 12)).isfinite().all()
    with pytest.raises(ArgumentError, match=r"^RotaryPosition: head_dim is 5; use an even number$"):
        nn.RotaryPosition(5)


@pytest.mark.parametrize("norm", ["pre", "hybrid"])
def test_that_a_block_starts_as_nothing_with_a_small_layer_scale(norm):
    block = nn.SigmoidTransformerBlock(16, 2, seq_len=6, norm=norm, layer_scale=1e-6)
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(block(x), x, atol=1e-4, rtol=0)
    block(x).square().sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    assert (block.attention.out_norm is not None) == (norm == "hybrid")


def test_that_gpt_takes_it_by_name():
    model = nn.GPT(nn.GPTConfig(vocabulary=5, context=12, layers=2, heads=2, width=8, attention="sigmoid"))
    assert all(a.sigmoid_bias[0].item() == pytest.approx(-math.log(12)) for a in model.attentions)
    assert model(torch.zeros(1, 12, dtype=torch.long)).shape == (1, 12, 5)


def test_that_wrong_options_are_refused():
    with pytest.raises(ArgumentError, match=r"^SigmoidAttention: bias_init='auto' needs seq_len; give"):
        nn.SigmoidAttention(8, 2)
    with pytest.raises(
        ArgumentError, match=r"^SigmoidAttention: bias_init is 'log'; use 'auto' or a number$"
    ):
        nn.SigmoidAttention(8, 2, bias_init="log")
    with pytest.raises(
        ArgumentError, match=r"^SigmoidAttention: out_norm is 'l2'; use 'rms', 'layer' or None$"
    ):
        nn.SigmoidAttention(8, 2, seq_len=3, out_norm="l2")
    with pytest.raises(
        ArgumentError, match=r"^SigmoidAttention: width 8 is no multiple of 3 heads; use one that is$"
    ):
        nn.SigmoidAttention(8, 3, seq_len=3)
    with pytest.raises(
        ArgumentError, match=r"^SigmoidTransformerBlock: norm is 'post'; use 'pre' or 'hybrid'$"
    ):
        nn.SigmoidTransformerBlock(8, 2, seq_len=3, norm="post")
    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ArgumentError, match="kind"):
        nn.functional.attention(q, q, q, kind="tanh")
    with pytest.raises(ArgumentError, match="sinks"):
        sigmoid_attention(q, q, q, bias=0.0, sinks=torch.zeros(2))
