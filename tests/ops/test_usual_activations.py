"""The activations that others are compared with are torch's."""

import numpy as np
import pytest

from logitscope.activation import gelu, relu2, swiglu
from logitscope.errors import DTypeError, ShapeError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 8)])
def test_that_values_are_those_of_torch(dtype, shape) -> None:
    torch = pytest.importorskip("torch")
    x = np.asarray(np.random.default_rng(0).normal(0, 3, shape), dtype)
    t, limit = torch.from_numpy(np.asarray(x, np.float64)), 1e-6 if dtype == np.float32 else 1e-12
    for ours, theirs in ((relu2, lambda t: t.relu() ** 2), (gelu, torch.nn.functional.gelu)):
        got = ours(x)
        assert (got.dtype, got.shape) == (dtype, shape)
        np.testing.assert_allclose(got, theirs(t).numpy(), rtol=limit, atol=limit)
        assert isinstance(ours(torch.from_numpy(np.asarray(x))), torch.Tensor)
    if shape:
        a, b = t.chunk(2, dim=-1) if t.numel() else (t, t)
        np.testing.assert_allclose(
            swiglu(x), (torch.nn.functional.silu(a) * b).numpy(), rtol=limit, atol=limit
        )


def test_that_large_numbers_stay_what_they_are() -> None:
    x = np.array([-1e4, 1e4, np.nan], np.float32)
    np.testing.assert_array_equal(gelu(x), [0, 1e4, np.nan])
    np.testing.assert_array_equal(swiglu(np.array([[-1e4, 1e4, 2.0, 2.0]])), [[0, 2e4]])


def test_that_bad_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"swiglu: x has shape \(2, 3\); use rows of an even length"):
        swiglu(np.zeros((2, 3)))
    with pytest.raises(DTypeError, match="gelu: x has dtype int64"):
        gelu(np.arange(3))
