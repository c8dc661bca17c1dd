"""sparsemax, entmax15, stablemax and topk_softmax are differentiable to any order, and compile."""

import pytest
import torch

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn import functional


def top(x, dim=-1):
    return functional.topk_softmax(x, 3, dim)


def top_alone(x, dim=-1):
    return functional.topk_softmax(x, 3, dim, return_indices=True)[1]


FUNCTIONS = {
    "sparsemax": functional.sparsemax,
    "entmax15": functional.entmax15,
    "stablemax": functional.stablemax,
    "log_stablemax": functional.log_stablemax,
    "topk_softmax": top,
    "topk_softmax_sparse": top_alone,
}

names = pytest.mark.parametrize("name", FUNCTIONS)
# torch's own tools warn of torch's own parts.
quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)


def values(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


@names
@pytest.mark.parametrize("dim", [-1, 0, 1])
def test_that_values_are_those_of_the_root(name: str, dim: int) -> None:
    x = values(5, 7, 17)
    y = FUNCTIONS[name](x, dim)

    def root(x):
        if name == "topk_softmax_sparse":
            return logitscope.topk_softmax(x, 3, dim, return_indices=True)[1]
        return (
            logitscope.topk_softmax(x, 3, dim)
            if name == "topk_softmax"
            else getattr(logitscope, name)(x, dim)
        )

    torch.testing.assert_close(y.detach(), root(x.detach()), rtol=0, atol=0)
    assert root(x).requires_grad


@names
def test_that_first_and_second_derivatives_are_right(name: str) -> None:
    function = FUNCTIONS[name]
    for dim in (0, 1):
        assert torch.autograd.gradcheck(lambda x, dim=dim: function(x, dim), values(4, 5))
        assert torch.autograd.gradgradcheck(lambda x, dim=dim: function(x, dim), values(4, 5))


@quiet
@names
def test_that_torch_accepts_the_operator(name: str) -> None:
    operator = getattr(torch.ops.logitscope, name).default
    arguments = (3, 2) if name.startswith("topk_softmax") else (1,)
    torch.library.opcheck(operator, (values(2, 3, 9, dtype=torch.float32), *arguments))


@quiet
@names
def test_that_it_compiles_without_a_break(name: str) -> None:
    function = FUNCTIONS[name]
    x = values(4, 6)
    compiled = torch.compile(lambda x: 2 * function(x * x, 1), fullgraph=True, backend="aot_eager")
    plain = 2 * function(x * x, 1)
    torch.testing.assert_close(compiled(x), plain)
    weights = torch.linspace(-1, 1, plain.numel(), dtype=x.dtype).view(plain.shape)
    (dx,) = torch.autograd.grad((compiled(x) * weights).sum(), x)
    torch.testing.assert_close(dx, torch.autograd.grad((plain * weights).sum(), x)[0])


@quiet
@names
def test_that_function_transforms_give_the_operators_derivatives(name: str) -> None:
    function = FUNCTIONS[name]
    x, tangent = values(3, 5), values(5, 3).detach().T
    weights = torch.linspace(-1, 1, function(x, 1).numel(), dtype=x.dtype).view(function(x, 1).shape)

    def score(x):
        return (weights * function(x, 1)).sum()

    (gradient,) = torch.autograd.grad(score(x), x)
    plain = x.detach()
    torch.testing.assert_close(torch.func.grad(score)(plain), gradient)
    torch.testing.assert_close(torch.func.jvp(score, (plain,), (tangent,))[1], (gradient * tangent).sum())
    torch.testing.assert_close(torch.func.vmap(lambda row: function(row, 0))(plain), function(plain, 1))


@names
def test_that_other_types_and_dimensions_are_refused_by_name(name: str) -> None:
    function, name = FUNCTIONS[name], name.removesuffix("_sparse")
    with pytest.raises(
        DTypeError, match=rf"{name}: x is torch.int64; use torch.float32, torch.float64, torch.float16"
    ):
        function(torch.arange(3))
    with pytest.raises(ShapeError, match=rf"{name}: dim 2 is out of range for shape \(3, 4\); use -2..1"):
        function(torch.zeros(3, 4), 2)


def test_that_a_k_beyond_the_dimension_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"topk_softmax: k is 5; use 1..4"):
        functional.topk_softmax(torch.zeros(3, 4), 5)


def test_that_both_paths_of_topk_softmax_have_the_same_limits() -> None:
    inf, nan = torch.inf, torch.nan
    x = torch.tensor([[-inf] * 4, [inf, 0, inf, 1], [0, nan, 1, 2], [-inf, 5, -inf, -inf]])
    for k in (1, 2, 4):
        composite = torch.func.vmap(lambda row, k=k: functional.topk_softmax(row, k))(x)
        torch.testing.assert_close(composite[[0, 1, 3]], functional.topk_softmax(x, k)[[0, 1, 3]])
        assert composite[2].isnan().any()
        assert functional.topk_softmax(x, k)[2].isnan().all()
