"""Linear layer and cross entropy in one, for torch: derivatives of every kind are those of the two apart."""

import pytest
import torch

from logitscope import loss
from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.nn import LinearCrossEntropyLoss
from logitscope.nn.functional import linear_cross_entropy

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
modes = pytest.mark.parametrize("mode", ["auto", "plain", "chunked", "recompute"])
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def problem(*rows: int, classes: int = 6, columns: int = 3, dtype: torch.dtype = torch.float64):
    """Input, weight, bias that require gradients, and targets of which one is ignored."""
    generator = torch.Generator().manual_seed(sum(rows))
    shapes = ((*rows, columns), (classes, columns), (classes,))
    leaves = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    targets = torch.randint(0, classes, rows, generator=generator)
    targets.view(-1)[1] = -100
    return *leaves, targets


def theirs(input, weight, bias, targets, **options):
    logits = torch.nn.functional.linear(input, weight, bias)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), **options)
    return loss.view(targets.shape) if loss.dim() else loss


@modes
@reductions
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_that_losses_and_gradients_are_those_of_torch(mode: str, reduction: str, dtype: torch.dtype) -> None:
    input, weight, bias, targets = problem(4, 5, classes=40, dtype=dtype)
    ours = linear_cross_entropy(input, weight, targets, bias, mode=mode, reduction=reduction)
    reference = theirs(input, weight, bias, targets, reduction=reduction)
    upstream = torch.linspace(-1, 2, ours.numel(), dtype=dtype).view(ours.shape)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)
    got, expected = (torch.autograd.grad(y, (input, weight, bias), upstream) for y in (ours, reference))
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@modes
@reductions
def test_that_first_and_second_derivatives_are_right(mode: str, reduction: str) -> None:
    input, weight, bias, targets = problem(4)

    def score(input, weight, bias):
        return linear_cross_entropy(input, weight, targets, bias, mode=mode, reduction=reduction, softcap=3.0)

    assert torch.autograd.gradcheck(score, (input, weight, bias))
    assert torch.autograd.gradgradcheck(score, (input, weight, bias))


@modes
def test_that_only_what_is_asked_for_has_a_gradient(mode: str) -> None:
    input, weight, bias, targets = problem(5)
    _, wanted, _ = torch.autograd.grad(theirs(input, weight, bias, targets), (input, weight, bias))
    value = linear_cross_entropy(input.detach(), weight, targets, bias.detach(), mode=mode)
    torch.testing.assert_close(torch.autograd.grad(value, weight)[0], wanted)
    with torch.no_grad():
        assert not linear_cross_entropy(input, weight, targets, bias, mode=mode).requires_grad


@modes
@reductions
def test_that_backward_may_be_called_twice(mode: str, reduction: str) -> None:
    input, weight, bias, targets = problem(5)
    value = linear_cross_entropy(input, weight, targets, bias, mode=mode, reduction=reduction).sum()
    leaves = (input, weight, bias)
    first, second = (torch.autograd.grad(2 * value, leaves, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=1e-14, atol=1e-14)


@quiet
@modes
@reductions
def test_that_torch_accepts_the_operator(mode: str, reduction: str) -> None:
    input, weight, bias, targets = problem(4, 5, dtype=torch.float32)
    operator = torch.ops.logitscope.linear_cross_entropy.default
    plan = (mode, None, None, 1)
    options = (-100, reduction, "nan", 1.3, 5.0, 0.0, "all", 0.01, 0.1, "comp_sum", "tau", [1.5], True)
    torch.library.opcheck(
        operator, (input, weight, targets, bias, torch.rand(6), None, *plan, *options, [True, True, True])
    )
    torch.library.opcheck(
        operator, (input, weight.detach(), targets, None, None, None, *plan, *options, [True, False, False])
    )


@quiet
@modes
@reductions
def test_that_it_compiles_without_a_break(mode: str, reduction: str) -> None:
    torch.compiler.reset()  # there is a limit to how often one function is compiled
    input, weight, bias, targets = problem(4)
    compiled = torch.compile(
        lambda input: linear_cross_entropy(
            2 * input, weight, targets, bias, mode=mode, reduction=reduction
        ).sum(),
        fullgraph=True,
        backend="aot_eager",
    )
    value, reference = compiled(input), theirs(2 * input, weight, bias, targets, reduction=reduction).sum()
    torch.testing.assert_close(value, reference)
    leaves = (input, weight, bias)
    torch.testing.assert_close(torch.autograd.grad(value, leaves), torch.autograd.grad(reference, leaves))


@quiet
def test_that_function_transforms_give_torchs_derivatives() -> None:
    input, weight, bias, targets = (tensor.detach() for tensor in problem(4))
    for transform in (torch.func.grad, torch.func.hessian):
        torch.testing.assert_close(
            transform(lambda w: linear_cross_entropy(input, w, targets, bias, shift=0))(weight),
            transform(lambda w: theirs(input, w, bias, targets))(weight),
        )


@modes
@reductions
def test_that_a_shift_lets_rows_predict_later_targets(mode: str, reduction: str) -> None:
    input, weight, bias, targets = problem(2, 6)
    value = linear_cross_entropy(input, weight, targets, bias, mode=mode, reduction=reduction, shift=1)
    reference = theirs(input[:, :-1], weight, bias, targets[:, 1:], reduction=reduction)
    torch.testing.assert_close(value, reference)
    leaves = (input, weight, bias)
    got, expected = (torch.autograd.grad((y * y).sum(), leaves) for y in (value, reference))
    torch.testing.assert_close(got, expected)


@reductions
def test_that_soft_targets_and_class_weights_may_have_gradients(reduction: str) -> None:
    input, weight, bias, _ = problem(4)
    soft = torch.rand(4, 6, dtype=torch.float64, requires_grad=True)
    value = linear_cross_entropy(input, weight, soft, bias, reduction=reduction).sum()
    reference = torch.nn.functional.cross_entropy(input @ weight.T + bias, soft, reduction=reduction).sum()
    torch.testing.assert_close(torch.autograd.grad(value, soft), torch.autograd.grad(reference, soft))


def test_that_the_function_for_arrays_takes_tensors_that_record() -> None:
    input, weight, bias, targets = problem(5)
    value, stats = loss.linear_cross_entropy(input, weight, targets, bias, return_stats=True)
    reference = theirs(input, weight, bias, targets)
    torch.testing.assert_close(value, reference)
    torch.testing.assert_close(torch.autograd.grad(value, bias), torch.autograd.grad(reference, bias))
    torch.testing.assert_close(stats.lse, (input @ weight.T + bias).logsumexp(-1).detach())


def test_that_the_module_keeps_options_and_class_weights() -> None:
    input, weight, bias, targets = problem(2, 5)
    factors = torch.rand(6, dtype=torch.float64)
    module = LinearCrossEntropyLoss(shift=1, class_weight=factors, reduction="sum", temperature=0.5)
    expected = linear_cross_entropy(
        input, weight, targets, bias, shift=1, class_weight=factors, reduction="sum", temperature=0.5
    )
    torch.testing.assert_close(module(input, weight, targets, bias), expected)
    assert "class_weight" in module.state_dict()
    assert "shift=1" in repr(module)


def test_that_what_is_wrong_is_named() -> None:
    input, weight, bias, targets = problem(4)
    name = "linear_cross_entropy"
    for change, error, message in (
        ({"targets": targets + 6}, TargetError, f"{name}: target "),
        ({"targets": targets[:3]}, ShapeError, rf"{name}: targets has shape \(3,\); use \(4,\)"),
        ({"targets": targets.bool()}, DTypeError, f"{name}: targets are torch.bool"),
        ({"weight": weight[:, :2]}, ShapeError, rf"{name}: input has shape \(4, 3\), weight \(6, 2\)"),
        ({"weight": weight.float()}, DTypeError, f"{name}: weight is torch.float32, input torch.float64"),
        ({"bias": bias[:2]}, ShapeError, rf"{name}: bias has shape \(2,\); use \(6,\), one a class"),
        ({"mode": "fast"}, ArgumentError, f"{name}: mode is 'fast'"),
        ({"reduction": "max"}, ArgumentError, f"{name}: reduction 'max' is unknown"),
        ({"shift": 9}, ArgumentError, f"{name}: shift is 9; use an integer in 0..4"),
    ):
        arguments = {"input": input, "weight": weight, "targets": targets, "bias": bias}
        with pytest.raises(error, match=message):
            linear_cross_entropy(**(arguments | change))
