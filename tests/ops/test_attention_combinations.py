"""All options of attention together, drawn at random, against torch's autograd in float64."""

from itertools import product

import numpy as np
import pytest

import logitscope
from attention_draws import BFLOAT16, DTYPES, dense, draw
from logitscope import _native

# Of the results and of the gradients, relative to the largest number.
LIMITS = dict(zip(DTYPES, ((1e-11, 1e-10), (1e-4, 3e-4), (3e-3, 2e-2), (3e-2, 2e-1)), strict=True))
STATS = ("entropy", "logits", "variance")


def assert_close(name, got, wanted, limit):
    got = np.asarray(got).astype(np.float64)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(got[~finite], wanted[~finite], err_msg=name)
    size = max(np.abs(wanted[finite]).max(initial=0.0), 1e-2)
    error = np.abs(got[finite] - wanted[finite]).max(initial=0.0) / size
    assert error <= limit, f"{name} is off by {error:.1e}, limit {limit:.0e}"


def summed(gradient, shape):
    """Over the axes along which what it belongs to was broadcast."""
    gradient = np.asarray(gradient).astype(np.float64)
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(axes, keepdims=True) if shape else gradient


def check_all(seed, dtype):
    """Results, statistics of the rows and gradients."""
    drawn = draw(seed + 100 * DTYPES.index(dtype), dtype)
    wanted, (limit, of_gradients) = dense(drawn), LIMITS[dtype]
    inputs = (drawn.q, drawn.k, drawn.v)
    got = logitscope.attention(*inputs, stats=STATS, **drawn.options)
    for name, result in wanted.results.items():
        assert_close(name, getattr(got, name), result, limit)
    gradients = logitscope.attention_backward(
        drawn.dout, *inputs, got, dlse=drawn.dlse, dentropy=drawn.dentropy, **drawn.options
    )
    for name, value in drawn.learned.items():
        gradient = summed(getattr(gradients, f"d{name}"), np.shape(value))
        assert_close(f"d{name}", gradient, wanted.gradients[name], of_gradients)
    if dtype == np.float64:
        products = drawn.q * gradients.dq / drawn.options.get("scale", drawn.q.shape[3] ** -0.5)
        size = max(1.0, np.abs(products).sum())
        assert abs(products.sum() - wanted.gradients["scale"]) <= 1e-12 * size


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(12))
def test_that_results_statistics_and_gradients_are_those_of_the_formulas(isa, seed, dtype):
    check_all(seed, dtype)
    assert isa in logitscope.last_kernel()


@pytest.mark.skipif(not _native.has_bf16_products(), reason="bfloat16 is not multiplied here")
@pytest.mark.parametrize("seed", range(12))
def test_that_so_are_those_of_bfloat16_multiplied_by_the_cpu(seed):
    check_all(seed, BFLOAT16)


@pytest.mark.parametrize("seed", range(30))
def test_that_maps_and_figures_of_heads_are_those_of_the_weights(seed):
    drawn = draw(1000 + seed, np.dtype(np.float64))
    wanted = dense(drawn)
    weights, visible = wanted.weights, wanted.visible
    inputs = (drawn.q, drawn.k, drawn.v)
    rng = np.random.default_rng(seed)
    bins = tuple(int(rng.integers(1, n + 1)) for n in weights.shape[2:])
    means, tops = (
        logitscope.attention(*inputs, map_bins=bins, map_pooling=pooling, **drawn.options).map
        for pooling in ("mean", "max")
    )
    rows, columns = (
        [slice(i * n // parts, (i + 1) * n // parts) for i in range(parts)]
        for n, parts in zip(weights.shape[2:], bins, strict=True)
    )
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        part = weights[..., row, column]
        np.testing.assert_allclose(means[..., i, j], part.sum(-1).mean(-1), rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(tops[..., i, j], part.max((-1, -2)), rtol=1e-9, atol=1e-13)
    of_map = {k: v for k, v in drawn.options.items() if k not in ("value_gate", "dropout_p", "seed")}
    np.testing.assert_allclose(
        logitscope.attention_map(*inputs[:2], **of_map), weights, rtol=1e-9, atol=1e-13
    )
    got = logitscope.attention(*inputs, stats=STATS, **drawn.options)
    sinks = drawn.options.get("sinks")
    summary = logitscope.attention_summary(got, sinks=sinks)
    total, count = weights.sum(-1), visible.sum(-1)
    shares = weights / np.where(total, total, 1)[..., None]
    entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(-1)
    scores = wanted.results
    for head in range(weights.shape[1]):
        seen, several = count[:, head] > 0, count[:, head] > 1
        assert seen.any() == np.isfinite(summary.entropy_mean[head])
        if not seen.any():
            continue
        figures = {
            "entropy_mean": entropy[:, head][seen].mean(),
            "entropy_min": entropy[:, head][seen].min(),
            "entropy_max": entropy[:, head][seen].max(),
            "max_logit": scores["max_logit"][:, head].max(),
        }
        if several.any():
            normalised = entropy[:, head][several] / np.log(count[:, head][several])
            figures["normalised_entropy"] = normalised.mean()
            if np.abs(normalised - 0.75).min() > 1e-9:
                figures["diffuse"] = (normalised > 0.75).mean()
        if sinks is not None:
            figures["sink_weight"] = (1 - total[:, head][seen]).mean()
        for name, figure in figures.items():
            np.testing.assert_allclose(
                getattr(summary, name)[head], figure, rtol=1e-7, atol=1e-8, err_msg=name
            )


def test_that_each_option_is_drawn_with_both_weightings():
    draws = [draw(seed + 100 * place, dtype) for place, dtype in enumerate(DTYPES) for seed in range(12)]
    names = {
        "scale",
        "inv_temperature",
        "softcap",
        "bias",
        "alibi_slopes",
        "mask",
        "is_causal",
        "causal_align",
    }
    names |= {"window", "q_len", "kv_len", "value_gate", "dropout_p"}
    for kind in ("softmax", "sigmoid"):
        drawn = [of.options for of in draws if of.options["kind"] == kind]
        assert names <= set().union(*drawn)
    assert BFLOAT16 in {of.q.dtype for of in draws}
