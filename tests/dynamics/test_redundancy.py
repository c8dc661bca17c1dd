"""Ranks count directions, and layers are as alike as their vectors."""

import numpy as np
import pytest

from logitscope.errors import NumericalError, ShapeError

pytest.importorskip("torch")
from logitscope.dynamics import effective_rank, layer_cosine_similarity


def orthogonal(size: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(size).standard_normal((size, size)))[0]


def test_that_a_rank_is_that_of_the_spectrum_and_no_matter_of_scale_or_basis() -> None:
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    matrix = orthogonal(4) @ np.diag(shares) @ orthogonal(4).T
    wanted = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(matrix) == pytest.approx(wanted, rel=1e-12)
    assert effective_rank(1e6 * matrix.T) == pytest.approx(wanted, rel=1e-12)


def test_that_a_rank_lies_between_one_and_the_smaller_side() -> None:
    assert effective_rank(orthogonal(9)[:4]) == pytest.approx(4.0)
    assert effective_rank(np.outer(np.arange(1.0, 4), np.ones(5))) == pytest.approx(1.0)
    assert effective_rank(np.zeros((3, 2))) == 0.0
    assert effective_rank(np.float32([[1e-30]])) == pytest.approx(1.0)


def test_that_likeness_is_the_mean_cosine_of_the_tokens() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((2, 5, 8))
    second = first * rng.uniform(0.1, 10, (2, 5, 1))
    third = -first
    fourth = np.where(np.arange(10).reshape(2, 5, 1) < 5, first, -first)
    expected = [[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(layer_cosine_similarity([first, second, third, fourth]), expected, atol=1e-12)


def test_that_a_vector_of_zeros_is_like_none() -> None:
    similarity = layer_cosine_similarity([np.zeros((1, 3)), np.ones((1, 3))])
    np.testing.assert_array_equal(similarity, [[0, 0], [0, pytest.approx(1.0)]])


def test_that_bad_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"effective_rank: weight has shape \(3,\); use a matrix"):
        effective_rank(np.ones(3))
    with pytest.raises(NumericalError, match="effective_rank: weight has numbers that are not finite"):
        effective_rank(np.array([[np.nan]]))
    for states in ([], [np.ones((2, 3)), np.ones((3, 3))]):
        with pytest.raises(ShapeError, match="layer_cosine_similarity: hidden_states are"):
            layer_cosine_similarity(states)
