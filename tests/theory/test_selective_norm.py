"""What is proved of selective attention holds for numbers."""

import math

import pytest
import torch

from logitscope import softmax
from logitscope.errors import ArgumentError, ShapeError
from logitscope.theory import optimal_position_temperature, specificity, spikiness, ssa_norm_lower_bound


def unit(seed, count, d=5):
    x = torch.randn(count, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def test_that_lemma_1_bounds_the_norm_of_weights():
    for seed in range(50):
        a, b = unit(seed, 2)
        w = torch.randn(5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        difference = specificity(w, a) - specificity(w, b)
        assert torch.linalg.matrix_norm(w, 2) >= difference.abs() / (a - b).norm()


def smallest_norm(p, e, eps):
    """The smallest norm of any W whose map is within eps, by the scores it must reach: a minimum-norm problem."""
    pinv = torch.linalg.pinv(e)
    share = p[0, 1].item()
    best = math.inf
    for error in torch.linspace(-eps, eps, 41).tolist():
        first = math.log(
            (share + error) / (1 - share - error)
        )  # score of key 2 less that of key 1, of token 1
        last = math.log((1 - eps) / eps)
        wanted = torch.tensor([first, last], dtype=torch.float64)
        direction = e[1] - e[0]
        w = pinv @ wanted[:, None] @ (direction / direction.square().sum())[None]
        best = min(best, torch.linalg.matrix_norm(w, 2).item())
    return best


def test_that_proposition_1_is_below_what_weights_need():
    for seed in range(20):
        e = unit(seed, 2)
        for share in (0.3, 0.5, 0.8):
            p = torch.tensor([[1 - share, share], [0, 1]], dtype=torch.float64)
            for eps in (1e-2, 1e-4, 1e-8):
                plain, _ = ssa_norm_lower_bound(p, e, eps)
                assert plain <= smallest_norm(p, e, eps) * (1 + 1e-9)


def test_that_temperatures_reach_what_proposition_1_promises():
    for seed in range(20):
        e, share, eps = unit(seed, 2), 0.3, 1e-4
        p = torch.tensor([[1 - share, share], [0, 1]], dtype=torch.float64)
        _, promised = ssa_norm_lower_bound(p, e, eps)
        direction = (e[1] - e[0]) / (e[1] - e[0]).square().sum()
        # One shared direction and a temperature for each token: scores tau_i (0, 1).
        tau = torch.tensor([math.log(share / (1 - share)), math.log(1 / eps)], dtype=torch.float64)
        scores = tau[:, None] * (e @ direction)[None] - (tau * (e[0] @ direction))[:, None]
        assert (softmax(scores) - p).abs().max() <= eps
        assert tau.abs().max() * direction.norm() <= promised * (1 + 1e-9)


def test_that_proposition_2_has_no_loss_and_a_flat_temperature_has():
    n = torch.arange(1, 401, dtype=torch.float64)
    kappa = torch.where(n <= 200, 1.5, 4.0)
    share, alpha = lambda tau: tau.exp() / (tau.exp() + kappa), 0.5
    optimal = optimal_position_temperature(kappa, alpha)
    assert (share(optimal) - alpha).square().mean() < 1e-28
    flat = min(
        (share(torch.full_like(n, tau)) - alpha).square().mean().item() for tau in torch.linspace(-2, 4, 301)
    )
    assert flat > 1 / 500
    power = optimal_position_temperature(n.sqrt(), 0.3)
    torch.testing.assert_close(power, math.log(3 / 7) + 0.5 * n.log())


def test_that_spikiness_counts_keys():
    rows = torch.eye(8).cumsum(0)
    torch.testing.assert_close(spikiness(rows), torch.arange(1, 9) / 8)


def test_that_wrong_input_is_refused():
    p, e = torch.tensor([[0.6, 0.4], [0.0, 1.0]]), torch.eye(2)
    with pytest.raises(ShapeError, match=r"^ssa_norm_lower_bound: p, e have shapes \(2, 2\), \(3, 3\); use"):
        ssa_norm_lower_bound(p, torch.eye(3), 0.1)
    with pytest.raises(
        ArgumentError, match=r"^ssa_norm_lower_bound: eps is 0.3; use above 0 and at most 0.2$"
    ):
        ssa_norm_lower_bound(p, e, 0.3)
    with pytest.raises(
        ArgumentError, match=r"^ssa_norm_lower_bound: p is .*; use \[\[1 - g, g\], \[0, 1\]\]"
    ):
        ssa_norm_lower_bound(torch.eye(2), e, 0.1)
    with pytest.raises(
        ArgumentError, match=r"^optimal_position_temperature: alpha is 1; use a number between"
    ):
        optimal_position_temperature(torch.ones(1), 1)
