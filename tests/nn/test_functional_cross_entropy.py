"""Cross entropy means what torch's means, and stays accurate where torch's rounds to zero."""

import math

import pytest
import torch

from logitscope.errors import ArgumentError, DTypeError, ShapeError, TargetError
from logitscope.nn import CrossEntropyLoss, composite_loss
from logitscope.nn.functional import cross_entropy
from logitscope.ops._loss_problem import Options

theirs = torch.nn.functional.cross_entropy
quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def problem(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of this shape, the classes in dimension 1, and targets of which some are ignored."""
    generator = torch.Generator().manual_seed(len(shape))
    logits = torch.randn(shape, generator=generator, dtype=dtype)
    rows = shape[:1] + shape[2:] if len(shape) > 1 else ()
    targets = torch.randint(0, shape[min(1, len(shape) - 1)], rows, generator=generator)
    if targets.numel() > 1:
        targets.view(-1)[1] = -100
    return logits.requires_grad_(), targets


@reductions
@pytest.mark.parametrize("shape", [(7,), (5, 11), (3, 7, 4), (2, 5, 3, 2), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_that_losses_and_gradients_are_those_of_torch(reduction: str, shape, dtype: torch.dtype) -> None:
    logits, targets = problem(*shape, dtype=dtype)
    loss = cross_entropy(logits, targets, reduction=reduction)
    reference = theirs(logits.double(), targets, reduction=reduction)
    assert loss.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(loss.double(), reference, rtol=tolerance, atol=tolerance)
    upstream = torch.linspace(0.5, 2, loss.numel(), dtype=dtype).view(loss.shape)
    (gradient,) = torch.autograd.grad(loss, logits, upstream)
    (expected,) = torch.autograd.grad(reference, logits, upstream.double())
    torch.testing.assert_close(gradient, expected, rtol=tolerance, atol=tolerance)


@reductions
def test_that_first_and_second_derivatives_are_right(reduction: str) -> None:
    logits, targets = problem(4, 5)

    def loss(logits):
        return cross_entropy(logits, targets, reduction=reduction)

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@quiet
@reductions
def test_that_torch_accepts_the_operator(reduction: str) -> None:
    logits, targets = problem(4, 5, dtype=torch.float32)
    operator = torch.ops.logitscope.cross_entropy.default
    weight, soft = torch.rand(5), torch.rand(4, 5)
    plain = (1.0, None, 0.0, "all", 0.0, 0.0, "ce", "", [], True)
    full = (1.3, 5.0, 0.1, "finite", 0.01, 0.1, "comp_sum", "tau", [1.5], False)
    torch.library.opcheck(operator, (logits, targets, None, None, -100, reduction, "nan", *plain, True))
    torch.library.opcheck(operator, (logits, targets, weight, None, -100, reduction, "zero", *full, True))
    torch.library.opcheck(
        operator, (logits.detach(), soft, None, None, -100, reduction, "nan", *plain, False)
    )


@quiet
@reductions
def test_that_it_compiles_without_a_break(reduction: str) -> None:
    logits, targets = problem(4, 5)
    compiled = torch.compile(
        lambda logits: cross_entropy(2 * logits, targets, reduction=reduction).sum(),
        fullgraph=True,
        backend="aot_eager",
    )
    loss = compiled(logits)
    reference = theirs(2 * logits, targets, reduction=reduction).sum()
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(reference, logits))


@quiet
def test_that_function_transforms_give_torchs_derivatives() -> None:
    logits, targets = problem(4, 5)
    logits = logits.detach()
    for transform in (torch.func.grad, torch.func.hessian):
        torch.testing.assert_close(
            transform(lambda x: cross_entropy(x, targets))(logits),
            transform(lambda x: theirs(x, targets))(logits),
        )
    per_row = torch.func.vmap(torch.func.grad(cross_entropy))(logits, targets.clamp(min=0))
    torch.testing.assert_close(per_row.sum(dim=1), torch.zeros(4, dtype=torch.float64))


def test_that_backward_may_be_called_twice() -> None:
    logits, targets = problem(4, 5)
    loss = cross_entropy(logits, targets)
    first, second = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    "function", [cross_entropy, lambda x, y: composite_loss.cross_entropy(x, y, Options())]
)
def test_that_confident_rows_keep_a_loss_and_a_gradient(function) -> None:
    logits = torch.tensor([[80.0, 0.0]], requires_grad=True)
    target = torch.tensor([0])
    loss = function(logits, target)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(math.exp(-80), rel=1e-5)
    assert gradient[0].tolist() == pytest.approx([-math.exp(-80), math.exp(-80)], rel=1e-5)
    assert theirs(logits, target).item() == 0.0


def test_that_nan_in_an_ignored_row_reaches_nothing() -> None:
    logits, targets = problem(3, 5)
    with torch.no_grad():
        logits[1] = torch.nan
    for loss in (cross_entropy(logits, targets), composite_loss.cross_entropy(logits, targets, Options())):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()


def test_that_all_rows_ignored_means_nan_and_no_gradient() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    targets = torch.tensor([-100, -100])
    loss = cross_entropy(logits, targets)
    assert loss.isnan()
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()
    assert cross_entropy(logits, targets, reduction="sum") == 0


def test_that_the_module_is_the_function_with_its_options() -> None:
    logits, targets = problem(4, 5)
    module = CrossEntropyLoss(ignore_index=0, reduction="none")
    targets = targets.clamp(min=0)
    torch.testing.assert_close(
        module(logits, targets), theirs(logits, targets, ignore_index=0, reduction="none")
    )
    assert repr(module) == "CrossEntropyLoss(ignore_index=0, reduction='none')"


def test_that_int32_targets_are_taken() -> None:
    logits, targets = problem(4, 5)
    torch.testing.assert_close(cross_entropy(logits, targets.int()), theirs(logits, targets))


def test_that_what_does_not_fit_is_refused_by_name() -> None:
    logits, targets = problem(4, 5)
    with pytest.raises(
        ShapeError, match=r"targets of shape \(3,\) do not fit logits of shape \(4, 5\); use \(4,\)"
    ):
        cross_entropy(logits, targets[:3])
    with pytest.raises(ShapeError, match=r"logits of shape \(4, 0\) have no class"):
        cross_entropy(logits[:, :0], targets)
    with pytest.raises(
        ShapeError, match=r"targets of shape \(4,\) do not fit logits of shape \(4, 5\); use \(4, 5\)"
    ):
        cross_entropy(logits, targets.double())
    with pytest.raises(DTypeError, match=r"targets are torch.float32; use torch.float64, or an integer type"):
        cross_entropy(logits, logits.detach().float())
    with pytest.raises(DTypeError, match=r"targets are torch.bool; use an integer type"):
        cross_entropy(logits, targets.bool())
    with pytest.raises(DTypeError, match=r"logits is torch.int64; use torch.float32, torch.float64"):
        cross_entropy(logits.detach().long(), targets)
    with pytest.raises(ArgumentError, match="reduction 'max' is unknown; use mean, sum, none"):
        cross_entropy(logits, targets, reduction="max")


def test_that_a_class_that_there_is_not_is_named_on_every_path() -> None:
    logits, targets = problem(4, 5)
    targets[2] = 5
    with pytest.raises(TargetError, match="target 5 in row 2"):
        cross_entropy(logits, targets)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits.detach(), torch.ones_like(logits))
        with pytest.raises(TargetError, match="target 5 in row 2"):
            cross_entropy(dual, targets)


OPTIONS = {
    "weights": {"weight": torch.tensor([0.3, 1.0, 0.0, 2.0, 0.5], dtype=torch.float64)},
    "smoothing": {"label_smoothing": 0.2, "smooth_over": "finite"},
    "penalties": {"lse_square_scale": 0.01, "entropy_weight": -0.2},
    "temperature and softcap": {"temperature": 0.7, "softcap": 2.0},
    "normalizer": {"normalizer": 7.0},
    "comp-sum": {"link": "comp_sum", "link_params": {"tau": 0.4}},
    "generalized": {"link": "gce", "link_params": {"q": 0.6}},
    "mean absolute error": {"link": "mae"},
    "focal": {"link": "focal", "link_params": {"gamma": 2.0}},
    "poly": {"link": "poly", "link_params": {"epsilon": 1.5}},
    "symmetric": {"link": "symmetric", "link_params": {"a": 0.1, "b": 1.0, "log_zero": -4.0}},
    "truncated": {"link": "truncated_gce", "link_params": {"q": 0.7, "k": 0.2}},
    "textbook": {"complement": False},
    "all": {
        "weight": torch.tensor([0.3, 1.0, 0.7, 2.0, 0.5], dtype=torch.float64),
        "label_smoothing": 0.1,
        "temperature": 1.3,
        "softcap": 4.0,
        "lse_square_scale": 0.02,
        "entropy_weight": 0.1,
        "link": "comp_sum",
        "link_params": {"tau": 1.4},
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_that_every_option_has_first_and_second_derivatives(options: dict) -> None:
    logits, targets = problem(4, 5)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets, **options), logits)
    assert torch.autograd.gradgradcheck(lambda x: cross_entropy(x, targets, **options), logits)


@reductions
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_that_kernel_and_plain_torch_agree(options: dict, reduction: str) -> None:
    if "normalizer" in options:
        reduction = "mean"
    logits, targets = problem(40, 5)
    loss = cross_entropy(logits, targets, reduction=reduction, **options)
    of_torch = composite_loss.cross_entropy(logits, targets, Options(reduction=reduction, **options))
    torch.testing.assert_close(loss, of_torch, rtol=1e-12, atol=1e-12)
    upstream = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).view(loss.shape)
    (gradient,) = torch.autograd.grad(loss, logits, upstream)
    (expected,) = torch.autograd.grad(of_torch, logits, upstream)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@reductions
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("soft", [False, True])
def test_that_weights_smoothing_and_soft_targets_mean_what_torchs_do(
    reduction: str, smoothing: float, soft: bool
) -> None:
    logits, targets = problem(6, 5, 3)
    if soft:
        targets = torch.rand(6, 5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.3, 1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    options = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
    inputs = (logits, targets) if soft else (logits,)
    loss, reference = cross_entropy(logits, targets, **options), theirs(logits, targets, **options)
    torch.testing.assert_close(loss, reference)
    upstream = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).view(loss.shape)
    for ours, expected in zip(
        torch.autograd.grad(loss, inputs, upstream),
        torch.autograd.grad(reference, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(cross_entropy(logits, targets.detach(), **options), reference)


@quiet
def test_that_every_option_at_once_compiles_and_transforms() -> None:
    logits, targets = problem(4, 5)
    function = lambda x: cross_entropy(x, targets, **OPTIONS["all"])  # noqa: E731
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits), function(logits))
    (expected,) = torch.autograd.grad(function(logits), logits)
    torch.testing.assert_close(torch.autograd.grad(compiled(logits), logits)[0], expected)
    torch.testing.assert_close(torch.func.grad(function)(logits.detach()), expected)


def test_that_the_module_takes_the_options() -> None:
    logits, targets = problem(4, 5)
    for options in OPTIONS.values():
        options = dict(options)
        normalizer = options.pop("normalizer", None)
        module = CrossEntropyLoss(**options)
        expected = cross_entropy(logits, targets, normalizer=normalizer, **options)
        torch.testing.assert_close(module(logits, targets, normalizer), expected)
    module = CrossEntropyLoss(torch.ones(5, dtype=torch.float64), softcap=30.0, complement=False)
    assert list(module.state_dict()) == ["weight"]
    assert (
        repr(module)
        == "CrossEntropyLoss(ignore_index=-100, reduction='mean', softcap=30.0, complement=False)"
    )


def test_that_options_out_of_range_are_refused_on_every_path() -> None:
    logits, targets = problem(4, 5)
    wrong = pytest.raises(
        ArgumentError, match=r"^cross_entropy: label_smoothing is 1.5; use a number in 0..1$"
    )
    with wrong:
        cross_entropy(logits, targets, label_smoothing=1.5)
    with wrong:
        torch.func.grad(lambda x: cross_entropy(x, targets, label_smoothing=1.5))(logits.detach())
