"""Attention of 16-bit tensors: gradients in the dtype of what they belong to, figures in float32."""

import pytest
import torch

from logitscope import _native
from logitscope.nn import composite
from logitscope.nn.functional import attention, scaled_dot_product_attention

TYPES = [torch.float16, torch.bfloat16]
theirs = torch.nn.functional.scaled_dot_product_attention


def problem(dtype, queries=37, keys=53, size=16):
    generator = torch.Generator().manual_seed(queries)
    shapes = ((2, 4, queries, size), (2, 2, keys, size), (2, 2, keys, size))
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.fixture
def plain_products():
    """Products of float32 numbers also where the CPU multiplies bfloat16: naming an instruction set leaves that out."""
    in_use = "auto" if _native.has_bf16_products() else _native.isa()
    _native.select_isa(_native.isa())
    yield
    _native.select_isa(in_use)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.usefixtures("plain_products")
def test_that_gradients_are_those_of_float32_rounded(dtype) -> None:
    given = problem(dtype)
    bias = torch.randn(37, 53).to(dtype).requires_grad_()
    exact = [x.detach().float().requires_grad_() for x in (*given, bias)]
    got = attention(*given, bias=bias, is_causal=True, stats=("entropy",))
    want = attention(*exact[:3], bias=exact[3], is_causal=True, stats=("entropy",))
    assert got.out.dtype == dtype
    assert got.lse.dtype == got.entropy.dtype == torch.float32
    assert torch.equal(got.out, want.out.to(dtype))
    assert torch.equal(got.lse, want.lse)
    upstream = torch.randn(got.out.shape).to(dtype)
    (got.out * upstream).sum().backward()
    (want.out * upstream.float()).sum().backward()
    eps = torch.finfo(dtype).eps
    for tensor, other in zip((*given, bias), exact, strict=True):
        assert tensor.grad.dtype == dtype
        # The outputs that delta is computed from were rounded.
        torch.testing.assert_close(tensor.grad.float(), other.grad, rtol=4 * eps, atol=4 * eps)
    (gradient,) = torch.autograd.grad(attention(*given).lse.sum(), given[0])
    assert gradient.dtype == dtype


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_that_both_paths_agree_and_transforms_see_the_derivatives(dtype) -> None:
    q, k, v = (x.detach() for x in problem(dtype))
    arguments = (q, k, v, *[None] * 10, 0.25, (-1, 0), "top_left", 0.0, False, 0.0, "entropy", (), "mean", 2)
    for fused, plain in zip(
        torch.ops.logitscope.attention(*arguments), composite.attention(*arguments), strict=True
    ):
        assert fused.dtype == plain.dtype
        torch.testing.assert_close(fused.float(), plain.float(), rtol=1e-2, atol=torch.finfo(dtype).eps)
    loss = lambda q: attention(q, k, v, is_causal=True).out.float().square().sum()  # noqa: E731
    by_transform = torch.func.grad(loss)(q)
    q = q.requires_grad_()
    (by_tape,) = torch.autograd.grad(loss(q), q)
    assert by_transform.dtype == by_tape.dtype == dtype
    torch.testing.assert_close(by_transform, by_tape, rtol=5e-2, atol=2e-2)
    (first,) = torch.autograd.grad(loss(q), q, create_graph=True)
    (second,) = torch.autograd.grad(first.float().square().sum(), q)
    assert second.dtype == dtype


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_that_torch_accepts_the_operator_and_it_compiles(dtype) -> None:
    q, k, v = problem(dtype, 5, 7, 3)
    arguments = (
        q,
        k,
        v,
        *[None] * 10,
        0.5,
        (-1, 0),
        "top_left",
        0.0,
        False,
        0.0,
        "entropy",
        (2, 3),
        "mean",
        2,
    )
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.logitscope.attention, arguments, test_utils=checks)
    compiled = torch.compile(
        lambda q, k, v: attention(q, k, v, is_causal=True).out, fullgraph=True, backend="aot_eager"
    )
    out = compiled(q, k, v)
    assert torch.equal(out, attention(q, k, v, is_causal=True).out)
    out.sum().backward()
    assert q.grad.dtype == k.grad.dtype == v.grad.dtype == dtype


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_that_the_drop_in_is_torchs_function(dtype, masked: bool) -> None:
    q, k, v = problem(dtype, 40, 40)
    mask = torch.randn(40, 40).to(dtype) if masked else None
    ours = scaled_dot_product_attention(q, k, v, mask, is_causal=not masked, enable_gqa=True)
    other = theirs(q, k, v, mask, is_causal=not masked, enable_gqa=True)
    eps = torch.finfo(dtype).eps
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, other, rtol=4 * eps, atol=8 * eps)
    gradients, wanted = (
        torch.autograd.grad(ours.sum(), (q, k, v)),
        torch.autograd.grad(other.sum(), (q, k, v)),
    )
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want, rtol=0.1, atol=0.1)
