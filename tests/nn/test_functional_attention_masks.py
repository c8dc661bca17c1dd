"""Masks and sinks of differentiable attention: both paths, first and second derivatives, the operator, the drop-in."""

import pytest
import torch

from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn import composite
from logitscope.nn.functional import attention, scaled_dot_product_attention

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
theirs = torch.nn.functional.scaled_dot_product_attention

OPTIONS = [
    {"window": (2, 1)},
    {"window": (1, 0), "causal_align": "top_left"},
    {"is_causal": True, "q_len": torch.tensor([5, 3]), "kv_len": torch.tensor([4, 7])},
    {"q_len": 4, "kv_len": torch.tensor([0, 6])},
    {"mask": torch.arange(2 * 5 * 7).view(2, 1, 5, 7) % 3 > 0},
    {"mask": torch.arange(7) % 3 > 0, "is_causal": True, "window": (3, -1), "kv_len": 6},
]


def problem(size=3, value_size=2) -> tuple[torch.Tensor, ...]:
    """q, k, v, inverse temperatures and sinks."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 4, 5, size), (2, 2, 7, size), (2, 2, 7, value_size), (2, 4, 5), (4,))
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    )


def differentiable(q, k, v, inv_temperature, sinks, **options):
    result = attention(q, k, v, inv_temperature=inv_temperature, sinks=sinks, stats=("entropy",), **options)
    return result.out, result.lse.masked_fill(result.lse == -torch.inf, 0), result.entropy


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_that_first_and_second_derivatives_are_right(options) -> None:
    assert torch.autograd.gradcheck(lambda *inputs: differentiable(*inputs, **options), problem())
    inputs = problem(2, 1)
    directions = [torch.randn_like(part) for part in differentiable(*inputs, **options)]
    assert torch.autograd.gradgradcheck(
        lambda *inputs: differentiable(*inputs, **options), inputs, directions, fast_mode=True
    )


@quiet
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
@pytest.mark.parametrize("sunk", [False, True])
def test_that_both_paths_agree(options, sunk: bool) -> None:
    q, k, v, inv_temperature, sinks = (tensor.detach() for tensor in problem())
    options = {
        "inv_temperature": inv_temperature,
        "sinks": sinks if sunk else None,
        "map_bins": (2, 3),
        **options,
    }
    options["stats"] = ("entropy",)
    ours = attention(q, k, v, **options)
    with torch.autograd.forward_ad.dual_level():
        plain = attention(torch.autograd.forward_ad.make_dual(q, q), k, v, **options)
        for name in ("out", "lse", "max_logit", "inv_sum", "entropy", "map"):
            part = torch.autograd.forward_ad.unpack_dual(getattr(plain, name)).primal
            torch.testing.assert_close(getattr(ours, name), part)


@quiet
@pytest.mark.parametrize("options", OPTIONS[2:5], ids="-".join)
def test_that_torch_accepts_the_operator(options) -> None:
    q, k, v, inv_temperature, sinks = problem()
    mask, q_len, kv_len = (options.get(name) for name in ("mask", "q_len", "kv_len"))
    mask = None if mask is None else mask.expand(2, 4, 5, 7)
    q_len = torch.tensor([q_len] * 2) if isinstance(q_len, int) else q_len
    torch.library.opcheck(
        torch.ops.logitscope.attention.default,
        (
            *(q, k, v, inv_temperature, sinks, None, None, None, None, mask, q_len, kv_len, None),
            *(0.5, (3, 0), "bottom_right", 0.0, False, 0.0, "entropy", (), "mean", 0),
        ),
    )


@quiet
def test_that_it_compiles_without_a_break() -> None:
    inputs = problem()
    mask, kv_len = torch.arange(7) % 3 > 0, torch.tensor([7, 4])

    def score(*inputs):
        parts = differentiable(*inputs, mask=mask, kv_len=kv_len, q_len=4, window=(3, 0))
        return sum(part.square().sum() for part in parts)

    compiled = torch.compile(score, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), score(*inputs))
    for ours, plain in zip(
        torch.autograd.grad(compiled(*inputs), inputs),
        torch.autograd.grad(score(*inputs), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


@quiet
def test_that_function_transforms_see_the_derivatives() -> None:
    q, k, v, _, sinks = (tensor.detach() for tensor in problem())

    def score(sinks):
        return attention(q, k, v, sinks=sinks, window=(2, 0), kv_len=torch.tensor([7, 4])).out.square().sum()

    (gradient,) = torch.autograd.grad(score(sinks.requires_grad_()), sinks)
    torch.testing.assert_close(torch.func.grad(score)(sinks.detach()), gradient)
    assert torch.func.hessian(score)(sinks.detach()).shape == (4, 4)


def test_that_rows_beyond_the_length_are_zero_on_both_paths_whatever_the_sinks() -> None:
    q, k, v, _, sinks = problem()
    lengths = torch.tensor([3, 0])
    for parts in (
        function(
            *(q, k, v, None, sinks, *(None,) * 5, lengths, None, None),
            *(0.5, (-1, -1), "top_left", 0.0, False, 0.0, "entropy", (), "mean", 0),
        )
        for function in (composite.attention, torch.ops.logitscope.attention)
    ):
        out, lse, _, inv_sum, entropy, *_ = parts
        for part, value in ((out, 0), (lse, -torch.inf), (inv_sum, 0), (entropy, 0)):
            assert (part[0, :, 3:] == value).all()
            assert (part[1] == value).all()
        assert (out[0, :, :3] != 0).all()
        gradients = torch.autograd.grad(out.sum() + entropy.sum(), (q, k, v, sinks))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert (gradients[0][1] == 0).all()


@pytest.mark.parametrize("leading", [(2,), (2, 3), (2, 2, 3)])
@pytest.mark.parametrize("kept", [2, 3, 4, 5])
@pytest.mark.parametrize("of_numbers", [False, True])
def test_that_the_drop_in_takes_torchs_masks(leading, kept: int, of_numbers: bool) -> None:
    q, k, v = torch.randn(3, *leading, 6, 8, requires_grad=True)
    # Every row sees its own key: what torch gives for a row without any depends on its version.
    mask = (torch.rand((*leading, 6, 6)[-kept:]) < 0.7) | torch.eye(6, dtype=torch.bool)
    if of_numbers:
        mask = torch.randn(mask.shape).masked_fill(~mask, -torch.inf)
    ours, expected = (
        function(q, k, v, attn_mask=mask) for function in (scaled_dot_product_attention, theirs)
    )
    torch.testing.assert_close(ours, expected, rtol=2e-5, atol=2e-5)
    upstream = torch.randn_like(ours)
    for ours_gradient, gradient in zip(
        torch.autograd.grad(ours, (q, k, v), upstream),
        torch.autograd.grad(expected, (q, k, v), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours_gradient, gradient, rtol=1e-4, atol=2e-5)


def test_that_tensors_that_do_not_fit_are_refused_by_name() -> None:
    q, k, v, _, sinks = problem()
    for error, message, options in (
        (
            ShapeError,
            r"attention: mask of shape \(5, 6\) does not broadcast to",
            {"mask": torch.ones(5, 6).bool()},
        ),
        (DTypeError, r"attention: mask is torch.float32; use torch.bool", {"mask": torch.ones(5, 7)}),
        (ShapeError, r"attention: sinks has shape \(3,\); use \(4,\)", {"sinks": sinks[:3]}),
        (
            DTypeError,
            r"attention: sinks has dtype float16, q has float64; use one dtype",
            {"sinks": sinks.half()},
        ),
        (ArgumentError, r"attention: window is \(1,\); use \(left, right\)", {"window": (1,)}),
        (ArgumentError, r"attention: kv_len is 8; use 0..7", {"kv_len": 8}),
        (DTypeError, r"attention: kv_len is 3.0; use an integer, or a tensor of them", {"kv_len": 3.0}),
        (DTypeError, r"attention: q_len is \[5, 5\]; use an integer", {"q_len": [5, 5]}),
        (ArgumentError, r"attention: q_len is 6; use lengths of 0..5", {"q_len": torch.tensor([6, 0])}),
        (
            ShapeError,
            r"attention: q_len has shape \(3,\); use one integer",
            {"q_len": torch.tensor([1, 2, 3])},
        ),
        (DTypeError, r"attention: kv_len is torch.float32; use integers", {"kv_len": torch.ones(2)}),
    ):
        with pytest.raises(error, match=message):
            attention(q, k, v, **options)
    tall = [tensor[None].repeat_interleave(4 // tensor.shape[1], 2) for tensor in (q, k, v)]
    with pytest.raises(ShapeError, match=r"attn_mask of shape \(3, 1, 5, 7\) does not broadcast to"):
        scaled_dot_product_attention(*tall, attn_mask=torch.ones(3, 1, 5, 7).bool())
