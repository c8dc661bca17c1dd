"""Softcap, bias, slopes and sigmoid weighting of differentiable attention: both paths, derivatives, the operator."""

import pytest
import torch

from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn.functional import attention, scaled_dot_product_attention

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
theirs = torch.nn.functional.scaled_dot_product_attention

OPTIONS = [
    {"softcap": 1.5},
    {"softcap": 1.5, "is_causal": True, "kind": "sigmoid"},
    {"window": (2, 1), "kind": "sigmoid", "sigmoid_bias": "auto_row"},
    {"is_causal": True, "kv_len": torch.tensor([4, 7]), "causal_align": "top_left"},
    {"mask": torch.arange(7) % 3 > 0, "kind": "sigmoid", "sigmoid_bias": -0.5},
]


def problem(size=3, value_size=2, bias_shape=(1, 4, 5, 7)) -> tuple[torch.Tensor, ...]:
    """q, k, v, inverse temperatures, a bias that hides a key, slopes and sigmoid biases."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 4, 5, size), (2, 2, 7, size), (2, 2, 7, value_size), (2, 4, 5), bias_shape, (4,), (4,))
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return tuple(tensor.requires_grad_() for tensor in tensors)


def differentiable(q, k, v, inv_temperature, bias, slopes, sigmoid_bias=None, **options):
    if sigmoid_bias is not None:
        options = options | {"kind": "sigmoid", "sigmoid_bias": sigmoid_bias}
    result = attention(
        q,
        k,
        v,
        inv_temperature=inv_temperature,
        bias=bias,
        alibi_slopes=slopes,
        stats=("entropy",),
        **options,
    )
    return result.out, result.lse.masked_fill(result.lse == -torch.inf, 0), result.entropy


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
@pytest.mark.parametrize("bias_shape", [(2, 4, 5, 7), (5, 7), (2, 1, 1, 7)])
def test_that_first_and_second_derivatives_are_right(options, bias_shape) -> None:
    inputs = problem(bias_shape=bias_shape)[:6]
    assert torch.autograd.gradcheck(lambda *inputs: differentiable(*inputs, **options), inputs)
    inputs = problem(2, 1, bias_shape)[:6]
    directions = [torch.randn_like(part) for part in differentiable(*inputs, **options)]
    assert torch.autograd.gradgradcheck(
        lambda *inputs: differentiable(*inputs, **options), inputs, directions, fast_mode=True
    )


def test_that_the_bias_of_the_sigmoid_has_its_derivatives() -> None:
    def function(*inputs):
        return differentiable(*inputs, is_causal=True, softcap=2.0)

    assert torch.autograd.gradcheck(function, problem())
    directions = [torch.randn_like(part) for part in function(*problem(2, 1))]
    assert torch.autograd.gradgradcheck(function, problem(2, 1), directions, fast_mode=True)


@quiet
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_that_both_paths_agree(options) -> None:
    q, k, v, inv_temperature, bias, slopes, _ = (tensor.detach() for tensor in problem())
    bias[0, 0, :, 2] = -torch.inf
    bias[0, 1, 3] = -torch.inf
    options = {
        "inv_temperature": inv_temperature,
        "bias": bias,
        "alibi_slopes": slopes,
        "map_bins": (2, 3),
        "stats": ("entropy",),
        **options,
    }
    ours = attention(q, k, v, **options)
    with torch.autograd.forward_ad.dual_level():
        plain = attention(torch.autograd.forward_ad.make_dual(q, q), k, v, **options)
        for name in ("out", "lse", "max_logit", "inv_sum", "entropy", "map"):
            part = torch.autograd.forward_ad.unpack_dual(getattr(plain, name)).primal
            torch.testing.assert_close(getattr(ours, name), part)


def test_that_a_bias_of_minus_infinity_has_finite_gradients_on_both_paths() -> None:
    q, k, v, _, bias, *_ = problem()
    with torch.no_grad():
        bias[0, 1, 3] = -torch.inf
        bias[0, 0, :, 2] = -torch.inf
    for create_graph in (False, True):
        out = attention(q, k, v, bias=bias).out
        gradients = torch.autograd.grad(out.square().sum(), (q, k, v, bias), create_graph=create_graph)
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert (gradients[3][0, 1, 3] == 0).all()


@quiet
@pytest.mark.parametrize("is_sigmoid", [False, True])
@pytest.mark.parametrize("bias_shape", [(2, 4, 5, 7), (5, 7)])
def test_that_torch_accepts_the_operator(is_sigmoid: bool, bias_shape) -> None:
    q, k, v, inv_temperature, bias, slopes, sigmoid_bias = problem(bias_shape=bias_shape)
    torch.library.opcheck(
        torch.ops.logitscope.attention.default,
        (
            *(q, k, v, inv_temperature, None, bias, slopes, sigmoid_bias if is_sigmoid else None),
            *(*(None,) * 5, 0.5, (3, 0), "bottom_right", 1.5, is_sigmoid, 0.0, "entropy", (), "mean", 0),
        ),
    )


@quiet
def test_that_it_compiles_without_a_break() -> None:
    inputs = problem()

    def score(*inputs):
        parts = differentiable(*inputs, softcap=2.0, window=(3, 0))
        return sum(part.square().sum() for part in parts)

    compiled = torch.compile(score, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), score(*inputs))
    for ours, plain in zip(
        torch.autograd.grad(compiled(*inputs), inputs),
        torch.autograd.grad(score(*inputs), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("bias_shape", [(2, 4, 5, 7), (5, 7), (1, 4, 1, 7)])
def test_that_the_drop_in_gives_torchs_gradient_of_a_mask_of_numbers(bias_shape) -> None:
    q, k, v, _, bias, *_ = problem(bias_shape=bias_shape)
    gradients = [
        torch.autograd.grad(function(q, k, v, attn_mask=bias, enable_gqa=True).square().sum(), bias)[0]
        for function in (scaled_dot_product_attention, theirs)
    ]
    torch.testing.assert_close(*gradients)


def test_that_options_that_do_not_fit_are_refused_by_name() -> None:
    q, k, v, _, bias, slopes, sigmoid_bias = problem()
    for error, message, options in (
        (ShapeError, r"attention: bias of shape \(5, 6\) does not broadcast to", {"bias": bias[0, 0, :, :6]}),
        (
            DTypeError,
            r"attention: bias has dtype float16, q has float64; use one dtype",
            {"bias": bias.half()},
        ),
        (ShapeError, r"attention: alibi_slopes has shape \(3,\); use \(4,\)", {"alibi_slopes": slopes[:3]}),
        (ArgumentError, "attention: softcap is -1; use a positive number", {"softcap": -1}),
        (ArgumentError, "attention: kind is 'relu'; use 'softmax' or 'sigmoid'", {"kind": "relu"}),
        (
            ArgumentError,
            "attention: sinks are given with kind='sigmoid'",
            {"kind": "sigmoid", "sinks": slopes},
        ),
        (
            ArgumentError,
            "attention: sigmoid_bias is given with kind='softmax'",
            {"sigmoid_bias": sigmoid_bias},
        ),
        (
            ShapeError,
            r"attention: sigmoid_bias has shape \(3,\); use \(4,\)",
            {"kind": "sigmoid", "sigmoid_bias": sigmoid_bias[:3]},
        ),
    ):
        with pytest.raises(error, match=message):
            attention(q, k, v, **options)
