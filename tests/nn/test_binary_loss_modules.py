"""Binary cross entropy and the focal loss for torch: derivatives of any order, operators, modules."""

import pytest
import torch

from logitscope import loss
from logitscope.errors import ArgumentError, DTypeError
from logitscope.nn import BCEWithLogitsLoss, SigmoidFocalLoss

# torch's own tools warn of torch's own parts.
quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def problem(dtype=torch.float64):
    targets = torch.cat([torch.rand(3, 5), torch.randint(0, 2, (3, 5)).float()]).to(dtype)
    return torch.randn(6, 5, dtype=dtype).requires_grad_(), targets


MODULES = {
    "bce": BCEWithLogitsLoss(),
    "bce weighted": BCEWithLogitsLoss(torch.rand(5), pos_weight=torch.rand(5), reduction="sum"),
    "bce none": BCEWithLogitsLoss(torch.rand(6, 1), reduction="none"),
    "focal": SigmoidFocalLoss(),
    "focal none": SigmoidFocalLoss(None, 1.5, reduction="none"),
}
names = pytest.mark.parametrize("name", MODULES)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_that_values_and_gradients_are_those_of_torch_s_module(reduction: str) -> None:
    logits, targets = problem()
    options = {"weight": torch.rand(6, 5), "pos_weight": torch.rand(5), "reduction": reduction}
    got = BCEWithLogitsLoss(**options)(logits, targets)
    theirs = torch.nn.BCEWithLogitsLoss(**options)(logits, targets)
    torch.testing.assert_close(got, theirs)
    ours, wanted = (torch.autograd.grad(one.sum(), logits)[0] for one in (got, theirs))
    torch.testing.assert_close(ours, wanted)
    assert list(BCEWithLogitsLoss(**options).state_dict()) == ["weight", "pos_weight"]


@names
def test_that_first_and_second_derivatives_are_right(name: str) -> None:
    logits, targets = problem()
    assert torch.autograd.gradcheck(lambda x: MODULES[name](x, targets), logits)
    assert torch.autograd.gradgradcheck(lambda x: MODULES[name](x, targets), logits)


@names
def test_that_targets_may_have_gradients(name: str) -> None:
    logits, _ = problem()
    inside = torch.rand(6, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: MODULES[name](logits, t), inside)


@quiet
@names
def test_that_function_transforms_give_the_operators_derivatives(name: str) -> None:
    logits, targets = problem()

    def score(x):
        return MODULES[name](x, targets).sum()

    (gradient,) = torch.autograd.grad(score(logits), logits)
    plain, tangent = logits.detach(), torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.func.grad(score)(plain), gradient)
    torch.testing.assert_close(torch.func.jvp(score, (plain,), (tangent,))[1], (gradient * tangent).sum())


@quiet
@names
def test_that_modules_compile_without_a_break(name: str) -> None:
    logits, targets = problem()
    module = MODULES[name]
    compiled = torch.compile(lambda x: 2 * module(x * x, targets), fullgraph=True, backend="aot_eager")
    plain = 2 * module(logits * logits, targets)
    torch.testing.assert_close(compiled(logits), plain)
    (dlogits,) = torch.autograd.grad(compiled(logits).sum(), logits)
    torch.testing.assert_close(dlogits, torch.autograd.grad(plain.sum(), logits)[0])


@quiet
def test_that_torch_accepts_the_operator() -> None:
    logits, targets = problem(torch.float32)
    arguments = (logits, targets, torch.rand(5), torch.rand(5), 2.0, 0.25, "mean", True)
    # The second output is the gradient itself, which has none.
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.logitscope.binary_cross_entropy.default, arguments, test_utils=checks)


def test_that_the_functions_take_the_same_way() -> None:
    logits, targets = problem()
    torch.testing.assert_close(loss.sigmoid_focal_loss(logits, targets), SigmoidFocalLoss()(logits, targets))
    got = loss.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(got, BCEWithLogitsLoss()(logits, targets))
    penalty = loss.logsumexp_penalty(logits, 0.5)
    torch.testing.assert_close(penalty, 0.5 * logits.logsumexp(-1).square().mean())
    assert torch.autograd.gradgradcheck(lambda x: loss.logsumexp_penalty(x, 0.5), logits)


def test_that_modules_show_what_they_are_and_refuse_what_they_cannot() -> None:
    assert repr(SigmoidFocalLoss()) == "SigmoidFocalLoss(alpha=0.25, gamma=2.0, reduction='mean')"
    assert repr(BCEWithLogitsLoss(reduction="sum")) == "BCEWithLogitsLoss(reduction='sum')"
    logits, targets = problem()
    for given in (logits, logits.detach()):
        with pytest.raises(ArgumentError, match=r"^sigmoid_focal_loss: gamma is -1.0; use a finite number"):
            SigmoidFocalLoss(gamma=-1.0)(given, targets)
    with pytest.raises(ArgumentError, match=r"^sigmoid_focal_loss: gamma is -1.0; use a finite number"):
        SigmoidFocalLoss(gamma=-1.0)(logits, targets.requires_grad_())
    with pytest.raises(
        DTypeError, match=r"^binary_cross_entropy_with_logits: logits is torch.int64; use torch"
    ):
        BCEWithLogitsLoss()(logits.long(), targets)
