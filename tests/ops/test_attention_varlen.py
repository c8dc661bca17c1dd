"""Attention of packed sequences: bit for bit what each gives alone, forward and backward."""

import numpy as np
import pytest
import torch

import logitscope
from logitscope.errors import ArgumentError, ShapeError

STARTS_Q, STARTS_K = [0, 5, 5, 90, 161], [0, 40, 43, 43, 243]
OPTIONS = {
    "plain": {},
    "masked": {"is_causal": True, "window": (50, 0), "sinks": np.zeros(4, np.float32)},
    "steps": {
        "softcap": 2.0,
        "alibi_slopes": np.linspace(0, 1, 4, dtype=np.float32),
        "causal_align": "top_left",
    },
    "sigmoid": {"kind": "sigmoid", "is_causal": True},
    "sigmoid of rows": {"kind": "sigmoid", "sigmoid_bias": "auto_row"},
    "sigmoid of heads": {"kind": "sigmoid", "sigmoid_bias": np.linspace(-2, 0, 4, dtype=np.float32)},
}
OF_HEADS = ("dsinks", "dalibi_slopes", "dsigmoid_bias")


def packed(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = [(161, 4, 8), (243, 2, 8), (243, 2, 5), (161, 4, 5)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def alone(index, q, k, v):
    """The arrays of one sequence, heads first."""
    (a, b), (c, d) = STARTS_Q[index : index + 2], STARTS_K[index : index + 2]
    return [x[None].swapaxes(1, 2) for x in (q[a:b], k[c:d], v[c:d])]


@pytest.mark.parametrize("name", OPTIONS)
def test_packed_sequences_are_calls_of_their_own_bit_for_bit(isa, name):
    q, k, v, dout = packed()
    options = {**OPTIONS[name], "stats": ("entropy",)}
    got = logitscope.attention_varlen(q, k, v, STARTS_Q, np.array(STARTS_K), **options)
    assert isa in logitscope.last_kernel()
    rng = np.random.default_rng(1)
    dlse, dentropy = rng.standard_normal((2, 4, 161), dtype=np.float32)
    back = logitscope.attention_varlen_backward(
        dout, q, k, v, STARTS_Q, STARTS_K, got, **OPTIONS[name], dlse=dlse, dentropy=dentropy
    )
    totals = dict.fromkeys(OF_HEADS, 0.0)
    for index in range(4):
        (a, b), (c, d) = STARTS_Q[index : index + 2], STARTS_K[index : index + 2]
        inputs = alone(index, q, k, v)
        own = logitscope.attention(*inputs, **options)
        np.testing.assert_array_equal(got.out[a:b].swapaxes(0, 1), own.out[0])
        for figure in ("lse", "entropy", "max_logit", "inv_sum"):
            np.testing.assert_array_equal(getattr(got, figure)[:, a:b], getattr(own, figure)[0])
        gradients = logitscope.attention_backward(
            dout[None, a:b].swapaxes(1, 2), *inputs, own, **OPTIONS[name],
            dlse=dlse[None, :, a:b], dentropy=dentropy[None, :, a:b],
        )  # fmt: skip
        for gradient, rows in (("dq", slice(a, b)), ("dk", slice(c, d)), ("dv", slice(c, d))):
            part = getattr(back, gradient)[rows].swapaxes(0, 1)
            np.testing.assert_array_equal(part, getattr(gradients, gradient)[0])
        for gradient in OF_HEADS:
            part = getattr(gradients, gradient)
            totals[gradient] = None if part is None else totals[gradient] + np.float64(part)
    has_bias = not isinstance(OPTIONS[name].get("sigmoid_bias", ""), str)
    for gradient, total in totals.items():
        if gradient == "dsigmoid_bias" and not has_bias:
            assert back.dsigmoid_bias is None
        elif total is not None:
            np.testing.assert_allclose(getattr(back, gradient), total, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_tensors_have_first_and_second_derivatives(name):
    generator = torch.Generator().manual_seed(0)
    starts_q, starts_k = [0, 2, 5], [0, 4, 7]
    shapes = [(5, 4, 2), (7, 2, 2), (7, 2, 3)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    of_heads = [key for key, x in OPTIONS[name].items() if isinstance(x, np.ndarray)]
    inputs += [torch.from_numpy(OPTIONS[name][key]).double() for key in of_heads]
    inputs = [x.requires_grad_() for x in inputs]

    def function(q, k, v, *given):
        options = {**OPTIONS[name], **dict(zip(of_heads, given, strict=True))}
        got = logitscope.attention_varlen(q, k, v, starts_q, starts_k, **options, stats=("entropy",))
        return got.out, got.lse, got.entropy

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(lambda *given: function(*given)[0], inputs, fast_mode=True)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [(4, 161), (161,), (4, 1)], ids=str)
def test_temperatures_of_packed_queries_are_those_of_calls_of_their_own(name, shape):
    q, k, v, dout = packed()
    rng = np.random.default_rng(3)
    temperature = rng.uniform(-1.5, 1.5, shape).astype(np.float32)
    full = np.broadcast_to(temperature, (4, 161))
    options = {**OPTIONS[name], "stats": ("entropy", "logits")}
    got = logitscope.attention_varlen(q, k, v, STARTS_Q, STARTS_K, inv_temperature=temperature, **options)
    dlse, dentropy = rng.standard_normal((2, 4, 161), dtype=np.float32)
    back = logitscope.attention_varlen_backward(
        dout, q, k, v, STARTS_Q, STARTS_K, got, inv_temperature=temperature, dlse=dlse, dentropy=dentropy,
        **OPTIONS[name],
    )  # fmt: skip
    totals = dict.fromkeys(OF_HEADS, 0.0)
    for index in range(4):
        (a, b), (c, d) = STARTS_Q[index : index + 2], STARTS_K[index : index + 2]
        inputs, own_rows = alone(index, q, k, v), {"inv_temperature": full[None, :, a:b]}
        own = logitscope.attention(*inputs, **options, **own_rows)
        np.testing.assert_array_equal(got.out[a:b].swapaxes(0, 1), own.out[0])
        for figure in ("lse", "entropy", "max_logit", "inv_sum", "logit_m2"):
            np.testing.assert_array_equal(getattr(got, figure)[:, a:b], getattr(own, figure)[0])
        gradients = logitscope.attention_backward(
            dout[None, a:b].swapaxes(1, 2), *inputs, own, **OPTIONS[name], **own_rows,
            dlse=dlse[None, :, a:b], dentropy=dentropy[None, :, a:b],
        )  # fmt: skip
        for gradient, rows in (("dq", slice(a, b)), ("dk", slice(c, d)), ("dv", slice(c, d))):
            part = getattr(back, gradient)[rows].swapaxes(0, 1)
            np.testing.assert_array_equal(part, getattr(gradients, gradient)[0])
        np.testing.assert_array_equal(back.dinv_temperature[:, a:b], gradients.dinv_temperature[0])
        for gradient in OF_HEADS:
            part = getattr(gradients, gradient)
            totals[gradient] = None if part is None else totals[gradient] + np.float64(part)
    has_bias = not isinstance(OPTIONS[name].get("sigmoid_bias", ""), str)
    for gradient, total in totals.items():
        if total is None or (gradient == "dsigmoid_bias" and not has_bias):
            assert getattr(back, gradient) is None
        else:
            np.testing.assert_allclose(getattr(back, gradient), total, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_temperatures_of_packed_queries_have_first_and_second_derivatives(kind):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 4, 2), (7, 2, 2), (7, 2, 3), (4, 5)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    inputs = [x.requires_grad_() for x in inputs]

    def function(q, k, v, temperature):
        got = logitscope.attention_varlen(
            q,
            k,
            v,
            [0, 2, 5],
            [0, 4, 7],
            inv_temperature=temperature,
            is_causal=True,
            kind=kind,
            stats=("entropy",),
        )
        return got.out, got.lse, got.entropy

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(lambda *given: function(*given)[0], inputs, fast_mode=True)
    arrays = [x.detach().numpy() for x in inputs]
    for tensor, array in zip(function(*inputs), function(*arrays), strict=True):
        np.testing.assert_array_equal(tensor.detach(), array)


def test_that_transforms_of_torch_go_sequence_by_sequence():
    q, k, v = torch.randn(3, 20, 2, 8, dtype=torch.float64).unbind(0)
    starts = [0, 7, 20]

    def function(q):
        return logitscope.attention_varlen(q, k, v, starts, starts, is_causal=True).out

    gradient = torch.func.grad(lambda q: (function(q) ** 2).sum())(q)
    leaf = q.clone().requires_grad_()
    (wanted,) = torch.autograd.grad((function(leaf) ** 2).sum(), leaf)
    torch.testing.assert_close(gradient, wanted)
    out = function(q)
    expected = torch.nn.functional.scaled_dot_product_attention(
        *(x[7:].transpose(0, 1)[None] for x in (q, k, v)), is_causal=True
    )
    torch.testing.assert_close(out[7:].transpose(0, 1)[None], expected)


def test_that_neither_threads_nor_strides_change_a_bit():
    q, k, v, dout = packed()
    results = []
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            for arrays in ((q, k, v), [np.asfortranarray(x) for x in (q, k, v)]):
                got = logitscope.attention_varlen(*arrays, STARTS_Q, STARTS_K, is_causal=True)
                back = logitscope.attention_varlen_backward(
                    dout, *arrays, STARTS_Q, STARTS_K, got, is_causal=True
                )
                results.append(b"".join(x.tobytes() for x in (got.out, got.lse, back.dq, back.dk, back.dv)))
    finally:
        logitscope.set_num_threads(None)
    assert len(set(results)) == 1


def test_that_explain_counts_the_tiles_of_the_sequences():
    q, k, v, _ = packed()
    told = logitscope.explain(
        q, k, v, STARTS_Q, STARTS_K, is_causal=True, function=logitscope.attention_varlen
    )
    (step,) = told.steps
    assert step.operation == "attention_varlen"
    counts = [logitscope.explain(*alone(index, q, k, v), is_causal=True).steps[0].tiles for index in range(4)]
    assert step.tiles == tuple(map(sum, zip(*counts, strict=True)))


def test_that_wrong_arguments_are_refused_by_name():
    q, k, v, dout = packed()
    got = logitscope.attention_varlen(q, k, v, STARTS_Q, STARTS_K)
    backward = logitscope.attention_varlen_backward
    with pytest.raises(
        ShapeError, match=r"attention_varlen_backward: dout has shape \(3, 4, 5\); use \(161, 4, 5\)"
    ):
        backward(dout[:3], q, k, v, STARTS_Q, STARTS_K, got)
    with pytest.raises(ArgumentError, match="dentropy is given but result holds no entropy"):
        backward(dout, q, k, v, STARTS_Q, STARTS_K, got, dentropy=got.lse)
    with pytest.raises(ArgumentError, match="attention_varlen: empty is 'no'"):
        logitscope.attention_varlen(q, k, v, STARTS_Q, STARTS_K, empty="no")
    for given in (q, torch.from_numpy(q).requires_grad_()):
        temperature = np.ones((4, 160), np.float32)
        with pytest.raises(
            ShapeError, match=r"attention_varlen: inv_temperature has shape \(4, 160\); use one"
        ):
            logitscope.attention_varlen(
                *(given, k, v) if given is q else (given, *map(torch.from_numpy, (k, v))),
                STARTS_Q,
                STARTS_K,
                inv_temperature=temperature if given is q else torch.from_numpy(temperature),
            )
    nan = logitscope.attention_varlen(q[:5], k, v, [0, 3, 5], [0, 0, 243], empty="nan")
    assert np.isnan(nan.out[:3]).all()
    assert not np.isnan(nan.out[3:]).any()
