"""The factored output layer makes the steps of a dense one, to rounding, and refuses what would break it."""

import math

import pytest
import torch

from logitscope.errors import ArgumentError, DTypeError, NumericalError, ShapeError, TargetError
from logitscope.nn import HierarchicalSoftmax, SphericalOutput
from logitscope.nn.spherical_losses import LOSSES

F64 = torch.float64
EXTRAS = {"a": 0.7, "b": 2.0, "eps": 0.1}


def layer_of(loss="z", features=16, classes=500, **given) -> SphericalOutput:
    """A layer with logits large enough to matter."""
    layer = SphericalOutput(features, classes, loss=loss, dtype=F64, lr=0.1, **EXTRAS, **given)
    generator = torch.Generator().manual_seed(1)
    layer.v.normal_(0.0, 0.3, generator=generator)
    layer.refresh()
    return layer


def dense_loss(loss, weight, hidden, targets, reduction="mean"):
    """The same loss of all logits."""
    logits = hidden @ weight.T
    own = logits.gather(1, targets if targets.dim() == 2 else targets[:, None])
    own = own if targets.dim() == 2 else own[:, 0]
    function = LOSSES[loss] if isinstance(loss, str) else loss
    extras = EXTRAS if isinstance(loss, str) else {}
    losses = function(own, (logits**2).sum(1), logits.sum(1), logits.shape[1], **extras)
    return losses.mean() if reduction == "mean" else losses.sum()


def compare(layer, steps, *, several=0, rows=8, reduction="mean", limit=1e-10):
    """Make steps with a layer and with its dense weight."""
    generator = torch.Generator().manual_seed(2)
    weight = layer.dense_weight().clone()
    for _ in range(steps):
        hidden = torch.randn(rows, layer.in_features, dtype=F64, generator=generator)
        shape = (rows, several) if several else (rows,)
        targets = torch.randint(0, layer.num_classes, shape, generator=generator)
        targets[1] = targets[0]  # the same target twice in a batch
        if several:
            targets[:, 1] = (targets[:, 0] + 1) % layer.num_classes
        ours, theirs = (hidden.clone().requires_grad_() for _ in range(2))
        weight.requires_grad_()
        loss, wanted = layer(ours, targets), dense_loss(layer.loss, weight, theirs, targets, reduction)
        torch.testing.assert_close(loss, wanted, rtol=limit, atol=limit)
        loss.backward()
        dweight, dhidden = torch.autograd.grad(wanted, (weight, theirs))
        torch.testing.assert_close(ours.grad, dhidden, rtol=limit, atol=limit)
        decayed = (1 - layer.lr * layer.weight_decay) * weight.detach()
        weight = decayed - layer.lr * dweight
    torch.testing.assert_close(layer.dense_weight(), weight, rtol=limit, atol=limit)
    torch.testing.assert_close(layer.gram, weight.T @ weight, rtol=limit, atol=limit)
    torch.testing.assert_close(layer.total, weight.sum(0), rtol=limit, atol=limit)
    drift = layer.check()
    assert max(drift.gram, drift.total, drift.inverse) < 1e-9


@pytest.mark.parametrize("loss", LOSSES)
def test_that_steps_are_those_of_a_dense_layer(isa: str, loss: str) -> None:
    # The squared loss shrinks most of U by a third in a step.
    compare(layer_of(loss, stabilize_period=5 if loss == "squared" else 100), 200)


@pytest.mark.parametrize("loss", ["z", "squared"])
def test_that_sums_and_weight_decay_are_those_of_a_dense_layer(loss: str) -> None:
    layer = layer_of(loss, reduction="sum", weight_decay=0.01, stabilize_period=5)
    layer.lr = 0.01
    compare(layer, 50, reduction="sum")


def test_that_an_example_may_have_several_targets() -> None:
    compare(layer_of("squared", stabilize_period=5), 50, several=2)


def test_that_any_function_of_the_three_numbers_is_a_loss() -> None:
    def loss(own, square, sum_, classes):
        return torch.log1p(square / classes) - own + (sum_ / classes) ** 2

    compare(layer_of(loss), 30)

    def ratio_of_two(own, square, sum_, classes):
        return torch.log(1 + square) - own.sum(dim=1)

    compare(layer_of(ratio_of_two), 10, several=2)


def test_that_other_batches_and_widths_are_right() -> None:
    compare(layer_of("taylor", features=5, classes=7), 20, rows=40)
    compare(layer_of("taylor", features=1, classes=2), 20, rows=3)
    compare(layer_of("z", stabilize_period=3), 30)


def test_that_a_gradient_that_comes_in_scales_the_step() -> None:
    one, two = layer_of("taylor"), layer_of("taylor")
    hidden, targets = torch.randn(4, 16, dtype=F64), torch.tensor([1, 2, 3, 1])
    two.lr = 0.2
    (3 * one(hidden.requires_grad_(), targets)).backward()
    first = hidden.grad
    hidden.grad = None
    (1.5 * two(hidden, targets)).backward()
    torch.testing.assert_close(first, 2 * hidden.grad)
    torch.testing.assert_close(one.dense_weight(), two.dense_weight(), rtol=1e-12, atol=1e-12)


def test_that_stabilising_moves_singular_values_and_no_weight() -> None:
    layer = layer_of()
    values = torch.logspace(-3, 3, 16, dtype=F64)
    left, right = (torch.linalg.qr(torch.randn(16, 16, dtype=F64))[0] for _ in range(2))
    layer.u.copy_(left @ torch.diag(values) @ right)
    layer.refresh()
    before, gram = layer.dense_weight(), layer.gram.clone()
    layer.stabilize()
    after = torch.linalg.svdvals(layer.u)
    assert after.min() >= 0.5
    assert after.max() <= 2.0
    torch.testing.assert_close(layer.dense_weight(), before, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.gram, gram, rtol=0, atol=0)
    assert layer.check().inverse < 1e-10
    assert layer.stats.condition <= 4.0


def test_that_unfactorising_changes_no_weight() -> None:
    layer = layer_of()
    compare(layer, 5)
    before = layer.dense_weight()
    layer.unfactorize()
    torch.testing.assert_close(layer.v, before, rtol=0, atol=0)
    assert (layer.omega == 0).all()
    assert layer.stats.condition == 1.0
    compare(layer, 5)


def test_that_constant_logits_have_a_finite_loss_and_move_nothing() -> None:
    layer = layer_of()
    for constant in (0.0, 3.0):
        layer.v.fill_(constant)
        layer.refresh()
        before = layer.dense_weight()
        hidden = torch.ones(3, 16, dtype=F64, requires_grad=True)
        loss = layer(hidden, torch.tensor([0, 5, 9]))
        assert loss.item() == pytest.approx(math.log1p(math.exp(0.7 * 2.0)) / 0.7, rel=1e-12)
        loss.backward()  # all slopes of the sums of squares are 0
        assert (hidden.grad == 0).all()
        torch.testing.assert_close(layer.dense_weight(), before, rtol=0, atol=0)
        assert layer.check().inverse == 0


def test_that_a_u_that_becomes_singular_is_refused() -> None:
    # One example of length 1, and a rate with which 2 eta gq |h|² is 1.
    layer = layer_of("squared", features=2, classes=3, reduction="sum")
    layer.lr = 0.5
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    hidden = torch.tensor([[1.0, 0.0]], dtype=F64, requires_grad=True)
    with pytest.raises(
        ArithmeticError, match=r"^SphericalOutput: a step makes U singular; use a smaller learning rate$"
    ):
        layer(hidden, torch.tensor([1])).backward()
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_that_nan_is_refused_and_changes_nothing(bad: float) -> None:
    layer = layer_of()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    hidden = torch.zeros(2, 16, dtype=F64)
    hidden[1, 3] = bad
    with pytest.raises(
        FloatingPointError, match=r"^SphericalOutput: h has NaN or infinities; use finite numbers"
    ):
        layer(hidden.requires_grad_(), torch.tensor([0, 1]))
    loss = layer(torch.ones(2, 16, dtype=F64, requires_grad=True), torch.tensor([0, 1]))
    with pytest.raises(NumericalError):
        (bad * loss).backward()
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_that_a_loss_moves_the_layer_once() -> None:
    layer = layer_of()
    hidden = torch.randn(2, 16, dtype=F64, requires_grad=True)
    loss = layer(hidden, torch.tensor([0, 1]))
    loss.backward(retain_graph=True)
    with pytest.raises(ArgumentError, match="the layer has moved since this loss was computed"):
        loss.backward()


def test_that_evaluation_moves_nothing() -> None:
    layer = layer_of()
    hidden, targets = torch.randn(2, 16, dtype=F64), torch.tensor([0, 1])
    expected = dense_loss("z", layer.dense_weight(), hidden, targets)
    with torch.no_grad():
        torch.testing.assert_close(layer(hidden, targets), expected)
    layer.eval()
    loss = layer(hidden.requires_grad_(), targets)
    assert not loss.requires_grad
    assert int(layer.steps) == 0


def test_that_the_layer_moves_where_nothing_before_it_learns() -> None:
    layer = layer_of()
    before = layer.dense_weight()
    layer(torch.randn(2, 16, dtype=F64), torch.tensor([0, 1])).backward()
    assert not torch.equal(layer.dense_weight(), before)


def test_that_scores_and_the_largest_are_those_of_the_weight() -> None:
    layer = layer_of(features=4, classes=30)
    compare(layer, 3)
    hidden = torch.randn(2, 3, 4, dtype=F64)
    logits = hidden @ layer.dense_weight().T
    torch.testing.assert_close(layer.scores(hidden), logits)
    torch.testing.assert_close(layer.scores(hidden, torch.tensor([7, 2])), logits[..., [7, 2]])
    values, indices = layer.topk(hidden, 5)
    torch.testing.assert_close(values, logits.topk(5).values)
    assert torch.equal(indices, logits.topk(5).indices)


def test_that_a_saved_layer_goes_on_as_it_was() -> None:
    layer, other = layer_of(), SphericalOutput(16, 500, dtype=F64, lr=0.1, **EXTRAS, seed=9)
    compare(layer, 3)
    other.load_state_dict(layer.state_dict())
    assert int(other.steps) == 3
    hidden, targets = torch.randn(2, 16, dtype=F64), torch.tensor([0, 1])
    for each in (layer, other):
        each(hidden, targets).backward()
    torch.testing.assert_close(other.dense_weight(), layer.dense_weight(), rtol=0, atol=0)


def test_that_float32_hidden_rows_and_classes_train() -> None:
    layer = SphericalOutput(8, 50, loss="taylor", lr=0.5)
    hidden = torch.randn(20, 8, requires_grad=True)
    targets = torch.arange(20)
    losses = []
    for _ in range(300):
        loss = layer(hidden.view(4, 5, 8), targets.view(4, 5))
        assert loss.dtype == torch.float32
        loss.backward()
        losses.append(loss.item())
    assert hidden.grad.dtype == torch.float32
    assert losses[-1] < 0.7 * losses[0]
    assert layer.check().gram < 1e-3
    assert layer.stats.step_seconds > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_that_16_bits_round_the_rows_that_move_and_keep_their_sums(isa: str, dtype: torch.dtype) -> None:
    layer = SphericalOutput(
        16, 60, loss="taylor", dtype=dtype, lr=0.5, weight_decay=0.01, stabilize_period=20
    )
    layer.v.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(1))
    layer.refresh()
    unit = torch.finfo(dtype).eps / 2
    generator = torch.Generator().manual_seed(2)
    for _ in range(15):
        weight = (layer.v.double() @ layer.u + layer.omega).requires_grad_()
        hidden = torch.randn(6, 16, dtype=F64, generator=generator).requires_grad_()
        targets = torch.randint(0, 60, (6,), generator=generator)
        targets[1] = targets[0]
        loss, wanted = layer(hidden, targets), dense_loss("taylor", weight, hidden.detach(), targets)
        torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=1e-10)
        loss.backward()
        exact = (1 - 0.5 * 0.01) * weight.detach() - 0.5 * torch.autograd.grad(wanted, weight)[0]
        moved = layer.v.double() @ layer.u + layer.omega
        # Rounding V, and nothing else: half a unit of each of its numbers, through U.
        assert ((moved - exact).abs() <= 1.01 * unit * layer.v.double().abs() @ layer.u.abs() + 1e-6).all()
        drift = layer.check()
        assert max(drift.gram, drift.total) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_that_a_layer_of_16_bits_trains_and_stays_stable(dtype: torch.dtype) -> None:
    layer = SphericalOutput(8, 50, loss="squared", dtype=dtype, lr=0.1, stabilize_period=3)
    hidden = torch.randn(20, 8, dtype=dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = torch.arange(20)
    losses = []
    for _ in range(200):
        loss = layer(hidden, targets)
        assert loss.dtype == dtype
        loss.backward()
        losses.append(loss.item())
    assert hidden.grad.dtype == dtype
    assert losses[-1] < 0.8 * losses[0]
    assert layer.stats.condition <= 4.0
    assert layer.check().gram < 1e-6
    assert layer.dense_weight().dtype == layer.scores(hidden).dtype == dtype
    want = hidden.double() @ (layer.v.double() @ layer.u + layer.omega).T
    torch.testing.assert_close(layer.scores(hidden).double(), want, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_classes": 1}, ArgumentError, "num_classes is 1; use an integer, at least 2"),
        ({"a": 0.0}, ArgumentError, "a is 0.0; use a finite number above 0"),
        ({"eps": -1.0}, ArgumentError, "eps is -1.0; use a finite number above 0"),
        (
            {"loss": "hinge"},
            ArgumentError,
            "loss is 'hinge'; use 'z', 'taylor', 'spherical', 'squared' or a function",
        ),
        ({"reduction": "none"}, ArgumentError, "reduction is 'none'; use 'mean' or 'sum'"),
        ({"stabilize_period": 0}, ArgumentError, "stabilize_period is 0; use an integer, at least 1"),
        (
            {"dtype": torch.int8},
            DTypeError,
            "dtype is torch.int8; use torch.float32, float64, float16 or bfloat16",
        ),
    ],
    ids=str,
)
def test_that_wrong_options_are_named(change, error, message: str) -> None:
    with pytest.raises(error, match=f"^SphericalOutput: {message}$"):
        SphericalOutput(**({"in_features": 4, "num_classes": 10} | change))


def test_that_wrong_inputs_are_named() -> None:
    layer = layer_of()
    hidden = torch.zeros(3, 16, dtype=F64)
    for value in (-1, 500):
        with pytest.raises(
            TargetError, match=rf"^SphericalOutput: target {value} in row 1 is no class; use 0..499$"
        ):
            layer(hidden, torch.tensor([0, value, 0]))
    with pytest.raises(ShapeError, match=r"h is torch.float64 \(3, 4\); use floats \(..., 16\)"):
        layer(hidden[:, :4], torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"targets has shape \(2,\); use \(3,\)"):
        layer(hidden, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ShapeError, match="use loss 'squared', not 'z'"):
        layer(hidden, torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(DTypeError, match=r"targets are torch.float32; use an integer type"):
        layer(hidden, torch.zeros(3))
    layer.weight_decay = 20.0
    with pytest.raises(
        ArgumentError, match=r"weight_decay is 20 with a learning rate of 0.1; use finite numbers"
    ):
        layer(hidden, torch.zeros(3, dtype=torch.int64)).backward()


@pytest.mark.parametrize(
    ("classes", "group_size"), [(1, None), (2, None), (97, None), (100, None), (10, 4), (5, 9)]
)
def test_that_hierarchical_probabilities_sum_to_one(classes: int, group_size: int | None) -> None:
    layer = HierarchicalSoftmax(6, classes, group_size)
    log_p = layer.log_prob(torch.randn(3, 6))
    assert log_p.shape == (3, classes)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_that_the_hierarchical_loss_is_that_of_its_probabilities(sparse: bool) -> None:
    layer = HierarchicalSoftmax(6, 97, sparse=sparse).double()
    hidden = torch.randn(2, 5, 6, dtype=F64, requires_grad=True)
    targets = torch.tensor([[0, 96, 3, 3, 50], [1, 2, 95, 11, 42]])
    loss = layer(hidden, targets)
    wanted = -layer.log_prob(hidden).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(loss, wanted)
    leaves = (hidden, *layer.parameters())
    ours, theirs = torch.autograd.grad(loss, leaves), torch.autograd.grad(wanted, leaves)
    assert any(gradient.is_sparse for gradient in ours) == sparse
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.to_dense(), b)


def test_that_wrong_inputs_of_the_hierarchical_layer_are_named() -> None:
    layer = HierarchicalSoftmax(6, 10)
    with pytest.raises(TargetError, match=r"^HierarchicalSoftmax: target 10 in row 1 is no class; use 0..9$"):
        layer(torch.zeros(2, 6), torch.tensor([0, 10]))
    with pytest.raises(ShapeError, match=r"h has shape \(2, 5\); use \(..., 6\)"):
        layer(torch.zeros(2, 5), torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"targets has shape \(3,\); use \(2,\)"):
        layer(torch.zeros(2, 6), torch.tensor([0, 1, 1]))
    with pytest.raises(DTypeError, match=r"targets are torch.bool"):
        layer(torch.zeros(2, 6), torch.tensor([True, False]))
    with pytest.raises(ArgumentError, match="num_classes is 0; use an integer, at least 1"):
        HierarchicalSoftmax(6, 0)
