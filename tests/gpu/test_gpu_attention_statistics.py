"""The statistics of attention on a GPU, against a computation in float64 that shares nothing with the library."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_attention_oracle
import logitscope
from gpu_attention_cases import FIGURES, OPTIONS, in_layout, inputs, parted_device
from logitscope.gpu import GpuArray

INF, NAN = np.inf, np.nan
ALL = ("entropy", "logits", "variance")


def assert_near(name, found, wanted, spread=0.0, tolerance=1e-4):
    """The same zeros and infinities, and elsewhere within a tolerance; of sums of both signs of their terms' size."""
    found, finite = np.asarray(found, np.float64), np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite], name)
    size = max(np.abs(wanted[finite]).max(initial=0.0), spread)
    np.testing.assert_allclose(
        found[finite], wanted[finite], rtol=tolerance, atol=0.01 * tolerance * size, err_msg=name
    )


def assert_statistics(device, arrays, options, bins=(4, 6)):
    """Everything that attention tells of its rows, and both maps."""
    turned = in_layout(arrays, options)
    given = [GpuArray(x, device) for x in turned]
    found = logitscope.attention(*given, stats=ALL, map_bins=bins, **options)
    largest = logitscope.attention(*given, map_bins=bins, map_pooling="max", **options).map
    wanted = gpu_attention_oracle.attention(*arrays, bins, options)
    spread = np.sqrt(wanted["logit_m2"] / np.maximum(wanted["logit_count"], 1)).max(initial=0.0)
    for name in FIGURES:
        got = getattr(found, name).numpy()
        if name == "out":
            (got,) = in_layout([got], options)
        # Its sign marks rows that were computed anew.
        assert_near(name, np.abs(got) if name == "inv_sum" else got, wanted[name], spread)
    assert_near("map", found.map.numpy(), wanted["mean"])
    assert_near("largest", largest.numpy(), wanted["max"])
    return found


@pytest.mark.parametrize("limit", [None, 1024])
@pytest.mark.parametrize("name", OPTIONS)
def test_that_every_option_has_the_statistics_of_float64(name, limit, gpu_device):
    device = gpu_device if limit is None else parted_device(limit)
    assert_statistics(device, inputs(seed=1)[:3], OPTIONS[name])


@pytest.mark.parametrize("options", [{}, {"softcap": 3.0}, {"kind": "sigmoid"}], ids=str)
def test_that_rows_computed_anew_in_many_rounds_have_those_of_float64(options, gpu_device):
    # Products of 1e39. Mesa's software driver ends the loops of a thread after 65,535 rounds: 144 such keys of a row,
    # or 1008 where its gradients look for its top.
    q, k, v, dout = inputs(shape=(1, 1, 1, 2, 1100, 64, 64))
    options = {"scale": 1.2e-38, **options}
    arrays = [q * np.float32(1.5e19), k * np.float32(1.5e19), v]
    found = assert_statistics(gpu_device, arrays, options, (2, 90))
    assert (found.inv_sum.numpy() < 0).all()
    given = [GpuArray(x, gpu_device) for x in arrays]
    gradients = logitscope.attention_backward(GpuArray(dout, gpu_device), *given, found, **options)
    wide = [x.astype(np.float64) for x in arrays]
    wanted = logitscope.attention_backward(
        dout.astype(np.float64), *wide, logitscope.attention(*wide, **options), **options
    )
    for name in ("dq", "dk", "dv"):
        one = getattr(wanted, name)
        np.testing.assert_allclose(
            getattr(gradients, name).numpy(), one, rtol=1e-3, atol=1e-4 * np.abs(one).max(), err_msg=name
        )


@pytest.mark.parametrize("limit", [None, 1024])
@pytest.mark.parametrize("name", ["plain", "all", "sigmoid by rows", "dropout"])
def test_that_repeated_runs_have_the_same_bits(name, limit, gpu_device):
    device = gpu_device if limit is None else parted_device(limit)
    *arrays, dout = (GpuArray(x, device) for x in inputs())
    options = OPTIONS[name]

    def once():
        made = [
            logitscope.attention(
                *arrays, stats=ALL, map_bins=(4, 6), map_pooling=pooling, top_keys=5, **options
            )
            for pooling in ("mean", "max")
        ]
        gradients = logitscope.attention_backward(dout, *arrays, made[0], **options)
        results = [getattr(one, name) for one in made for name in (*FIGURES, "map", "top_weights")]
        results += [
            getattr(gradients, name) for name in ("dq", "dk", "dv", "dinv_temperature", "dsinks", "dbias")
        ]
        bits = [one.numpy().tobytes() for one in results if one is not None]
        return [*bits, *(one.top_keys.tobytes() for one in made)]

    first = once()
    assert all(once() == first for _ in range(2))


def test_that_a_common_offset_costs_the_moments_no_digits(gpu_device):
    q, k, v, _ = inputs()
    bias = np.full((1, 1, 1, 1), 1e4, np.float32)
    device = parted_device(1024)
    plain = logitscope.attention(
        q.astype(float), k.astype(float), v.astype(float), stats=("logits", "variance")
    )
    for there in (gpu_device, device):
        given = [GpuArray(x, there) for x in (q, k, v)]
        found = logitscope.attention(*given, bias=bias, stats=("logits", "variance"))
        # A score is rounded to 1e-3 there.
        np.testing.assert_allclose(found.logit_std, plain.logit_std, rtol=2e-3)
        np.testing.assert_allclose(found.variance.numpy(), plain.variance, rtol=1e-2)
        np.testing.assert_allclose(found.logit_mean.numpy() - 1e4, plain.logit_mean, atol=2e-3)


@pytest.mark.parametrize("layout", ["bhld", "blhd"])
@pytest.mark.parametrize("place", range(3))
def test_that_the_first_row_with_a_nan_is_named(place, layout, gpu_device, monkeypatch):
    arrays = inputs(shape=(2, 2, 1, 6, 6, 8, 8))[:3]
    named = []
    for spoilt in (False, True):
        if spoilt:
            arrays[place][1, 0, 3, 2] = NAN
            arrays[2][0, 0, 5] = [INF, -INF] * 4
        given = [GpuArray(x, gpu_device) for x in in_layout(arrays, {"layout": layout})]
        named.append(logitscope.attention(*given, layout=layout, is_causal=True).first_nan)
    expected = logitscope.attention(*arrays, is_causal=True).first_nan
    assert named == [None, expected]
    assert expected == (1, 0, 3)
    result = logitscope.attention(*given, layout=layout, is_causal=True)
    largest = []
    read = GpuArray.numpy
    monkeypatch.setattr(GpuArray, "numpy", lambda x: largest.append(x.size) or read(x))
    assert result.first_nan == expected
    # Two numbers of each row come back.
    assert largest == [2 * 2 * 6] * 2
