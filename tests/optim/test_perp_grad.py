"""PerpGrad: what is projected, what stays, and that it is an optimizer like any other."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from logitscope.errors import ArgumentError, DTypeError
from logitscope.optim import PerpGrad, project_orthogonal_

PER = ("tensor", "neuron", "global")


def parameter(*shape, dtype=torch.float32, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    tensor = nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype))
    tensor.grad = scale * torch.randn(shape, generator=generator, dtype=dtype)
    return tensor


def parts(parameters, per):
    """Pairs of vectors that are to be orthogonal, in float64."""
    if per == "global":
        yield tuple(
            torch.cat([part.detach().double().flatten() for part in side])
            for side in (parameters, [p.grad for p in parameters])
        )
        return
    for p in parameters:
        rows = len(p) if per == "neuron" and p.dim() > 1 else 1
        yield from zip(p.detach().double().reshape(rows, -1), p.grad.double().reshape(rows, -1), strict=True)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_that_gradients_are_orthogonal_and_keep_their_norm(per, scale):
    parameters = [parameter(7, 33, scale=scale), parameter(5, seed=1, scale=scale)]
    norms = [g.norm() for _, g in parts(parameters, per)]
    project_orthogonal_(parameters, per=per)
    for (w, g), norm in zip(parts(parameters, per), norms, strict=True):
        assert abs(w @ g) <= 1e-6 * w.norm() * g.norm()
        assert abs(g.norm() - norm) <= 1e-6 * norm


@pytest.mark.parametrize("per", PER)
def test_that_without_rescaling_the_rest_is_the_projection(per):
    plain, rescaled = parameter(4, 6, dtype=torch.float64), parameter(4, 6, dtype=torch.float64)
    wanted = [g - (w @ g) / (w @ w) * w for w, g in parts([plain], per)]
    project_orthogonal_([plain], per=per, rescale=False)
    project_orthogonal_([rescaled], per=per)
    for (_, g), (_, h), want in zip(parts([plain], per), parts([rescaled], per), wanted, strict=True):
        torch.testing.assert_close(g, want)
        torch.testing.assert_close(nn.functional.cosine_similarity(g, h, dim=0).item(), 1.0)
        assert h.norm() >= g.norm()


def test_that_zero_weights_leave_the_gradient_as_it_is():
    zero = parameter(3, 4)
    zero.data.zero_()
    before = zero.grad.clone()
    project_orthogonal_([zero])
    assert torch.equal(zero.grad, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_that_a_gradient_along_the_weights_vanishes_and_is_not_blown_up(dtype):
    weight = parameter(50, dtype=dtype)
    weight.grad = 3 * weight.detach()
    norm = weight.grad.norm()
    project_orthogonal_([weight])
    assert weight.grad.norm() <= 4 * torch.finfo(dtype).eps * norm
    weight.grad.zero_()
    project_orthogonal_([weight])
    assert not weight.grad.any()


def test_that_a_step_is_the_projection_and_a_step_of_the_other_optimizer():
    ours, theirs = parameter(5, 6), parameter(5, 6)
    optimizer = PerpGrad([ours], torch.optim.SGD, lr=0.1, momentum=0.9)
    other = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for seed in range(3):
        ours.grad, theirs.grad = (parameter(5, 6, seed=seed).grad for _ in range(2))
        optimizer.step()
        project_orthogonal_([theirs])
        other.step()
        assert torch.equal(ours, theirs)


def test_that_plain_descent_grows_weights_at_second_order_only():
    weight = parameter(20, dtype=torch.float64)
    before, norm = weight.detach().square().sum(), weight.grad.square().sum()
    PerpGrad([weight], torch.optim.SGD, lr=0.5).step()
    torch.testing.assert_close(weight.detach().square().sum(), before + 0.25 * norm)


def test_that_schedulers_and_groups_reach_the_other_optimizer():
    first, second = parameter(3), parameter(3)
    optimizer = PerpGrad([{"params": [first], "lr": 1.0}], torch.optim.SGD, lr=0.5)
    optimizer.add_param_group({"params": [second]})
    assert [group["lr"] for group in optimizer.base.param_groups] == [1.0, 0.5]
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    optimizer.step()
    schedule.step()
    torch.testing.assert_close([group["lr"] for group in optimizer.base.param_groups], [0.1, 0.05])
    optimizer.zero_grad()
    assert first.grad is None
    assert second.grad is None


def test_that_a_loaded_state_goes_on_where_it_was():
    def trained(steps, optimizer, weight):
        for seed in steps:
            weight.grad = parameter(4, 4, seed=seed).grad
            optimizer.step()

    weight = parameter(4, 4)
    optimizer = PerpGrad([weight], torch.optim.AdamW, per="neuron", lr=0.1, betas=(0.9, 0.99))
    trained(range(3), optimizer, weight)
    copy = nn.Parameter(weight.detach().clone())
    restored = PerpGrad([copy], torch.optim.AdamW, lr=1.0)
    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    assert restored.per == "neuron"
    trained(range(3, 6), optimizer, weight)
    trained(range(3, 6), restored, copy)
    assert torch.equal(weight, copy)
    schedule = torch.optim.lr_scheduler.StepLR(restored, 1)
    restored.step()
    schedule.step()
    torch.testing.assert_close(restored.base.param_groups[0]["lr"], 0.01)


def test_that_a_closure_is_projected_each_time_it_is_called():
    weight, target = parameter(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    optimizer = PerpGrad([weight], torch.optim.LBFGS, lr=0.1, max_iter=3)
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = (weight - target).square().sum()
        loss.backward()
        calls.append(loss.item())
        return loss

    optimizer.step(closure)
    assert len(calls) > 1
    assert abs(weight.detach() @ weight.grad) < abs(weight.detach() @ (weight - target).detach())


def test_that_what_cannot_be_projected_is_refused():
    sparse = nn.Embedding(3, 2, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    with pytest.raises(DTypeError, match=r"^PerpGrad: a gradient is sparse; use a dense one"):
        PerpGrad(sparse.parameters(), torch.optim.SGD, lr=1.0).step()
    with pytest.raises(DTypeError, match=r"^PerpGrad: a gradient is torch.complex64; use real parameters$"):
        project_orthogonal_([parameter(3, dtype=torch.complex64)])
    with pytest.raises(ArgumentError, match=r"^PerpGrad: per is 'row'; use tensor, neuron, global$"):
        PerpGrad([parameter(3)], per="row")
    with pytest.raises(ArgumentError, match=r"^PerpGrad: eps is -1.0; use 0 or more$"):
        project_orthogonal_([parameter(3)], eps=-1.0)
