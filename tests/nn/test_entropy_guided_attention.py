"""Entropy-guided attention: entropies, temperatures, the regulariser's value and gradients, softmax-only parts."""

import math

import pytest
import torch

from logitscope import nn
from logitscope.errors import ArgumentError, ShapeError


def attention(length=6, heads=2, dtype=torch.float64, **options):
    torch.manual_seed(0)
    module = nn.EntropyGuidedAttention(heads * 4, heads, length, **options).to(dtype)
    return module, torch.randn(3, length, heads * 4, dtype=dtype)


def dense_entropy(q, k, temperature):
    """Entropies of causal rows by the formula, differentiable."""
    scores = q @ k.mT / math.sqrt(q.shape[-1]) / temperature[..., None]
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    logs = scores.masked_fill(hidden, -torch.inf).log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(hidden, 0.0)).sum(-1)


@pytest.mark.parametrize("temperature", ["per_head_position", "per_head", None])
@pytest.mark.parametrize("log_param", [True, False])
def test_that_entropies_are_those_of_the_formula(temperature, log_param):
    module, x = attention(temperature=temperature, log_param=log_param)
    if module.theta is not None:
        module.theta.data += 0.5 * torch.rand_like(module.theta)
    q, k, _ = module.project(x)
    learned = module.learned_temperature(6)
    given = torch.ones(2, 6).double() if learned is None else learned.expand(2, 6)
    module(x)
    assert (module.entropy - dense_entropy(q, k, given)).abs().max() < 1e-6
    assert (module.entropy >= 0).all()


def test_that_uniform_heads_have_the_entropy_of_their_counts():
    module, x = attention(48)
    module(0 * x)
    counts = torch.arange(1, 49)
    regularizer = nn.EntropyRegularizer(1, 2).double()
    regularizer([module.entropy], counts)
    mean = counts.double().log().mean()
    torch.testing.assert_close(regularizer.last.entropy, mean.expand(1, 2))
    assert mean / math.log(48) == pytest.approx(0.757, abs=2e-3)
    by_row = nn.EntropyRegularizer(1, 2, emax="row").double()
    by_row([module.entropy], counts)
    torch.testing.assert_close(by_row.last.entropy, torch.ones(1, 2).double())


@pytest.mark.parametrize("emax", ["context", "row"])
@pytest.mark.parametrize("reduction", ["head_mean", "token_sum"])
@pytest.mark.parametrize("smooth", [False, True])
def test_that_gradients_are_those_of_a_dense_map(emax, reduction, smooth):
    module, x = attention(temperature="per_head_position")
    options = {
        "lam": 0.3,
        "gamma": 0.05,
        "theta_init": 0.2,
        "emax": emax,
        "reduction": reduction,
        "smooth": smooth,
    }
    regularizer = nn.EntropyRegularizer(1, 2, **options).double()
    q, k, v = (part.detach().requires_grad_() for part in module.project(3 * x))
    counts = torch.arange(1, 7)
    module.mix(q, k, v)
    inputs = q, k, module.theta, regularizer.reg_threshold_weights
    ours = torch.autograd.grad(regularizer([module.entropy], counts), inputs)
    dense = dense_entropy(q, k, module.theta.exp())
    theirs = torch.autograd.grad(regularizer([dense], counts), inputs)
    for got, wanted in zip(ours, theirs, strict=True):
        assert wanted.abs().max() > 1e-6
        assert (got - wanted).abs().max() <= 1e-10


def test_that_inside_of_the_margin_nothing_happens():
    module, x = attention()
    regularizer = nn.EntropyRegularizer(1, 2, lam=1.0, gamma=0.6, emax="row").double()
    module(x)
    loss = regularizer([module.entropy], torch.arange(1, 7))
    assert loss == 0
    wanted = [module.qkv.weight, module.theta, regularizer.reg_threshold_weights]
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, wanted))
    assert (regularizer.last.difference != 0).all()


def test_that_the_sum_over_tokens_is_that_of_the_released_code():
    module, x = attention(5)
    module(2 * x)
    with torch.no_grad():
        q, k, _ = module.project(2 * x)
        entropy = dense_entropy(q, k, torch.ones(2, 5).double())
    largest, theta, gamma, lam = math.log(5), 0.5, 0.2, 1e-3
    deviation = (entropy - theta * largest).abs()
    penalty = torch.where(deviation > gamma * largest, deviation.square(), 0.0)
    wanted = lam * penalty.sum((0, 2)).mean()
    got = nn.EntropyRegularizer(1, 2, lam=lam, reduction="token_sum").double()(
        [module.entropy], torch.arange(1, 6)
    )
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=0)
    head_mean = nn.EntropyRegularizer(1, 2, lam=lam).double()([module.entropy], torch.arange(1, 6))
    assert head_mean < got


def test_that_each_layer_has_levels_of_its_own_and_they_follow_the_entropy():
    regularizer = nn.EntropyRegularizer(2, 1, lam=1.0, gamma=0.1, emax="row")
    counts = torch.full((4,), 4)
    high, low = (share * torch.full((1, 1, 4), math.log(4)) for share in (0.9, 0.1))
    regularizer([high, low], counts).backward()
    above, below = regularizer.reg_threshold_weights.grad.flatten().tolist()
    assert above < 0 < below  # descent moves a level up where the entropy is above it


def test_that_temperature_moves_entropy_from_nothing_to_all():
    module, x = attention(8, temperature="per_head")
    last = torch.tensor(-1.0)
    for temperature in (1e-4, 0.1, 1.0, 10.0, 1e5):
        module.theta.data.fill_(math.log(temperature))
        module(x)
        now = module.entropy[:, :, -1]
        assert (now >= last).all()
        if temperature == 1e-4:
            assert now.max() < 1e-3
        last = now
    torch.testing.assert_close(last, torch.full_like(last, math.log(8)))


def test_that_a_temperature_learned_as_itself_stays_positive():
    module, x = attention(temperature="per_head", log_param=False)
    module.theta.data.fill_(-1.0)
    assert (module.learned_temperature(6) == 1e-3).all()
    assert module(x).isfinite().all()


@pytest.mark.parametrize("emax", ["context", "row"])
@pytest.mark.parametrize("reduction", ["head_mean", "token_sum"])
def test_that_single_tokens_and_empty_rows_are_no_nan(emax, reduction):
    regularizer = nn.EntropyRegularizer(1, 2, lam=1.0, emax=emax, reduction=reduction)
    for length, counts in ((1, torch.ones(1)), (3, torch.zeros(3)), (3, torch.tensor([0, 1, 2]))):
        entropy = torch.zeros(2, 2, length, requires_grad=True)
        loss = regularizer([entropy], counts)
        loss.backward()
        assert loss.isfinite()
        assert entropy.grad.isfinite().all()
        assert regularizer.last.entropy.isfinite().all()
    module, x = attention(1)
    assert module(x).isfinite().all()


def test_that_a_fused_network_is_the_two_linear_layers():
    first, second = torch.nn.Linear(6, 24).double(), torch.nn.Linear(24, 6).double()
    x = torch.randn(4, 6).double()
    fused = nn.ScaledFusedFFN.from_linears(first, second)
    torch.testing.assert_close(fused(x), x + second(first(x)))
    fused.alpha.data.fill_(2.0)
    fused.beta.data.fill_(0.5)
    torch.testing.assert_close(fused(x), 0.5 * x + second(first(x)) / 2)
    assert not nn.ScaledFusedFFN(4, layer_scale=False).alpha.requires_grad
    with pytest.raises(ShapeError, match=r"^ScaledFusedFFN: the layers lead from 6 to 24 to 24; use two"):
        nn.ScaledFusedFFN.from_linears(first, torch.nn.Linear(24, 24))


@pytest.mark.parametrize(("kind", "order"), [("spectral", 2), ("weight", "fro")])
def test_that_static_norms_are_one(kind, order):
    torch.manual_seed(0)
    linear = nn.StaticNorm(torch.nn.Linear(32, 32), kind)
    linear(torch.randn(5, 32)).square().sum().backward()
    assert torch.linalg.matrix_norm(linear.eval().weight.detach(), order).item() == pytest.approx(1, abs=1e-4)


def test_that_softmax_only_models_have_no_norm_and_no_activation():
    config = nn.GPTConfig(vocabulary=7, context=5, layers=2, heads=2, width=8)
    model = nn.softmax_only_gpt(config)
    kinds = {type(module).__name__ for module in model.modules()}
    assert kinds.isdisjoint({"LayerNorm", "GELU", "ReLU"})
    model(torch.zeros(1, 5, dtype=torch.long)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.blocks.parameters())
    named = nn.GPT(nn.GPTConfig(vocabulary=7, context=5, heads=2, width=8, attention="entropy_guided"))
    assert all((a.theta == 0).all() and a.max_len == 5 for a in named.attentions)  # as they start, not drawn


def test_that_wrong_input_is_refused():
    entropy, counts = torch.zeros(1, 2, 3), torch.arange(1, 4)
    regularizer = nn.EntropyRegularizer(1, 2)
    for wrong in ([entropy, entropy], [entropy[:, :1]], [entropy[0]], []):
        with pytest.raises(
            ShapeError, match=r"^EntropyRegularizer: entropies have shapes .*; use 1 of \(B, 2, T\)$"
        ):
            regularizer(wrong, counts)
    for gamma in (-0.1, 1.0):
        with pytest.raises(
            ArgumentError, match=rf"^EntropyRegularizer: gamma is {gamma}; use 0 or more, below 1$"
        ):
            nn.EntropyRegularizer(1, 2, gamma=gamma)
    with pytest.raises(ArgumentError, match=r"^EntropyRegularizer: emax is 'max'; use context or row$"):
        nn.EntropyRegularizer(1, 2, emax="max")
    with pytest.raises(ShapeError, match=r"^EntropyGuidedAttention: 7 tokens; use 6 or fewer, its max_len$"):
        attention(6)[0](torch.zeros(1, 7, 8).double())
    with pytest.raises(ArgumentError, match=r"^EntropyGuidedAttention: max_len is 0; use 1 or more$"):
        nn.EntropyGuidedAttention(8, 2, 0)
    with pytest.raises(
        ArgumentError, match=r"^EntropyGuidedAttention: temperature is 'one'; use 'per_head_position'"
    ):
        nn.EntropyGuidedAttention(8, 2, 4, temperature="one")
    with pytest.raises(ArgumentError, match=r"^StaticNorm: kind is 'l1'; use 'weight' or 'spectral'$"):
        nn.StaticNorm(torch.nn.Linear(2, 2), "l1")
