"""Gates on the values of attention: the output, every gradient, both paths."""

import numpy as np
import pytest
import torch

import logitscope
from logitscope.errors import DTypeError, ShapeError
from logitscope.nn.functional import attention


def problem(dtype=np.float64):
    rng = np.random.default_rng(2)
    shapes = [(2, 4, 33, 8), (2, 2, 70, 8), (2, 2, 70, 5), (2, 4, 33, 5)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes], rng


@pytest.mark.parametrize("shape", [(2, 2, 70), (2, 1), (70,), ()])
@pytest.mark.parametrize("layout", ["bhld", "blhd"])
def test_that_it_is_attention_over_the_gated_values(shape, layout):
    (q, k, v, dout), rng = problem()
    gate = rng.standard_normal(shape)
    full = np.broadcast_to(gate, (2, 2, 70))[..., None]
    options = {"is_causal": True, "sinks": np.zeros(4)}
    wanted = logitscope.attention(q, k, v * full, **options)
    gradients = logitscope.attention_backward(dout, q, k, v * full, wanted, **options)

    def turned(x):
        return x.swapaxes(1, 2) if layout == "blhd" else x

    inputs = [turned(x) for x in (q, k, v)]
    options |= {"value_gate": gate, "layout": layout}
    got = logitscope.attention(*inputs, **options)
    np.testing.assert_array_equal(turned(got.out), wanted.out)
    back = logitscope.attention_backward(turned(dout), *inputs, got, **options)
    np.testing.assert_array_equal(turned(back.dq), gradients.dq)
    np.testing.assert_array_equal(turned(back.dk), gradients.dk)
    np.testing.assert_allclose(turned(back.dv), gradients.dv * full, rtol=1e-13)
    np.testing.assert_allclose(back.dvalue_gate, (gradients.dv * v).sum(-1), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_that_torch_has_first_and_second_derivatives(kind):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 4, 5, 2), (1, 2, 7, 2), (1, 2, 7, 2), (2, 7)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    inputs = [x.requires_grad_() for x in inputs]

    def function(q, k, v, gate):
        return attention(q, k, v, value_gate=gate, kind=kind, is_causal=True).out

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)
    got = logitscope.attention(*inputs[:3], value_gate=inputs[3], kind=kind, is_causal=True)
    assert torch.equal(got.out, function(*inputs))


def test_that_nothing_leaks_from_beyond_the_lengths():
    (q, k, v, dout), rng = problem()
    gate = rng.standard_normal((2, 2, 70))
    options = {"kv_len": [70, 41], "value_gate": gate}

    def run():
        result = logitscope.attention(q, k, v, **options)
        back = logitscope.attention_backward(dout, q, k, v, result, **options)
        tensors = [torch.from_numpy(x).requires_grad_() for x in (q, k, v, gate)]
        lengths = torch.tensor(options["kv_len"])
        theirs = attention(*tensors[:3], value_gate=tensors[3], kv_len=lengths).out
        theirs.backward(torch.from_numpy(dout))
        return [result.out, back.dq, back.dv, back.dvalue_gate, tensors[2].grad, tensors[3].grad.numpy()]

    wanted = run()
    np.testing.assert_allclose(wanted[3], wanted[5], rtol=1e-10, atol=1e-13)
    for array in (k, v, gate):
        array[1, :, 41:] = np.nan
    for got, clean in zip(run(), wanted, strict=True):
        np.testing.assert_array_equal(got, clean)


@pytest.mark.parametrize("dtype", [np.float16, torch.bfloat16])
def test_that_sixteen_bits_are_gated_in_float32_and_rounded(dtype):
    (q, k, v, dout), rng = problem(np.float32)
    gate = rng.standard_normal((2, 2, 70)).astype(np.float32)
    kind = torch.float16 if dtype is np.float16 else dtype
    tensors = [torch.from_numpy(x).to(kind).requires_grad_() for x in (q, k, v)]
    gates = torch.from_numpy(gate).requires_grad_()
    out = attention(*tensors, value_gate=gates).out
    out.backward(torch.from_numpy(dout).to(kind))
    wide = [x.detach().float().requires_grad_() for x in (*tensors, gates)]
    wanted = attention(*wide[:3], value_gate=wide[3]).out
    wanted.backward(torch.from_numpy(dout).to(kind).float())
    assert out.dtype == tensors[2].grad.dtype == kind
    assert gates.grad.dtype == torch.float32
    limit = 1e-2 if kind == torch.bfloat16 else 2e-3
    pairs = [(out, wanted), (tensors[2].grad, wide[2].grad), (gates.grad, wide[3].grad)]
    for got, exact in pairs:
        assert (got.float() - exact).abs().max() < limit * exact.abs().max()
    if dtype is np.float16:
        arrays = [x.detach().numpy() for x in tensors]
        result = logitscope.attention(*arrays, value_gate=gate)
        assert np.array_equal(result.out, out.detach().numpy())


def test_that_a_gate_that_does_not_fit_is_refused_by_name():
    (q, k, v, _), rng = problem(np.float32)
    gate = rng.standard_normal((4, 70)).astype(np.float32)
    with pytest.raises(
        ShapeError, match=r"attention: value_gate has shape \(4, 70\); use one that broadcasts to"
    ):
        logitscope.attention(q, k, v, value_gate=gate)
    with pytest.raises(ShapeError, match=r"attention: value_gate of shape \(4, 70\) does not broadcast to"):
        attention(*(torch.from_numpy(x) for x in (q, k, v)), value_gate=torch.from_numpy(gate))
    with pytest.raises(DTypeError, match="value_gate has dtype int64"):
        logitscope.attention(q, k, v, value_gate=np.ones(70, np.int64))
