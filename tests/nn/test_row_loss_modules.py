"""Losses over StableMax, of the margin and of the spherical family for torch: any derivatives, operators, modules."""

import pytest
import torch

from logitscope import loss, nn
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.nn import composite_row_loss
from logitscope.nn.functional._row_loss import row_loss

MODULES = {
    "stablemax": (nn.StableMaxCrossEntropy, loss.stablemax_cross_entropy, {"label_smoothing": 0.0}),
    "smoothed": (nn.StableMaxCrossEntropy, loss.stablemax_cross_entropy, {"label_smoothing": 0.2}),
    "margin": (nn.MarginLoss, loss.margin_loss, {}),
    "taylor": (nn.TaylorSoftmaxLoss, loss.taylor_softmax_loss, {}),
    "spherical": (nn.SphericalSoftmaxLoss, loss.spherical_softmax_loss, {"epsilon": 0.25}),
    "z": (nn.ZStandardizedLoss, loss.z_standardized_loss, {"a": 0.7, "b": 2.0}),
}
names = pytest.mark.parametrize("name", MODULES)
# torch's own tools warn of torch's own parts.
quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def problem(dtype=torch.float64):
    logits = torch.randn(6, 5, dtype=dtype, requires_grad=True)
    return logits, torch.tensor([0, 1, 4, -1, 2, 2]), torch.rand(5, dtype=dtype)


def scores(name, targets, **options):
    """The loss as a function of logits, classes last."""
    _, function, parameters = MODULES[name]
    return lambda x: row_loss(function.__name__, list(parameters.values()), x, targets, **options)


@names
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_that_values_and_gradients_are_those_of_arrays(name: str, reduction: str) -> None:
    kind, function, parameters = MODULES[name]
    logits, targets, weight = problem()
    options = {"weight": weight, "ignore_index": -1, "reduction": reduction}
    got = kind(**parameters, **options)(logits, targets)
    arrays = logits.detach().numpy(), targets.numpy()
    options["weight"] = weight.numpy()
    value, gradient = function(*arrays, **parameters, **options, return_grad=True)
    torch.testing.assert_close(got.detach(), torch.as_tensor(value))
    (dlogits,) = torch.autograd.grad(got.sum(), logits)
    torch.testing.assert_close(dlogits.numpy(), gradient)
    # The function itself takes the same way for a tensor.
    options["weight"] = weight
    torch.testing.assert_close(function(logits, targets, **parameters, **options), got)


@names
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_that_first_and_second_derivatives_are_right(name: str, reduction: str) -> None:
    logits, targets, weight = problem()
    score = scores(name, targets, weight=weight, ignore_index=-1, reduction=reduction)
    assert torch.autograd.gradcheck(score, logits)
    assert torch.autograd.gradgradcheck(score, logits)


@quiet
@names
def test_that_torch_accepts_the_operator(name: str) -> None:
    _, function, parameters = MODULES[name]
    logits, targets, weight = problem(torch.float32)
    arguments = (
        logits,
        function.__name__,
        list(parameters.values()),
        targets,
        weight,
        -1,
        "mean",
        "nan",
        True,
    )
    # The second output is the gradient itself, which has none.
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.logitscope.row_loss.default, arguments, test_utils=checks)


@quiet
@names
def test_that_modules_compile_without_a_break(name: str) -> None:
    kind, _, parameters = MODULES[name]
    logits, targets, _ = problem()
    module = kind(**parameters, ignore_index=-1)
    compiled = torch.compile(lambda x: 2 * module(x * x, targets), fullgraph=True, backend="aot_eager")
    plain = 2 * module(logits * logits, targets)
    torch.testing.assert_close(compiled(logits), plain)
    (dlogits,) = torch.autograd.grad(compiled(logits), logits)
    torch.testing.assert_close(dlogits, torch.autograd.grad(plain, logits)[0])


@quiet
@names
def test_that_function_transforms_give_the_operators_derivatives(name: str) -> None:
    logits, targets, weight = problem()
    score = scores(name, targets, weight=weight, ignore_index=-1)
    (gradient,) = torch.autograd.grad(score(logits), logits)
    plain, tangent = logits.detach(), torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.func.grad(score)(plain), gradient)
    torch.testing.assert_close(torch.func.jvp(score, (plain,), (tangent,))[1], (gradient * tangent).sum())


@names
def test_that_both_paths_agree_at_their_limits(name: str) -> None:
    _, function, parameters = MODULES[name]
    x = torch.tensor([[0.0, 0, 0], [1e3, -1e3, 0], [torch.nan, 1, 2], [2, 2, 2]], dtype=torch.float64)
    x.requires_grad_()
    targets, nothing = torch.tensor([0, 0, -1, 1]), torch.full((4,), -1)

    def both(targets, reduction, empty="nan"):
        options = {"weight": None, "ignore_index": -1, "reduction": reduction, "empty": empty}
        arguments = function.__name__, list(parameters.values())
        yield row_loss(*arguments, x, targets, **options)
        yield composite_row_loss.row_loss(x, *arguments, targets, **options)

    kernel, composite = both(targets, "none")
    torch.testing.assert_close(kernel, composite)
    gradients = [torch.autograd.grad(one.sum(), x)[0] for one in (kernel, composite)]
    torch.testing.assert_close(*gradients)
    assert gradients[0][2].eq(0).all()
    for empty, wanted in (("nan", torch.nan), ("zero", 0.0)):
        for mean in both(nothing, "mean", empty):
            torch.testing.assert_close(mean, torch.tensor(wanted).double(), equal_nan=True)


@names
def test_that_weights_may_have_gradients(name: str) -> None:
    logits, targets, weight = problem()

    def score(weight):
        return scores(name, targets, weight=weight, ignore_index=-1)(logits)

    assert torch.autograd.gradcheck(score, weight.requires_grad_())


@names
def test_that_classes_are_in_dimension_1(name: str) -> None:
    kind, _, parameters = MODULES[name]
    logits, targets = torch.randn(4, 5, 3, 2), torch.randint(0, 5, (4, 3, 2))
    got = kind(**parameters)(logits, targets)
    torch.testing.assert_close(got, scores(name, targets)(logits.movedim(1, -1)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_that_the_margin_is_a_function_with_classes_in_dimension_1(dtype) -> None:
    logits = torch.randn(4, 5, 3, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 5, (4, 3))
    targets[0, 0] = -100
    got = nn.functional.margin_loss(logits, targets, reduction="none")
    (gradient,) = torch.autograd.grad(got.sum(), logits)
    rows = logits.detach().movedim(1, -1)
    value, exact = loss.margin_loss(rows, targets, reduction="none", return_grad=True)
    assert torch.equal(got.detach(), value)
    assert torch.equal(gradient.movedim(1, -1), exact)
    assert gradient[0, :, 0].eq(0).all()
    torch.testing.assert_close(nn.MarginLoss(reduction="none")(logits, targets), got)
    one = nn.functional.margin_loss(torch.tensor([1.0, 4.0, 2.0]), torch.tensor(1))
    assert one.item() == -2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_that_a_module_smooths_its_targets(dtype) -> None:
    logits, targets = torch.randn(4, 5, 3, dtype=dtype, requires_grad=True), torch.randint(0, 5, (4, 3))
    module = nn.StableMaxCrossEntropy(label_smoothing=0.1)
    got = module(logits, targets)
    got.backward()
    rows = logits.detach().movedim(1, -1)
    value, gradient = loss.stablemax_cross_entropy(rows, targets, label_smoothing=0.1, return_grad=True)
    torch.testing.assert_close(got.detach(), value)
    torch.testing.assert_close(logits.grad.movedim(1, -1), gradient)
    plain = torch.as_tensor(nn.StableMaxCrossEntropy()(logits.detach(), targets))
    assert got.item() != plain.item()
    assert "label_smoothing=0.1" in repr(module)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits.detach(), targets), got.detach())


def test_that_modules_show_what_they_are_and_refuse_what_they_cannot() -> None:
    assert (
        repr(nn.ZStandardizedLoss()) == "ZStandardizedLoss(a=1.0, b=5.0, ignore_index=-100, reduction='mean')"
    )
    logits, targets = torch.zeros(2, 3), torch.tensor([0, 3])
    with pytest.raises(TargetError, match=r"^taylor_softmax_loss: target 3 in row 1 is no class; use 0..2$"):
        nn.TaylorSoftmaxLoss()(logits, targets)
    with pytest.raises(TargetError, match=r"^taylor_softmax_loss: target 3 in row 1 is no class; use 0..2$"):
        nn.TaylorSoftmaxLoss(weight=torch.ones(3).requires_grad_())(logits, targets)
    with pytest.raises(ArgumentError, match=r"^spherical_softmax_loss: epsilon is -1.0; use a positive"):
        nn.SphericalSoftmaxLoss(-1.0)(logits, targets)
    with pytest.raises(ShapeError, match=r"^z_standardized_loss: targets has shape \(1,\); use \(2,\)$"):
        nn.ZStandardizedLoss()(logits, targets[:1])
    with pytest.raises(
        ShapeError, match=r"^margin_loss: logits has shape \(..., 1\); use at least two classes$"
    ):
        nn.functional.margin_loss(logits[:, :1], targets)
    with pytest.raises(ArgumentError, match=r"^margin_loss: reduction is 'worst'; use"):
        nn.functional.margin_loss(logits, targets, reduction="worst")
    with pytest.raises(
        DTypeError, match=r"^stablemax_cross_entropy: logits is torch.int64; use torch.float32"
    ):
        nn.StableMaxCrossEntropy()(logits.long(), targets)
