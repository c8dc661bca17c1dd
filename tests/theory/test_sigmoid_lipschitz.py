"""The bound on the Jacobian of sigmoid attention holds, and does not grow with the length."""

import math

import pytest
import torch

from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.functional import sigmoid_attention
from logitscope.theory import attention_jacobian_norm, sigmoid_attention_lipschitz


def head(wq, wk, wv, bias):
    def attend(x):
        q, k, v = ((x @ w.T)[None, None] for w in (wq, wk, wv))
        return sigmoid_attention(q, k, v, bias=bias).out[0, 0]

    return attend


def draw(seed, n, d=6):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n, d), (4, d), (4, d), (3, d))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_that_the_bound_is_above_the_norm_on_a_hundred_draws():
    for seed in range(100):
        n = 1 + seed % 9
        x, *weights = draw(seed, n)
        bias = -math.log(n) if seed % 2 else 1.0
        norm = attention_jacobian_norm(head(*weights, bias), x, iters=10)
        assert 0 < norm <= sigmoid_attention_lipschitz(x, *weights, bias)


def test_that_power_iteration_finds_the_spectral_norm():
    x, *weights = draw(0, 5)
    fn = head(*weights, -1.0)
    jacobian = torch.func.jacrev(fn)(x).reshape(5 * 3, -1)
    exact = torch.linalg.matrix_norm(jacobian, 2).item()
    assert attention_jacobian_norm(fn, x, iters=100) == pytest.approx(exact, rel=1e-4)
    assert attention_jacobian_norm(lambda x: 0 * x, x) == 0


def test_that_with_minus_log_n_the_bound_stays_while_without_it_grows():
    x, *weights = draw(1, 8)
    x, weights = x / x.norm(dim=1, keepdim=True), [0.4 * w for w in weights]

    def bound(n, bias):
        return sigmoid_attention_lipschitz(x.repeat(n // 8, 1), *weights, bias)

    assert bound(256, -math.log(256)) < 1.5 * bound(8, -math.log(8))
    assert bound(256, 0.0) > 20 * bound(8, 0.0)


def test_that_wrong_input_is_refused():
    x, wq, wk, wv = draw(0, 3)
    with pytest.raises(
        ShapeError, match=r"^sigmoid_attention_lipschitz: x, wq, wk, wv have shapes \(3, 5\), "
    ):
        sigmoid_attention_lipschitz(x[:, 1:], wq, wk, wv, 0.0)
    with pytest.raises(ArgumentError, match=r"^attention_jacobian_norm: iters is 0; use 1 or more$"):
        attention_jacobian_norm(lambda x: x, x, 0)
