"""Moments of the scores, their variance under the weights, figures of heads and the map of largest weights."""

import numpy as np
import pytest
import torch

import logitscope
import oracles
from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.functional import attention

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
ALL = ("entropy", "logits", "variance")
FIGURES = ("logit_count", "logit_mean", "logit_m2", "variance")
OPTIONS = [
    {},
    {"is_causal": True},
    {"window": (20, 3), "kv_len": [300, 7], "q_len": [67, 40]},
    {"mask": np.arange(300) % 3 > 0, "sinks": np.linspace(-1, 4, 4)},
    {"softcap": 1.5, "alibi_slopes": np.full(4, 0.02), "sinks": np.linspace(-1, 30, 4), "is_causal": True},
    {"kind": "sigmoid", "is_causal": True, "softcap": 1.5},
    {"kind": "sigmoid", "sigmoid_bias": 3.0, "alibi_slopes": np.full(4, 0.5), "window": (9, 200)},
]


def problem(dtype, lq=67, lk=300, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((2, 4, lq, 8), (2, 2, lk, 8), (2, 2, lk, 5))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def dense(q, k, options):
    """The scores, -inf where hidden, and the weights before and the shares after any sum, a sink's last."""
    q, k = np.asarray(q, np.float64), np.repeat(np.asarray(k, np.float64), 2, axis=1)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if cap := options.get("softcap"):
        scores = cap * np.tanh(scores / cap)
    lq, lk = scores.shape[-2:]
    if (slopes := options.get("alibi_slopes")) is not None:
        scores = scores - slopes[:, None, None] * abs(np.arange(lq)[:, None] + lk - lq - np.arange(lk))
    lengths = {name: options[name] for name in ("q_len", "kv_len") if name in options}
    left, right = options.get("window", (-1, -1))
    window = (left, 0 if options.get("is_causal") else right)
    visible = oracles.band(lq, lk, window=window, **lengths) & options.get("mask", True)
    scores = np.where(visible, scores, -np.inf)
    if options.get("kind") == "sigmoid":
        bias = options.get("sigmoid_bias", -np.log(lk))
        weights = 1 / (1 + np.exp(-scores - bias))
        total = weights.sum(-1, keepdims=True)
        return scores, weights, weights / np.where(total, total, 1)
    sinks = options.get("sinks", np.full(4, -np.inf))
    every = np.concatenate([scores, np.broadcast_to(sinks[:, None, None], (*scores.shape[:3], 1))], axis=-1)
    seen = np.isfinite(every).any(-1, keepdims=True)
    shares = np.exp(every - np.where(seen, every.max(-1, keepdims=True), 0))
    shares /= np.where(seen, shares.sum(-1, keepdims=True), 1)
    return every, shares[..., :-1], shares


def wanted_figures(q, k, options):
    scores, weights, shares = dense(q, k, options)
    keys = scores[..., : weights.shape[-1]]
    seen = np.isfinite(keys)
    count = seen.sum(-1)
    mean = np.where(seen, keys, 0).sum(-1) / np.maximum(count, 1)
    m2 = (np.where(seen, keys - mean[..., None], 0) ** 2).sum(-1)
    finite = np.where(shares > 0, scores, 0)
    centre = (shares * finite).sum(-1, keepdims=True)
    return count, mean, m2, (shares * (finite - centre) ** 2).sum(-1)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize(("dtype", "limit"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_that_they_are_those_of_all_scores(isa, options, dtype, limit):
    q, k, v = problem(dtype)
    given = {
        name: x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x
        for name, x in options.items()
    }
    got = logitscope.attention(q, k, v, stats=ALL, **given)
    for name, wanted in zip(FIGURES, wanted_figures(q, k, options), strict=True):
        figure = getattr(got, name)
        assert figure.dtype == dtype
        assert abs(figure - wanted).max() <= limit * max(abs(wanted).max(), 1), name
    plain = logitscope.attention(q, k, v, stats=("entropy",), **given)
    np.testing.assert_array_equal(got.out, plain.out)
    np.testing.assert_array_equal(got.entropy, plain.entropy)
    assert plain.logit_count is plain.variance is plain.logit_std is None
    assert isa in logitscope.last_kernel()


def test_that_a_common_offset_costs_no_digit():
    rng = np.random.default_rng(0)
    # Multiples of 1/64 around 10,000, which float32 holds exactly.
    scores = 10_000 + rng.integers(-200, 200, 3000) / 64
    q = np.ones((1, 1, 1, 1), np.float32)
    k = scores.astype(np.float32).reshape(1, 1, -1, 1)
    got = logitscope.attention(q, k, k, scale=1.0, stats=ALL)
    assert got.logit_mean[0, 0, 0] == np.float32(scores.mean())
    np.testing.assert_allclose(got.logit_std[0, 0, 0], scores.std(), rtol=1e-6)
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    variance = (shares * (scores - shares @ scores) ** 2).sum()
    np.testing.assert_allclose(got.variance[0, 0, 0], variance, rtol=2e-6)
    sigmoid = logitscope.attention(q, k, k, scale=1.0, stats=ALL, kind="sigmoid", sigmoid_bias=-10_000.0)
    weights = 1 / (1 + np.exp(10_000 - scores))
    weights /= weights.sum()
    np.testing.assert_allclose(
        sigmoid.variance[0, 0, 0], (weights * (scores - weights @ scores) ** 2).sum(), rtol=2e-6
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_that_the_sums_of_a_long_row_keep_their_digits(isa, kind):
    keys = 20_000
    q, k = np.zeros((1, 1, 40, 8), np.float32), np.zeros((1, 1, keys, 8), np.float32)
    result = logitscope.attention(q, k, k, kind=kind, stats=("entropy", "variance"))
    total = keys if kind == "softmax" else keys / (keys + 1)
    np.testing.assert_allclose(result.inv_sum, 1 / total, rtol=5e-6)
    np.testing.assert_allclose(result.entropy, np.log(keys), rtol=5e-6)


def test_that_the_variance_is_the_slope_of_the_entropy():
    q, k, v = problem(np.float64, 20, 40)
    temperature = np.random.default_rng(1).uniform(0.3, 2, (2, 4, 20))
    result = logitscope.attention(q, k, v, inv_temperature=temperature, stats=ALL)
    gradients = logitscope.attention_backward(
        0 * result.out, q, k, v, result, inv_temperature=temperature, dentropy=np.ones((2, 4, 20))
    )
    np.testing.assert_allclose(gradients.dinv_temperature, -result.variance / temperature, rtol=1e-10)


def test_that_neither_threads_nor_repetition_change_a_bit():
    q, k, v = problem(np.float32, 300, 400)
    options = {"stats": ALL, "map_bins": (7, 9), "map_pooling": "max", "is_causal": True}
    wanted = logitscope.attention(q, k, v, **options)
    try:
        for threads in (1, 2, 3, 8, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(q, k, v, **options)
            for name in (*FIGURES, "map"):
                assert (getattr(got, name) == getattr(wanted, name)).all(), name
    finally:
        logitscope.set_num_threads(None)


def test_that_packed_sequences_have_the_bits_of_calls_of_their_own():
    q, k, v = (np.ascontiguousarray(x[0].swapaxes(0, 1)) for x in problem(np.float32, 300, 300))
    starts = [0, 70, 70, 300]
    got = logitscope.attention_varlen(q, k, v, starts, starts, stats=ALL, is_causal=True)
    tensors = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
    theirs = logitscope.attention_varlen(*tensors, starts, starts, stats=ALL, is_causal=True)
    for first, end in ((0, 70), (70, 300)):
        own = logitscope.attention(
            *(x[None, first:end] for x in (q, k, v)), stats=ALL, is_causal=True, layout="blhd"
        )
        for name in FIGURES:
            np.testing.assert_array_equal(getattr(got, name)[:, first:end], getattr(own, name)[0])
            assert not getattr(theirs, name).requires_grad
            np.testing.assert_array_equal(getattr(theirs, name), getattr(got, name))
    assert theirs.entropy.requires_grad


@pytest.mark.parametrize("keys", [1, 255, 256, 257, 1300])
def test_that_decoding_gives_those_of_the_last_row(keys):
    q, k, v = problem(np.float32, 1, keys)
    sinks = np.linspace(-1, 4, 4).astype(np.float32)
    cache = logitscope.KVCache(2, 2, keys, 8, value_dim=5)
    cache.append(k, v)
    got = logitscope.attention_decode(q, cache, stats=ALL, sinks=sinks)
    wanted = logitscope.attention(q, k, v, stats=ALL, sinks=sinks)
    for name in FIGURES:
        np.testing.assert_allclose(getattr(got, name), getattr(wanted, name), rtol=1e-5, atol=2e-6)


def test_that_merged_states_have_those_of_all_keys():
    q, k, v = problem(np.float64)
    parts = [slice(0, 0), slice(0, 100), slice(100, 107), slice(107, 300)]
    states = [logitscope.attention(q, k[:, :, part], v[:, :, part], stats=ALL) for part in parts]
    merged, whole = logitscope.merge_states(states), logitscope.attention(q, k, v, stats=ALL)
    for name in FIGURES[:3]:
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-12, atol=1e-14)
    states[1] = logitscope.attention(q, k[:, :, parts[1]], v[:, :, parts[1]])
    assert logitscope.merge_states(states).logit_count is None


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_that_the_largest_weights_of_the_bins_are_those_of_all_weights(isa, options):
    q, k, v = problem(np.float64)
    got = logitscope.attention(q, k, v, map_bins=(5, 7), map_pooling="max", **options).map
    weights = dense(q, k, options)[1]
    for row, column in np.ndindex(5, 7):
        rows = slice(row * 67 // 5, (row + 1) * 67 // 5)
        columns = slice(column * 300 // 7, (column + 1) * 300 // 7)
        np.testing.assert_allclose(
            got[..., row, column], weights[..., rows, columns].max((-1, -2)), rtol=1e-9, atol=1e-300
        )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_that_a_nan_spoils_the_rows_that_see_it_and_minus_infinity_counts_for_none(kind):
    q, k, v = problem(np.float32, 300, 300)
    options = {"is_causal": True, "stats": ALL, "map_bins": (300, 3), "map_pooling": "max", "kind": kind}
    clean = logitscope.attention(q, k, v, **options)
    k[:, :, 150] = np.nan
    got = logitscope.attention(q, k, v, **options)
    for name in ("logit_mean", "logit_m2", "variance", "map"):
        before, after = getattr(clean, name)[:, :, :150], getattr(got, name)[:, :, :150]
        np.testing.assert_array_equal(after, before)
        assert np.isnan(getattr(got, name)[:, :, 150:]).any(-1).all(), name
    k[:, :, 150] = 1e30
    low = logitscope.attention(-np.abs(q) * 1e30, k, v, stats=("logits",), kind=kind)
    assert (low.logit_count == 299).all()


def test_that_rows_without_keys_and_rows_computed_in_float64_have_theirs():
    q, k, v = problem(np.float32, 40, 30)
    got = logitscope.attention(q, k, v, is_causal=True, stats=ALL)
    blank = logitscope.attention(q, k, v, is_causal=True, stats=ALL, empty="nan")
    for name in FIGURES:
        assert (getattr(got, name)[:, :, :10] == 0).all()
        if name != "logit_count":
            assert np.isnan(getattr(blank, name)[:, :, :10]).all()
    q[:, :, 20, :2], k[..., :2] = 1e30, 1e15 * (k[..., :1] + 3) * np.array([1, -1], np.float32)
    wide = logitscope.attention(q, k, v, stats=ALL, map_bins=(40, 30), map_pooling="max")
    assert (wide.inv_sum[:, :, 20] < 0).all()
    for name, wanted in zip(FIGURES, wanted_figures(q, k, {}), strict=True):
        np.testing.assert_allclose(getattr(wide, name)[:, :, 20], wanted[:, :, 20], rtol=1e-5)
    np.testing.assert_allclose(wide.map[:, :, 20], dense(q, k, {})[1][:, :, 20], rtol=1e-5, atol=1e-30)


@quiet
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_that_both_paths_of_torch_agree(options):
    q, k, v = (torch.from_numpy(x) for x in problem(np.float64, 20, 300))
    given = {
        name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x
        for name, x in options.items()
        if name not in ("q_len", "kv_len")
    }
    given |= {"stats": ALL, "map_bins": (5, 7), "map_pooling": "max"}
    q.requires_grad_()
    ours = attention(q, k, v, **given)
    with torch.autograd.forward_ad.dual_level():
        plain = attention(torch.autograd.forward_ad.make_dual(q.detach(), q.detach()), k, v, **given)
        for name in (*FIGURES, "map", "entropy"):
            part = torch.autograd.forward_ad.unpack_dual(getattr(plain, name)).primal
            torch.testing.assert_close(getattr(ours, name).detach(), part)
            assert getattr(ours, name).requires_grad == (name == "entropy")
    arrays = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in given.items()}
    by_arrays = logitscope.attention(*(x.detach().numpy() for x in (q, k, v)), **arrays)
    for name in (*FIGURES, "map"):
        np.testing.assert_array_equal(getattr(ours, name).detach(), getattr(by_arrays, name))
    torch.testing.assert_close(ours.logit_std, torch.from_numpy(by_arrays.logit_std))


@quiet
def test_that_they_compile_without_a_break():
    q, k, v = (torch.from_numpy(x).requires_grad_() for x in problem(np.float32, 5, 7))

    def figures(q, k, v):
        result = attention(q, k, v, stats=("variance", "logits"), map_bins=(2, 3), map_pooling="max")
        return result.out, result.variance, result.logit_mean, result.map

    compiled = torch.compile(figures, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(compiled(q, k, v), figures(q, k, v), strict=True):
        torch.testing.assert_close(got, wanted)
    numbers = (0.5, (-1, 0), "top_left", 0.0, False, 0.0, "logits variance", (2, 3), "max", 2)
    torch.library.opcheck(torch.ops.logitscope.attention.default, (q, k, v, *(None,) * 10, *numbers))


@pytest.mark.parametrize(
    "options", [*OPTIONS[:4], *OPTIONS[5:]], ids=lambda options: "-".join(options) or "plain"
)
def test_that_the_figures_of_heads_are_those_of_all_their_rows(options):
    q, k, v = problem(np.float64)
    result = logitscope.attention(q, k, v, stats=ALL, **options)
    got = logitscope.attention_summary(result, sinks=options.get("sinks"))
    scores, weights, _ = dense(q, k, options)
    keys = scores[..., : weights.shape[-1]]
    for head in range(4):
        seen = keys[:, head][np.isfinite(keys[:, head])]
        counts = np.isfinite(keys[:, head]).sum(-1)
        rows, several = counts > 0, counts > 1
        total = weights[:, head].sum(-1)
        shares = weights[:, head] / np.where(total, total, 1)[..., None]
        entropy = -(shares * np.log(shares, where=shares > 0, out=np.zeros_like(shares))).sum(-1)
        normalised = entropy[several] / np.log(counts[several])
        for name, wanted in {
            "entropy_mean": entropy[rows].mean(),
            "entropy_min": entropy[rows].min(),
            "entropy_max": entropy[rows].max(),
            "normalised_entropy": normalised.mean(),
            "diffuse": (normalised > 0.75).mean(),
            "max_logit": seen.max(),
            "logit_mean": seen.mean(),
            "logit_std": seen.std(),
            "sink_weight": None if got.sink_weight is None else (1 - total[rows]).mean(),
        }.items():
            if wanted is not None:
                np.testing.assert_allclose(
                    getattr(got, name)[head], wanted, rtol=1e-9, atol=1e-9, err_msg=name
                )


def test_that_heads_without_rows_and_packed_sequences_are_summarised():
    q, k, v = problem(np.float32)
    none = logitscope.attention_summary(
        logitscope.attention(q, k, v, kv_len=0, stats=ALL), sinks=np.zeros(4, np.float32)
    )
    assert np.isnan(none.entropy_min).all()
    assert np.isnan(none.logit_std).all()
    assert np.isnan(none.sink_weight).all()
    headless = [x[:, :0] for x in (q, k, v)]
    assert logitscope.attention_summary(logitscope.attention(*headless, stats=ALL)).logit_std.shape == (0,)
    first = [x[:1] for x in (q, k, v)]
    packed = [np.ascontiguousarray(x[0].swapaxes(0, 1)) for x in first]
    got = logitscope.attention_summary(
        logitscope.attention_varlen(*packed, [0, 67], [0, 300], stats=("logits", "entropy"))
    )
    wanted = logitscope.attention_summary(logitscope.attention(*first, stats=("logits", "entropy")))
    np.testing.assert_array_equal(got.logit_std, wanted.logit_std)
    assert got.sink_weight is None


def test_that_bad_input_is_refused_by_name():
    q, k, v = problem(np.float32, 5, 7)
    with pytest.raises(
        ArgumentError, match=r"attention: stats is \('mean',\); use a collection of 'entropy'"
    ):
        logitscope.attention(q, k, v, stats=("mean",))
    with pytest.raises(ArgumentError, match="attention: map_pooling is 'median'; use 'mean' or 'max'"):
        logitscope.attention(q, k, v, map_bins=(1, 1), map_pooling="median")
    with pytest.raises(ArgumentError, match="map_pooling is 'median'"):
        attention(*(torch.from_numpy(x) for x in (q, k, v)), map_bins=(1, 1), map_pooling="median")
    with pytest.raises(ArgumentError, match="stats is 'logits'"):
        logitscope.attention_decode(q, logitscope.KVCache(2, 2, 7, 8), stats="logits")
    result = logitscope.attention(q, k, v, stats=("entropy",))
    with pytest.raises(ArgumentError, match=r"attention_summary: result holds no entropy or no logits; call"):
        logitscope.attention_summary(result)
    result = logitscope.attention(q, k, v, stats=ALL)
    with pytest.raises(ShapeError, match=r"sinks has shape \(3,\); use \(4,\), one number for each head"):
        logitscope.attention_summary(result, sinks=np.zeros(3))
