"""Dropout and top keys of differentiable attention: both paths, derivatives, the operator, the drop-in."""

import pytest
import torch

import oracles
from logitscope.errors import ArgumentError
from logitscope.nn.functional import attention, scaled_dot_product_attention

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
OPTIONS = [
    {"is_causal": True},
    {"kind": "sigmoid", "softcap": 1.5},
    {"sinks": torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64), "kv_len": torch.tensor([4, 7])},
]


def problem(queries=5, keys=7, size=3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 4, queries, size), (2, 2, keys, size), (2, 2, keys, 2))
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return tuple(tensor.requires_grad_() for tensor in tensors)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_that_first_and_second_derivatives_are_right(options) -> None:
    def function(q, k, v):
        result = attention(q, k, v, dropout_p=0.4, seed=12345678901, stats=("entropy",), **options)
        return result.out, result.entropy

    inputs = problem(size=2)
    assert torch.autograd.gradcheck(function, inputs)
    directions = [torch.randn_like(part) for part in function(*inputs)]
    assert torch.autograd.gradgradcheck(function, inputs, directions, fast_mode=True)


@quiet
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_that_both_paths_agree(options) -> None:
    q, k, v = (tensor.detach() for tensor in problem(queries=9, keys=23))
    if "kv_len" in options:
        options = options | {"kv_len": torch.tensor([4, 23])}
    options = {"dropout_p": 0.4, "seed": -(2**40) % 2**64, "top_keys": 5, **options}
    ours = attention(q, k, v, **options)
    with torch.autograd.forward_ad.dual_level():
        plain = attention(torch.autograd.forward_ad.make_dual(q, q), k, v, **options)
        for name in ("out", "lse", "top_weights"):
            part = torch.autograd.forward_ad.unpack_dual(getattr(plain, name)).primal
            torch.testing.assert_close(getattr(ours, name), part)
        assert torch.equal(ours.top_keys, plain.top_keys)


def test_that_the_mask_is_that_of_the_generator() -> None:
    q, k, v = (tensor.detach() for tensor in problem(queries=9, keys=23))
    ours = attention(q, k, v, dropout_p=0.4, seed=torch.tensor(77)).out
    keys, values = (x.repeat_interleave(2, dim=1) for x in (k, v))
    weights = (q @ keys.mT / 3**0.5).softmax(-1)
    factors = torch.from_numpy(oracles.dropout_factors((2, 4, 9, 23), 0.4, 77))
    torch.testing.assert_close(ours, (weights * factors) @ values)


def test_that_the_drop_in_draws_from_torchs_generator() -> None:
    q, k, v = problem(queries=64, keys=64)

    def run():
        torch.manual_seed(4)
        out = scaled_dot_product_attention(q, k, v, dropout_p=0.3, enable_gqa=True)
        return out, *torch.autograd.grad(out.square().sum(), (q, k, v))

    assert all(torch.equal(first, second) for first, second in zip(run(), run(), strict=True))
    again = scaled_dot_product_attention(q, k, v, dropout_p=0.3, enable_gqa=True)
    assert not torch.allclose(run()[0], again)
    plain = scaled_dot_product_attention(q, k, v, enable_gqa=True)
    outs = [scaled_dot_product_attention(q, k, v, dropout_p=0.3, enable_gqa=True) for _ in range(50)]
    assert (torch.stack(outs).mean(0) - plain).abs().mean() < (again - plain).abs().mean() / 4


@quiet
def test_that_it_compiles_without_a_break_and_torch_accepts_the_operator() -> None:
    q, k, v = problem()

    def score(q, k, v):
        result = attention(q, k, v, dropout_p=0.3, seed=5, top_keys=2)
        return result.out.square().sum() + result.top_weights.sum(), result.top_keys

    compiled = torch.compile(score, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(compiled(q, k, v), score(q, k, v), strict=True):
        torch.testing.assert_close(got, wanted)
    for got, wanted in zip(
        torch.autograd.grad(compiled(q, k, v)[0], (q, k, v)),
        torch.autograd.grad(score(q, k, v)[0], (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)

    def draws(q, k, v):
        return attention(q, k, v, dropout_p=0.3).out

    drawn = torch.compile(draws, fullgraph=True, backend="aot_eager")
    assert not torch.allclose(drawn(q, k, v), drawn(q, k, v))
    torch.library.opcheck(
        torch.ops.logitscope.attention.default,
        (
            *(q, k, v, *(None,) * 9, torch.tensor(3)),
            *(0.5, (3, 0), "bottom_right", 0.0, False, 0.3, "entropy", (), "mean", 2),
        ),
    )


def test_that_bad_options_are_refused_by_name() -> None:
    q, k, v = problem()
    for message, options in (
        ("attention: dropout_p is 1.0; use 0 or more, below 1", {"dropout_p": 1.0}),
        ("attention: dropout_p is -1; use 0 or more", {"dropout_p": -1, "seed": torch.tensor(1)}),
        ("attention: seed is -3 with dropout_p=0.5", {"dropout_p": 0.5, "seed": -3}),
        (
            r"attention: seed is torch.float32 of shape \(2,\)",
            {"dropout_p": 0.5, "seed": torch.zeros(2)},
        ),
        ("attention: top_keys is 8; use 0 for none, or up to the number of keys, 7", {"top_keys": 8}),
    ):
        with pytest.raises(ArgumentError, match=message):
            attention(q, k, v, **options)
    with pytest.raises(ArgumentError, match=r"scaled_dot_product_attention: dropout_p is 1.5; use 0 or more"):
        scaled_dot_product_attention(q, k, v, dropout_p=1.5)
