"""The acceptance checks of two-pass softmax (Dukhan and Ablavatski, arXiv 2001.04438), for `algorithm="two_pass"`.

Its pairs have tests of their own in `test_ext_exp.py`, what all algorithms share is in `test_softmax.py`.
"""

from functools import reduce

import numpy as np
import pytest

import logitscope
from logitscope import _native, ext_add, ext_sum, logsumexp, softmax
from logitscope.experiments import two_pass_softmax as experiment
from row_oracles import softmax as oracle

SIZES = [1, 2, 15, 16, 17, 31, 47, 48, 49, 95, 96, 97, 143, 144, 145, 191, 1000, 4096 + 7]
"""Around the vectors and the unrolled steps of every instruction set."""


def two_pass(x, **options):
    return softmax(x, algorithm="two_pass", **options)


def rows(size: int, low: float = -30.0, high: float = 30.0) -> np.ndarray:
    return np.random.default_rng(size).uniform(low, high, (3, size)).astype(np.float32)


def assert_close(got, x, *, relative: float = 4e-7) -> None:
    wanted = oracle(np.asarray(x, np.float64))
    counts = wanted > 1e-30
    np.testing.assert_allclose(got[counts], wanted[counts], rtol=relative)
    assert np.all(np.abs(got[~counts]) <= 2e-30)


@pytest.mark.parametrize("size", SIZES)
def test_that_probabilities_are_exact_to_four_units(isa, size) -> None:
    x = rows(size)
    got = two_pass(x)
    assert_close(got, x)
    np.testing.assert_allclose(got.sum(axis=-1, dtype=np.float64), 1.0, atol=1e-6)
    if size == 1:
        assert (got == 1.0).all()


def test_that_every_tail_of_the_unrolled_steps_is_as_exact(isa) -> None:
    x = np.random.default_rng(3).uniform(-30, 30, 600).astype(np.float32)
    for size in range(1, 300):
        assert_close(two_pass(x[size : 2 * size]), x[size : 2 * size])


def test_that_an_empty_axis_is_refused_and_ten_million_numbers_sum_to_one(isa) -> None:
    with pytest.raises(ValueError, match="axis"):
        two_pass(np.zeros((2, 0), np.float32))
    x = np.random.default_rng(0).standard_normal(10_000_000).astype(np.float32)
    assert abs(two_pass(x).sum(dtype=np.float64) - 1.0) <= 1e-6


@pytest.mark.parametrize("shift", [1.0, -4096.0, 65536.0, -98304.0])
def test_that_a_shift_changes_nothing(isa, shift) -> None:
    x = np.round(rows(1000) * 64) / 64  # exact after the shift
    shifted = x + np.float32(shift)
    assert np.array_equal(shifted - np.float32(shift), x)
    np.testing.assert_allclose(two_pass(shifted), two_pass(x), rtol=4e-7, atol=1e-30)


@pytest.mark.parametrize("size", [88.8, 1e3, 1e6, 1e8])
def test_that_nothing_overflows(isa, size) -> None:
    special = pytest.importorskip("scipy.special")
    signs = np.random.default_rng(1).choice([-1.0, 1.0], 777)
    for values in (np.full(777, size), np.full(777, -size), signs * size, signs * size + np.arange(777) % 3):
        x = values.astype(np.float32)
        np.testing.assert_allclose(two_pass(x), special.softmax(x.astype(np.float64)), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("size", [20, 150, 300])
def test_that_special_values_do_what_they_must_in_every_lane(isa, size) -> None:
    x = rows(size)[0]
    every = np.tile(x, (size, 1))
    every[np.arange(size), np.arange(size)] = -np.inf
    got = two_pass(every)
    assert (np.diagonal(got) == 0.0).all()
    assert_close(got, every)
    for bad in (np.nan, np.inf):
        every[np.arange(size), np.arange(size)] = bad
        assert np.isnan(two_pass(every)).all()
    nothing = np.full(size, -np.inf, np.float32)
    assert np.isnan(two_pass(nothing)).all()
    assert (two_pass(nothing, empty="zero") == 0.0).all()


def test_that_pairs_add_up_in_any_order() -> None:
    x = rows(4096, -80, 80)[0]
    pairs = list(zip(*logitscope.ext_exp(x), strict=True))
    serial = pairs[0]
    for pair in pairs[1:]:
        serial = ext_add(serial, pair)
    assert ext_add(pairs[0], pairs[1]) == ext_add(pairs[1], pairs[0])
    while len(pairs) > 1:
        pairs = [ext_add(*pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
    tree = pairs[0]
    kernel = ext_sum(x)
    value = [float(m) * 2.0 ** (float(n) - float(tree[1])) for m, n in (tree, serial, kernel)]
    unit = np.spacing(np.float32(value[0]))
    exact = float(np.exp(x.astype(np.float64) - float(tree[1]) * np.log(2)).sum())
    assert abs(value[0] - exact) <= 4 * unit
    assert abs(value[2] - value[0]) <= 2 * unit
    # A serial sum of 4096 terms rounds each time; what two units bound is trees, such as the kernel's, and few parts.
    assert abs(value[1] - value[0]) <= 64 * unit
    parts = [ext_sum(x[i : i + 512]) for i in range(0, 4096, 512)]
    merged = reduce(ext_add, parts)
    while len(parts) > 1:
        parts = [ext_add(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
    assert merged[1] == parts[0][1]
    assert abs(merged[0] - parts[0][0]) <= 2 * np.spacing(parts[0][0])


def test_that_any_number_of_threads_gives_the_same_bits() -> None:
    x = np.random.default_rng(2).standard_normal((2, 300_000)).astype(np.float32)
    before = logitscope.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 4):
            logitscope.set_num_threads(threads)
            results.append(two_pass(x))
    finally:
        logitscope.set_num_threads(before)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_that_instruction_sets_agree_within_two_units() -> None:
    x, in_use, results = rows(4096 + 7), _native.isa(), []
    try:
        for isa in _native.available_isas():
            _native.select_isa(isa)
            results.append(two_pass(x))
    finally:
        _native.select_isa(in_use)
    for other in results[1:]:
        np.testing.assert_array_less(np.abs(other - results[0]), 2 * np.spacing(results[0]) + 1e-45)


def test_that_the_logarithm_of_the_sum_is_scipys() -> None:
    special = pytest.importorskip("scipy.special")
    x = rows(30_000, -100, 100)
    np.testing.assert_allclose(logsumexp(x), special.logsumexp(x.astype(np.float64), axis=-1), rtol=2e-7)


def test_that_log_softmax_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    x = rows(30_000, -100, 100)
    wanted = torch.log_softmax(torch.from_numpy(x).double(), -1)
    np.testing.assert_allclose(logitscope.log_softmax(x), wanted, rtol=2e-7, atol=1e-5)


def test_that_gradients_are_finite_differences() -> None:
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((2, 3, 200))
    for forward, gradient in (
        (two_pass, logitscope.softmax_backward(two_pass(x), dy)),
        (logitscope.log_softmax, logitscope.log_softmax_backward(logitscope.log_softmax(x), dy)),
    ):
        for step in rng.standard_normal((5, 3, 200)):
            slope = (forward(x + 1e-6 * step) - forward(x - 1e-6 * step)) / 2e-6
            assert (slope * dy).sum() == pytest.approx((gradient * step).sum(), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("algorithm", experiment.PASSES)
def test_that_the_passes_that_are_timed_write_what_they_say(isa, algorithm) -> None:
    """Of numbers whose maximum is 0 and whose sum is 2**20 the passes one by one are the whole."""
    x = np.full(1 << 20, 0.0, np.float32)
    y = np.zeros_like(x)
    for kernel in experiment.PASSES[algorithm].values():
        _native.softmax_pass(kernel, x, y)
    np.testing.assert_array_equal(y, softmax(x, algorithm=algorithm))
    with pytest.raises(ValueError, match="softmax_pass: name is 'third'; use 'maximum', "):
        _native.softmax_pass("third", x, y)


def overlapping():
    x = np.zeros(100, np.float32)
    return two_pass(x[:-1], out=x[1:])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: two_pass(np.arange(4)), TypeError),
        (lambda: two_pass(rows(4), axis=2), np.exceptions.AxisError),
        (lambda: two_pass(rows(4), temperature=0.0), ValueError),
        (overlapping, ValueError),
        (lambda: softmax(rows(4), algorithm="one_pass"), ValueError),
    ],
)
def test_that_bad_input_is_refused(call, error) -> None:
    with pytest.raises(error, match="softmax: "):
        call()
