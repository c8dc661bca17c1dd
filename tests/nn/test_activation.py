"""PolyReLU and PolyNorm for torch: derivatives of any order, operators, modules."""

import pytest
import torch

from logitscope import activation
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn import PolyNorm, PolyReLU, functional

FUNCTIONS = {"poly_relu": functional.poly_relu, "poly_norm": functional.poly_norm}
names = pytest.mark.parametrize("name", FUNCTIONS)
# torch's own tools warn of torch's own parts.
quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)


def values(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 1)
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def official(x, weight, bias, name):
    """The formulas of the paper's code."""
    if name == "poly_relu":
        p = torch.relu(x)
        return sum(w * p ** (len(weight) - k) for k, w in enumerate(weight)) + bias

    def norm(u):
        return u / (u.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    return sum(w * norm(x ** (len(weight) - k)) for k, w in enumerate(weight)) + bias


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_that_values_and_gradients_are_those_of_the_official_formulas(name: str, dtype: torch.dtype) -> None:
    limit = {torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    for size in (1, 2, 15, 16, 17, 64, 100):
        inputs = values(3, size, dtype=dtype), values(3, dtype=dtype), values(1, dtype=dtype)
        dy = values(3, size, dtype=dtype).detach() / size
        y, wanted = FUNCTIONS[name](*inputs), official(*inputs, name)
        torch.testing.assert_close(y, wanted, rtol=4 * limit, atol=4 * limit)
        pairs = zip(torch.autograd.grad(y, inputs, dy), torch.autograd.grad(wanted, inputs, dy), strict=True)
        for got, want in pairs:
            torch.testing.assert_close(got, want, rtol=30 * limit, atol=10 * limit)
        arrays = [x.detach().numpy() for x in inputs]
        assert (getattr(activation, name)(*arrays) == y.detach().numpy()).all()


@names
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_that_16_bit_inputs_are_computed_in_float32_and_rounded_once(name: str, dtype: torch.dtype) -> None:
    x, weight, bias = (
        values(5, 40).detach().to(dtype).requires_grad_(),
        values(3).detach().float(),
        torch.ones(1),
    )
    weight.requires_grad_()
    dy = values(5, 40).detach().to(dtype)
    y, wanted = FUNCTIONS[name](x, weight, bias), FUNCTIONS[name](x.float(), weight, bias)
    torch.testing.assert_close(y, wanted.to(dtype), rtol=0, atol=0)
    dx, dweight = torch.autograd.grad(y, (x, weight), dy)
    wide = torch.autograd.grad(wanted, (x, weight), dy.float())
    torch.testing.assert_close(dx, wide[0].to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(dweight, wide[1], rtol=0, atol=0)
    composite = torch.func.vmap(FUNCTIONS[name], in_dims=(0, None, None))(x, weight, bias)
    torch.testing.assert_close(composite, y)


@names
@pytest.mark.parametrize("order", [1, 3, 5])
def test_that_first_and_second_derivatives_are_right(name: str, order: int) -> None:
    inputs = values(4, 5), values(order), values(1)
    assert torch.autograd.gradcheck(FUNCTIONS[name], inputs)
    assert torch.autograd.gradgradcheck(FUNCTIONS[name], inputs)


@pytest.mark.parametrize("scale", ["rms", "l2"])
def test_that_other_dimensions_and_scales_have_right_derivatives(scale: str) -> None:
    def along_the_first(x, weight, bias):
        return functional.poly_norm(x, weight, bias, 0.1, 0, scale=scale)

    inputs = values(4, 5), values(3), values(1)
    assert torch.autograd.gradcheck(along_the_first, inputs)
    assert torch.autograd.gradgradcheck(along_the_first, inputs)


@quiet
@names
def test_that_torch_accepts_the_operator(name: str) -> None:
    operator = getattr(torch.ops.logitscope, name).default
    more = (1e-6, 1, "rms") if name == "poly_norm" else ()
    inputs = values(2, 9, 3, dtype=torch.float32), values(3, dtype=torch.float32), torch.zeros(())
    torch.library.opcheck(operator, (*inputs, *more))


@quiet
@names
def test_that_it_compiles_without_a_break(name: str) -> None:
    function = FUNCTIONS[name]
    inputs = values(4, 6), values(3), values(1)
    compiled = torch.compile(lambda x, w, b: 2 * function(x * x, w, b), fullgraph=True, backend="aot_eager")
    plain = 2 * function(inputs[0] ** 2, *inputs[1:])
    torch.testing.assert_close(compiled(*inputs), plain)
    got = torch.autograd.grad((compiled(*inputs) ** 2).sum(), inputs)
    torch.testing.assert_close(got, torch.autograd.grad((plain**2).sum(), inputs))


@quiet
@names
def test_that_function_transforms_give_the_operators_derivatives(name: str) -> None:
    function = FUNCTIONS[name]
    x, weight, bias = values(3, 5), values(3).detach(), values(1).detach()

    def score(x):
        return (function(x, weight, bias) ** 2).sum()

    (gradient,) = torch.autograd.grad(score(x), x)
    plain, tangent = x.detach(), torch.ones(3, 5, dtype=x.dtype)
    torch.testing.assert_close(torch.func.grad(score)(plain), gradient)
    torch.testing.assert_close(torch.func.jvp(score, (plain,), (tangent,))[1], gradient.sum())
    rows = torch.func.vmap(lambda row: function(row, weight, bias))(plain)
    torch.testing.assert_close(rows, function(plain, weight, bias))


def test_that_huge_rows_take_the_same_values_on_both_paths() -> None:
    shape = torch.tensor([[1.0, -0.5, 0.25, 2.0]])
    for size in (0.0, 1e-20, 1e-4, 1e10, 1e37):
        x = size * shape
        composite = torch.func.vmap(functional.poly_norm, in_dims=(0, None))(x, torch.ones(3) / 3)
        torch.testing.assert_close(
            functional.poly_norm(x, torch.ones(3) / 3), composite, rtol=1e-6, atol=1e-6
        )


def test_that_four_numbers_a_row_are_kept_beside_the_input() -> None:
    x, module, kept = values(8, 100, dtype=torch.float32), PolyNorm(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        module(x)
    assert sum(kept) <= 8 * (100 + 4) + 4


def test_that_modules_start_at_a_third_and_load_the_paper_s_checkpoints() -> None:
    for module in (PolyReLU(), PolyNorm()):
        assert {name: tuple(p.shape) for name, p in module.state_dict().items()} == {
            "weight": (3,),
            "bias": (1,),
        }
        torch.testing.assert_close(module.coefficients, torch.tensor([0, 1, 1, 1]) / 3)
        module.load_state_dict({"weight": torch.tensor([3.0, 2, 1]), "bias": torch.tensor([0.5])})
        assert module.coefficients.tolist() == [0.5, 1, 2, 3]
        x = values(4, 6, dtype=torch.float32)
        function = FUNCTIONS["poly_relu" if isinstance(module, PolyReLU) else "poly_norm"]
        torch.testing.assert_close(module(x), function(x, module.weight, module.bias))
        module(x).sum().backward()
        assert module.weight.grad.shape == (3,)
        assert module.bias.grad.tolist() == [24]
    torch.testing.assert_close(PolyNorm(order=5).weight, torch.full((5,), 0.2))
    assert repr(PolyNorm(scale="l2")) == "PolyNorm(order=3, eps=1e-06, scale='l2')"
    with pytest.raises(ArgumentError, match=r"^PolyReLU: order is 6; use 1..5$"):
        PolyReLU(order=6)


@names
def test_that_bad_input_is_refused_by_name(name: str) -> None:
    function, weight = FUNCTIONS[name], torch.ones(3)
    with pytest.raises(DTypeError, match=rf"^{name}: x is torch.int64; use torch.float32, torch.float64, "):
        function(torch.arange(3), weight)
    with pytest.raises(
        ShapeError, match=rf"^{name}: weight has shape \(6,\); use \(r,\), 1 to 5 coefficients$"
    ):
        function(torch.zeros(3), torch.ones(6))


def test_that_options_of_poly_norm_are_refused_by_name() -> None:
    x, weight = torch.zeros(2, 3), torch.ones(3)
    with pytest.raises(ShapeError, match=r"^poly_norm: dim 2 is out of range for shape \(2, 3\); use -2..1$"):
        functional.poly_norm(x, weight, dim=2)
    with pytest.raises(ShapeError, match=r"^poly_norm: dim 1 of shape \(2, 0\) has no elements"):
        functional.poly_norm(x[:, :0], weight)
    with pytest.raises(ArgumentError, match=r"^poly_norm: eps is 0; use a positive finite number$"):
        functional.poly_norm(x, weight, eps=0)
    with pytest.raises(ArgumentError, match=r"^poly_norm: scale is 'max'; use 'rms' or 'l2'$"):
        functional.poly_norm(x, weight, scale="max")
