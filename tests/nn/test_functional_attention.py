"""Attention and its statistics agree with plain formulas in f64, with their derivatives to second order."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn import composite
from logitscope.nn.functional import attention, scaled_dot_product_attention

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
theirs = torch.nn.functional.scaled_dot_product_attention


def problem(
    batch=2, heads=4, key_heads=2, queries=5, keys=7, size=3, value_size=6, dtype=torch.float64
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(queries * keys)
    shapes = (
        (batch, heads, queries, size),
        (batch, key_heads, keys, size),
        (batch, key_heads, keys, value_size),
        (batch, 1, queries),
    )
    return tuple(torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes)


def differentiable(q, k, v, inv_temperature, **options):
    result = attention(q, k, v, inv_temperature=inv_temperature, stats=("entropy",), **options)
    return result.out, result.lse, result.entropy


def reference(q, k, v, inv_temperature, scale, hidden):
    """Formulas as they are written, with every score stored."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = (scale * q @ k.mT * inv_temperature[..., None]).masked_fill(hidden, -torch.inf)
    weights = scores.softmax(-1)
    # log p of what is hidden is -inf and its weight 0: it does not count, but NaN would.
    entropy = -(weights * scores.log_softmax(-1).masked_fill(hidden, 0)).sum(-1)
    return weights @ v, scores.logsumexp(-1), entropy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("queries", "keys", "align"),
    [
        (5, 7, "bottom_right"),
        (7, 7, "top_left"),
        (5, 7, "top_left"),
        (13, 37, None),
        (64, 64, "bottom_right"),
    ],
)
def test_that_values_and_gradients_are_those_of_the_formulas(dtype, queries, keys, align) -> None:
    inputs = problem(queries=queries, keys=keys, size=8, dtype=dtype)
    offset = keys - queries if align == "bottom_right" else 0
    hidden = torch.ones(queries, keys, dtype=torch.bool).triu(1 + offset) & (align is not None)
    expected = reference(*(tensor.double() for tensor in inputs), 1 / math.sqrt(8), hidden)
    found = differentiable(*inputs, is_causal=align is not None, causal_align=align or "bottom_right")
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    upstream = [torch.linspace(-1, 1, part.numel()).view(part.shape) for part in expected]
    for part, correct in zip(found, expected, strict=True):
        torch.testing.assert_close(part.double(), correct, rtol=tolerance, atol=tolerance)
    gradients = torch.autograd.grad(found, inputs, [part.to(dtype) for part in upstream])
    correct = torch.autograd.grad(expected, inputs, [part.to(dtype).double() for part in upstream])
    for gradient, expected_gradient in zip(gradients, correct, strict=True):
        close = tolerance * max(1.0, expected_gradient.abs().max().item())
        torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=close)


@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
def test_that_first_and_second_derivatives_are_right(align: str) -> None:
    def function(*inputs):
        return differentiable(*inputs, is_causal=True, causal_align=align)

    assert torch.autograd.gradcheck(function, problem())
    assert torch.autograd.gradgradcheck(function, problem(queries=3, keys=4, size=2, value_size=2))


@pytest.mark.parametrize("wanted", ["out", "lse", "entropy"])
def test_that_each_result_alone_has_its_gradient(wanted: str) -> None:
    inputs = problem()
    index = ("out", "lse", "entropy").index(wanted)
    assert torch.autograd.gradcheck(lambda *inputs: differentiable(*inputs, is_causal=True)[index], inputs)


def test_that_inv_sum_and_max_logit_are_those_of_the_softmax() -> None:
    q, k, v, _ = problem(key_heads=4)
    result = attention(q, k, v, inv_temperature=0.5, is_causal=False)
    scores = 0.5 * q @ k.mT / math.sqrt(3)
    torch.testing.assert_close(result.max_logit, scores.amax(-1).detach())
    torch.testing.assert_close(result.lse, result.max_logit - result.inv_sum.log())
    assert result.entropy is None
    assert result.map is None
    assert result.out.requires_grad
    assert not result.max_logit.requires_grad
    assert not result.inv_sum.requires_grad


@quiet
@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
@pytest.mark.parametrize("bins", [(5, 7), (2, 3), (1, 1)])
def test_that_both_paths_bin_the_map_alike(align: str, bins: tuple[int, int]) -> None:
    q, k, v, inv_temperature = (tensor.detach() for tensor in problem())
    options = {"inv_temperature": inv_temperature, "is_causal": True, "causal_align": align, "map_bins": bins}
    ours = attention(q, k, v, **options).map
    with torch.autograd.forward_ad.dual_level():
        composite_map = attention(torch.autograd.forward_ad.make_dual(q, q), k, v, **options).map
        torch.testing.assert_close(ours, composite_map)
    torch.testing.assert_close(ours.sum(-1), torch.ones(2, 4, bins[0], dtype=q.dtype))


def test_that_empty_rows_are_nan_when_asked() -> None:
    q, k, v, _ = problem(queries=7, keys=4)
    result = attention(q, k, v, is_causal=True, empty="nan", stats=("entropy",))
    for part in (result.out, result.lse, result.max_logit, result.entropy):
        assert part[:, :, :3].isnan().all()
        assert part[:, :, 3:].isfinite().all()


def test_that_rows_that_see_nothing_are_zero_and_have_no_gradient() -> None:
    for path in (
        differentiable,
        lambda *inputs, **_: (lambda parts: (parts[0], parts[1], parts[4]))(
            composite.attention(
                *inputs[:3],
                inputs[3].expand(2, 4, 7),
                *(None,) * 9,
                *(0.5, (-1, 0), "bottom_right", 0.0, False, 0.0, "entropy", (), "mean", 0),
            )
        ),
    ):
        inputs = problem(queries=7, keys=4)
        out, lse, entropy = path(*inputs, is_causal=True)
        assert (out[:, :, :3] == 0).all()
        assert (lse[:, :, :3] == -torch.inf).all()
        assert (entropy[:, :, :3] == 0).all()
        gradients = torch.autograd.grad((out.sum(), lse[:, :, 3:].sum(), entropy.sum()), inputs)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert (gradients[0][:, :, :3] == 0).all()


def test_that_no_keys_and_no_queries_are_answered() -> None:
    for queries, keys in ((0, 4), (4, 0), (0, 0)):
        q, k, v, _ = problem(queries=queries, keys=keys)
        result = attention(q, k, v, stats=("entropy",))
        assert result.out.shape == (2, 4, queries, 6)
        assert (result.out == 0).all()
        assert (result.lse == -torch.inf).all()
        for gradient in torch.autograd.grad(result.out.sum(), (q, k, v)):
            assert (gradient == 0).all()


def test_that_heads_cut_from_one_projection_are_read_where_they_lie() -> None:
    projected = torch.randn(2, 9, 3, 4, 8, requires_grad=True)
    q, k, v = projected.permute(2, 0, 3, 1, 4)
    out = attention(q, k, v, is_causal=True).out
    assert out.transpose(1, 2).is_contiguous()
    expected = theirs(q, k, v, is_causal=True)
    torch.testing.assert_close(out, expected, rtol=2e-5, atol=2e-5)
    turned = logitscope.attention(*projected.unbind(2), is_causal=True, layout="blhd").out
    assert torch.equal(turned, out.transpose(1, 2))
    upstream = torch.randn(2, 9, 4, 8).transpose(1, 2)
    (gradient,) = torch.autograd.grad(out, projected, upstream)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, projected, upstream)[0], rtol=2e-5, atol=2e-5
    )


@quiet
@pytest.mark.parametrize(("entropy", "bins"), [(False, ()), (True, (2, 3))])
@pytest.mark.parametrize("tempered", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_that_torch_accepts_the_operator(
    entropy: bool, bins: tuple[int, ...], tempered: bool, turned: bool
) -> None:
    q, k, v, _ = problem(dtype=torch.float32)
    if turned:
        q, k = (x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (q, k))
    inv_temperature = torch.rand(2, 4, 5, requires_grad=True) if tempered else None
    torch.library.opcheck(
        torch.ops.logitscope.attention.default,
        (
            *(q, k, v, inv_temperature, *(None,) * 9, 0.5, (-1, 0), "top_left", 0.0, False, 0.0),
            *("entropy" if entropy else "", bins, "mean", 0),
        ),
    )


@quiet
def test_that_it_compiles_without_a_break() -> None:
    inputs = problem()

    def score(*inputs):
        out, lse, entropy = differentiable(*inputs, is_causal=True)
        return out.square().sum() + lse.sum() + entropy.sum()

    compiled = torch.compile(score, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), score(*inputs))
    for ours, plain in zip(
        torch.autograd.grad(compiled(*inputs), inputs),
        torch.autograd.grad(score(*inputs), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


@quiet
def test_that_function_transforms_and_forward_mode_see_the_derivatives() -> None:
    q, k, v, _ = (tensor.detach() for tensor in problem(queries=3, keys=4, size=2, value_size=2))
    weights = torch.linspace(-1, 1, 2 * 4 * 3 * 2, dtype=q.dtype).view(2, 4, 3, 2)

    def score(q):
        return (weights * attention(q, k, v).out).sum()

    (gradient,) = torch.autograd.grad(score(q.requires_grad_()), q)
    q = q.detach()
    torch.testing.assert_close(torch.func.grad(score)(q), gradient)
    torch.testing.assert_close(torch.func.jvp(score, (q,), (q,))[1], (gradient * q).sum())
    torch.testing.assert_close(
        torch.func.hessian(score)(q), torch.autograd.functional.hessian(score, q, create_graph=False)
    )
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, q)
        tangent = torch.autograd.forward_ad.unpack_dual(score(dual)).tangent
        torch.testing.assert_close(tangent, (gradient * q).sum())


def test_that_tensors_that_do_not_fit_are_refused_by_name() -> None:
    q, k, v, _ = problem()
    with pytest.raises(ShapeError, match=r"attention: q \(2, 3, 5, 3\), k \(2, 2, 7, 3\), .* do not fit"):
        attention(q[:, :3], k, v)
    with pytest.raises(ShapeError, match=r"attention: q has shape \(4, 5, 3\); use 4 dimensions"):
        attention(q[0], k, v)
    with pytest.raises(ShapeError, match=r"inv_temperature of shape \(6,\) does not broadcast to"):
        attention(q, k, v, inv_temperature=torch.ones(6, dtype=q.dtype))
    with pytest.raises(DTypeError, match=r"attention: k has dtype bfloat16, q has float64; use one dtype"):
        attention(q, k.bfloat16(), v)
    with pytest.raises(
        ArgumentError, match=r"map_bins is \(6, 7\); use 1..5 bins of queries and 1..7 of keys"
    ):
        attention(q, k, v, map_bins=(6, 7))
    with pytest.raises(ArgumentError, match="stats is 'entropy'; use"):
        attention(q, k, v, stats="entropy")
    with pytest.raises(ArgumentError, match="empty is 'none'; use 'zero' or 'nan'"):
        attention(q, k, v, empty="none")
    with pytest.raises(ArgumentError, match="causal_align is 'middle'; use bottom_right or top_left"):
        attention(q, k, v, causal_align="middle")


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("leading", [(2,), (2, 3), (2, 1, 3)])
def test_that_the_drop_in_is_torchs_function(is_causal: bool, scale: float | None, leading) -> None:
    q, k, v = torch.randn(3, *leading, 6, 8)
    options = {"is_causal": is_causal, "scale": scale}
    for keys in (6, 4):
        torch.testing.assert_close(
            scaled_dot_product_attention(q, k[..., :keys, :], v[..., :keys, :], **options),
            theirs(q, k[..., :keys, :], v[..., :keys, :], **options),
            rtol=2e-5,
            atol=2e-5,
        )


def test_that_the_drop_in_groups_query_heads_when_asked() -> None:
    q, k, v, _ = problem(dtype=torch.float32)
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, v, enable_gqa=True),
        theirs(q, k, v, enable_gqa=True),
        rtol=2e-5,
        atol=2e-5,
    )
    with pytest.raises(ShapeError, match="query has 4 heads, key 2; use the same number, or enable_gqa=True"):
        scaled_dot_product_attention(q, k, v)


def test_that_the_drop_in_says_what_it_does_not_do() -> None:
    q, k, v = torch.zeros(3, 1, 1, 2, 4)
    with pytest.raises(ArgumentError, match=r"dropout_p is 1.0; use 0 or more, below 1"):
        scaled_dot_product_attention(q, k, v, dropout_p=1.0)
    with pytest.raises(ShapeError, match="with the same leading dimensions"):
        scaled_dot_product_attention(q[0, 0], k, v)


class Names(TorchDispatchMode):
    """Notes the operators that are called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def test_that_who_looks_on_sees_the_operators_and_no_bit_differs_from_the_way_around_them():
    q, k, v, dout = torch.randn(4, 1, 2, 5, 8).unbind(0)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = attention(*leaves, is_causal=True).out
    wanted = [out, *torch.autograd.grad(out, leaves, dout)]
    with Names() as names:
        out = attention(*leaves, is_causal=True).out
        got = [out, *torch.autograd.grad(out, leaves, dout)]
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    for name in ("logitscope.attention.default", "logitscope.attention_backward.default"):
        assert name in names.seen
