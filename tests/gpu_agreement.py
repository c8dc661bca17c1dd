"""What "the GPU gives what the CPU gives" means."""

from __future__ import annotations

import numpy as np


def assert_agree(found, expected, tolerance=1e-4, label=""):
    """Within a relative tolerance (a hundredth of it of the largest number near 0), and the same NaN and infinities."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, label
    assert found.dtype == expected.dtype, label
    for is_class in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(is_class(found), is_class(expected), label)
    finite = np.isfinite(expected)
    wanted = expected[finite].astype(np.float64)
    near_zero = 0.01 * tolerance * np.abs(wanted).max(initial=0.0)
    np.testing.assert_allclose(
        found[finite].astype(np.float64), wanted, rtol=tolerance, atol=near_zero, err_msg=label
    )
