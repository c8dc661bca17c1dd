"""Gradients of 16-bit tensors: computed in float32, rounded once, in the dtype of what they belong to."""

import pytest
import torch

import logitscope
from logitscope import loss
from logitscope.nn.functional import cross_entropy, linear_cross_entropy

TYPES = [torch.float16, torch.bfloat16]
ROWS = ["softmax", "log_softmax", "logsumexp", "sparsemax", "entmax15", "stablemax", "log_stablemax"]


def leaf(shape, dtype, seed=0):
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_rows_have_gradients_near_those_of_float32(name, dtype):
    x = leaf((4, 30), dtype)
    wide = x.detach().float().requires_grad_()
    function = getattr(logitscope, name)
    y, exact = function(x), function(wide)
    assert y.dtype == dtype
    upstream = leaf(tuple(y.shape), dtype, 1).detach()
    y.backward(upstream)
    exact.backward(upstream.float())
    assert x.grad.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(x.grad.float(), wide.grad, rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_are_float32_and_scale_their_gradients(reduction, dtype):
    x = leaf((6, 11), dtype)
    wide = x.detach().float().requires_grad_()
    classes = torch.arange(6)
    value = cross_entropy(x, classes, reduction=reduction)
    exact = cross_entropy(wide, classes, reduction=reduction)
    assert value.dtype == torch.float32
    assert torch.equal(value, exact)
    factor = torch.full_like(value, 0.25)  # exact in any type
    for _ in range(2):
        x.grad = wide.grad = None
        value.backward(factor, retain_graph=True)
        exact.backward(factor, retain_graph=True)
        assert x.grad.dtype == dtype
        torch.testing.assert_close(x.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_other_losses_and_the_composite_path(dtype):
    x = leaf((6, 11), dtype)
    classes = torch.arange(6)
    for function in (loss.stablemax_cross_entropy, loss.z_standardized_loss):
        x.grad = None
        function(x, classes).backward()
        assert x.grad.dtype == dtype
    plain = cross_entropy(x, classes)
    gradient = torch.func.grad(lambda x: cross_entropy(x, classes))(x.detach())
    assert gradient.dtype == dtype
    (exact,) = torch.autograd.grad(plain, x)
    torch.testing.assert_close(gradient, exact, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("mode", ["chunked", "recompute"])
def test_a_linear_layer_with_its_loss(mode, dtype):
    classes = torch.arange(12)
    given = [leaf((12, 8), dtype), leaf((20, 8), dtype, 1), leaf((20,), dtype, 2)]
    exact = [tensor.detach().float().requires_grad_() for tensor in given]
    losses = [
        linear_cross_entropy(hidden, weight, classes, bias, mode=mode)
        for hidden, weight, bias in (given, exact)
    ]
    assert losses[0].dtype == torch.float32
    assert torch.equal(*losses)
    for value in losses:
        value.backward()
    for tensor, wide in zip(given, exact, strict=True):
        assert tensor.grad.dtype == dtype
        torch.testing.assert_close(tensor.grad, wide.grad.to(dtype))
    plain = torch.func.grad(lambda x: linear_cross_entropy(x, given[1].detach(), classes))(given[0].detach())
    assert plain.dtype == dtype


def test_the_operators_describe_16_bit_tensors_rightly():
    x = leaf((6, 11), torch.bfloat16)
    compiled = torch.compile(
        lambda x: cross_entropy(logitscope.nn.functional.log_softmax(x), torch.arange(6)),
        fullgraph=True,
        backend="aot_eager",
    )
    value = compiled(x)
    assert value.dtype == torch.float32
    value.backward()
    assert x.grad.dtype == torch.bfloat16
    arguments = (leaf((6, 11), torch.bfloat16), 1, 1.0)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.logitscope.softmax, arguments, test_utils=checks)
