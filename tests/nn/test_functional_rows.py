"""softmax, log_softmax and logsumexp are differentiable to any order, and compile, like torch's own."""

import pytest
import torch

from logitscope.errors import DTypeError, ShapeError
from logitscope.nn import functional

FUNCTIONS = {
    "softmax": (functional.softmax, torch.softmax, (-1, 0.7), (1, 1.0)),
    "log_softmax": (functional.log_softmax, torch.log_softmax, (-1,), (1,)),
    "logsumexp": (functional.logsumexp, torch.logsumexp, (2,), (1,)),
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_that_values_and_gradients_are_those_of_torch(name: str, dim: int, dtype: torch.dtype) -> None:
    ours, theirs, *_ = FUNCTIONS[name]
    x = values(5, 7, 17, dtype=dtype)
    y, reference = ours(x, dim), theirs(x.double(), dim)
    assert y.dtype == dtype
    upstream = torch.linspace(-1, 1, y.numel(), dtype=dtype).view(y.shape)
    (dx,) = torch.autograd.grad(y, x, upstream)
    (expected,) = torch.autograd.grad(reference, x, upstream.double())
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(y.double(), reference, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(dx, expected, rtol=10 * tolerance, atol=10 * tolerance)


@names
def test_that_first_and_second_derivatives_are_right(name: str) -> None:
    ours, *_ = FUNCTIONS[name]
    for dim in (0, 1):
        assert torch.autograd.gradcheck(lambda x, dim=dim: ours(x, dim), values(3, 5))
        assert torch.autograd.gradgradcheck(lambda x, dim=dim: ours(x, dim), values(3, 5))


@quiet
@names
def test_that_torch_accepts_the_operator(name: str) -> None:
    operator = getattr(torch.ops.logitscope, name).default
    for arguments in FUNCTIONS[name][2:]:
        torch.library.opcheck(operator, (values(2, 3, 9, dtype=torch.float32), *arguments))


@quiet
@names
def test_that_it_compiles_without_a_break(name: str) -> None:
    ours, *_ = FUNCTIONS[name]
    x = values(4, 6)
    compiled = torch.compile(lambda x: 2 * ours(x * x, 1), fullgraph=True, backend="aot_eager")
    plain = 2 * ours(x * x, 1)
    torch.testing.assert_close(compiled(x), plain)
    weights = torch.linspace(-1, 1, plain.numel(), dtype=x.dtype).view(plain.shape)
    (dx,) = torch.autograd.grad((compiled(x) * weights).sum(), x)
    torch.testing.assert_close(dx, torch.autograd.grad((plain * weights).sum(), x)[0])


@quiet
@names
def test_that_function_transforms_and_forward_mode_give_torchs_derivatives(name: str) -> None:
    ours, theirs, *_ = FUNCTIONS[name]
    x, tangent = values(3, 5).detach(), values(5, 3).detach().T
    weights = torch.linspace(-1, 1, theirs(x, 1).numel(), dtype=x.dtype).view(theirs(x, 1).shape)

    def score(function):
        return lambda x: (weights * function(x, 1)).sum()

    torch.testing.assert_close(torch.func.grad(score(ours))(x), torch.func.grad(score(theirs))(x))
    torch.testing.assert_close(torch.func.hessian(score(ours))(x), torch.func.hessian(score(theirs))(x))
    torch.testing.assert_close(
        torch.func.jvp(score(ours), (x,), (tangent,))[1], torch.func.jvp(score(theirs), (x,), (tangent,))[1]
    )
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        ours_tangent, theirs_tangent = (
            torch.autograd.forward_ad.unpack_dual(function(dual, 1)).tangent for function in (ours, theirs)
        )
        torch.testing.assert_close(ours_tangent, theirs_tangent)


@names
def test_that_empty_and_scalar_tensors_come_back_as_torchs(name: str) -> None:
    ours, theirs, *_ = FUNCTIONS[name]
    for x in (torch.zeros(0, 3), torch.tensor(2.0), torch.zeros(1)):
        torch.testing.assert_close(ours(x, -1), theirs(x, -1))


@names
def test_that_other_types_and_dimensions_are_refused_by_name(name: str) -> None:
    ours, *_ = FUNCTIONS[name]
    with pytest.raises(
        DTypeError, match=rf"{name}: x is torch.int64; use torch.float32, torch.float64, torch.float16"
    ):
        ours(torch.arange(3))
    with pytest.raises(ShapeError, match=rf"{name}: dim 2 is out of range for shape \(3, 4\); use -2..1"):
        ours(torch.zeros(3, 4), 2)


def test_that_temperature_divides_the_logits() -> None:
    x = values(4, 9)
    torch.testing.assert_close(functional.softmax(x, temperature=2.5), torch.softmax(x / 2.5, -1))
    assert torch.autograd.gradcheck(lambda x: functional.softmax(x, temperature=2.5), x)
