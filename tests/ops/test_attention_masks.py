"""Windows, lengths, masks and sinks of attention against the same thing done densely; what is hidden cannot leak."""

from itertools import product

import numpy as np
import pytest

import logitscope
import oracles
from logitscope.errors import ArgumentError, DTypeError, ShapeError

LIMITS = {np.float64: 1e-12, np.float32: 2e-5}
NAMES = ("dq", "dk", "dv", "dinv_temperature", "dsinks")


def problem(shape, dtype, seed=0):
    """Batch, query heads, key heads, queries, keys: what goes in, and what comes back."""
    b, h, g, lq, lk = shape
    rng = np.random.default_rng(seed)
    sizes = [(b, h, lq, 8), (b, g, lk, 8), (b, g, lk, 5)]
    inputs = [rng.standard_normal(size).astype(dtype) for size in sizes]
    upstream = [rng.standard_normal(size).astype(dtype) for size in [(b, h, lq, 5), (b, h, lq), (b, h, lq)]]
    return inputs, upstream, rng


def assert_close(name, got, wanted, limit):
    finite = np.isfinite(wanted)
    size = max(np.abs(wanted[finite]).max(initial=0.0), 1e-3)
    np.testing.assert_array_equal(got[~finite], wanted[~finite], err_msg=name)
    error = np.abs(got[finite] - wanted[finite]).max(initial=0.0) / size
    assert error <= limit, f"{name} is off by {error:.1e}, limit {limit:.0e}"


def assert_dense(shape, dtype, visible, options):
    """Compare all results and gradients with those of a dense computation that sees ``visible``."""
    inputs, (dout, dlse, dentropy), rng = problem(shape, dtype)
    temperature = rng.uniform(-1.5, 1.5, dlse.shape).astype(dtype)
    options = {"inv_temperature": temperature} | options
    wanted = oracles.attention(
        *inputs,
        visible=visible,
        inv_temperature=temperature,
        sinks=options.get("sinks"),
        q_len=options.get("q_len"),
    )
    got = logitscope.attention(*inputs, stats=("entropy",), **options)
    gradients = logitscope.attention_backward(dout, *inputs, got, dlse=dlse, dentropy=dentropy, **options)
    for name in ("out", "lse", "max_logit", "entropy"):
        assert_close(name, getattr(got, name), getattr(wanted, name), LIMITS[dtype])
    for name, value in zip(NAMES, wanted.gradients(dout, dlse, dentropy), strict=True):
        if name != "dsinks" or "sinks" in options:
            assert_close(name, getattr(gradients, name), value, LIMITS[dtype])
    return got, gradients


@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
@pytest.mark.parametrize("window", [(-1, -1), (0, 0), (40, 0), (3, 5), (-1, 2), (17, -1)], ids=str)
@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_every_combination_is_the_same_as_a_dense_mask(isa, align, window, with_lengths, with_mask):
    for (shape, q_len, kv_len), dtype, with_sinks in product(
        [
            ((2, 4, 2, 67, 151), [67, 31], [151, 17]),
            ((2, 2, 1, 151, 67), [101, 0], [13, 67]),
            ((3, 1, 1, 1, 37), [1, 1, 1], [37, 5, 0]),
        ],
        LIMITS,
        [False, True],
    ):
        b, h, _, lq, lk = shape
        options = {"causal_align": align, "window": window}
        if with_lengths:
            options |= {"q_len": q_len, "kv_len": kv_len}
        visible = oracles.band(
            lq, lk, align=align, window=window, **({"q_len": q_len, "kv_len": kv_len} if with_lengths else {})
        )
        if with_mask:
            options["mask"] = np.random.default_rng(1).random((b, 1, lq, lk)) < 0.7
            visible = visible & options["mask"]
        if with_sinks:
            options["sinks"] = np.linspace(-1, 2, h).astype(dtype)
        assert_dense(shape, dtype, visible, options)
    assert isa in logitscope.last_kernel()


@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
def test_causal_is_a_window_without_keys_to_the_right(align):
    inputs, (dout, *_), _ = problem((1, 2, 1, 67, 83), np.float32)
    results = []
    for options in ({"is_causal": True}, {"window": (-1, 0)}, {"is_causal": True, "window": (-1, 7)}):
        options["causal_align"] = align
        got = logitscope.attention(*inputs, **options)
        gradients = logitscope.attention_backward(dout, *inputs, got, **options)
        results.append((got.out, got.lse, gradients.dq, gradients.dk, gradients.dv))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("axes", list(product([0, 1], repeat=4)), ids=str)
def test_a_mask_is_broadcast_along_any_axis(axes):
    shape = (2, 4, 2, 67, 151)
    full = (2, 4, 67, 151)
    mask = (
        np.random.default_rng(2).random([n if kept else 1 for n, kept in zip(full, axes, strict=True)]) < 0.6
    )
    assert_dense(shape, np.float64, mask, {"mask": mask})


def test_a_mask_may_lie_in_memory_in_any_order():
    shape = (2, 2, 1, 67, 151)
    cells = np.random.default_rng(2).random((151, 2, 67, 2)) < 0.6
    for mask in (
        cells.transpose(3, 1, 2, 0),
        cells.transpose(3, 1, 2, 0)[:, ::-1, ::-1, ::-1],
        cells[:, 0, :, 0].T,
    ):
        got, _ = assert_dense(shape, np.float32, mask, {"mask": mask})
        copied = logitscope.attention(*problem(shape, np.float32)[0], mask=mask.copy())
        again = logitscope.attention(*problem(shape, np.float32)[0], mask=mask)
        np.testing.assert_array_equal(copied.out, again.out)
        assert not np.array_equal(got.out, again.out), "the temperature"


def test_a_length_is_the_same_as_a_shorter_call_bit_for_bit():
    shape = (3, 4, 2, 83, 211)
    q_len, kv_len = [83, 64, 5], [129, 211, 40]
    inputs, (dout, dlse, dentropy), _ = problem(shape, np.float32)
    options = {"is_causal": True, "window": (70, 0), "sinks": np.array([0.5, -1, 2, 0], np.float32)}
    stats = {"stats": ("entropy",)}
    got = logitscope.attention(*inputs, q_len=q_len, kv_len=kv_len, **options, **stats)
    gradients = logitscope.attention_backward(
        dout, *inputs, got, q_len=q_len, kv_len=kv_len, dlse=dlse, dentropy=dentropy, **options
    )
    sums = np.zeros(4, np.float64)
    for b, (queries, keys) in enumerate(zip(q_len, kv_len, strict=True)):
        one = slice(b, b + 1)
        q, k, v = inputs[0][one, :, :queries], inputs[1][one, :, :keys], inputs[2][one, :, :keys]
        alone = logitscope.attention(q, k, v, **options, **stats)
        for name in ("out", "lse", "max_logit", "inv_sum", "entropy"):
            np.testing.assert_array_equal(getattr(got, name)[one, :, :queries], getattr(alone, name))
            assert np.isin(getattr(got, name)[b, :, queries:], [0, -np.inf]).all()
        upstream = {"dlse": dlse[one, :, :queries], "dentropy": dentropy[one, :, :queries]}
        shorter = logitscope.attention_backward(dout[one, :, :queries], q, k, v, alone, **options, **upstream)
        for name, length in (("dq", queries), ("dk", keys), ("dv", keys)):
            np.testing.assert_array_equal(getattr(gradients, name)[one, :, :length], getattr(shorter, name))
            assert (getattr(gradients, name)[b, :, length:] == 0).all()
        sums += shorter.dsinks
    np.testing.assert_allclose(gradients.dsinks, sums, rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "options",
    [
        {"q_len": [70, 83], "kv_len": [150, 131]},
        {"q_len": [70, 83], "kv_len": [150, 131], "window": (20, 3)},
        {"kv_len": 97, "is_causal": True},
        {"window": (5, 0), "causal_align": "top_left"},
        {"mask": np.arange(150) % 5 != 2},
    ],
    ids="-".join,
)
def test_what_no_query_sees_and_rows_that_see_nothing_change_nothing(isa, poison, options):
    inputs, (dout, dlse, dentropy), _ = problem((2, 2, 1, 83, 150), np.float32)
    options = options | {"sinks": np.array([0.5, -0.5], np.float32)}
    known = {name: value for name, value in options.items() if name in ("q_len", "kv_len", "window")}
    if options.get("is_causal"):
        known["window"] = (-1, 0)
    visible = oracles.band(83, 150, align=options.get("causal_align", "bottom_right"), **known)
    visible = np.broadcast_to(visible & options.get("mask", True), (2, 1, 83, 150))[:, 0]
    (q, k, v), poisoned_dout = (x.copy() for x in inputs), dout.copy()
    for array in (q, poisoned_dout):
        array.swapaxes(1, 2)[~visible.any(2)] = poison
    for array in (k, v):
        array.swapaxes(1, 2)[~visible.any(1)] = poison
    results = []
    for upstream, arrays in ((dout, inputs), (poisoned_dout, (q, k, v))):
        got = logitscope.attention(*arrays, stats=("entropy",), **options)
        gradients = logitscope.attention_backward(
            upstream, *arrays, got, dlse=dlse, dentropy=dentropy, **options
        )
        results.append((got.out, got.lse, got.entropy, *(getattr(gradients, name) for name in NAMES[:3])))
    assert not np.isfinite(np.concatenate([k.ravel(), q.ravel()])).all(), "something is hidden"
    for clean, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, clean)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_mask_keeps_a_row_from_what_others_see(isa, poison):
    inputs, (dout, *_), _ = problem((1, 1, 1, 80, 150), np.float32)
    mask = np.ones((80, 150), bool)
    mask[:40, 77] = False
    clean = logitscope.attention(*inputs, mask=mask)
    clean_gradients = logitscope.attention_backward(dout, *inputs, clean, mask=mask)
    q, k, v = (x.copy() for x in inputs)
    k[0, 0, 77], v[0, 0, 77] = poison, poison
    got = logitscope.attention(q, k, v, mask=mask)
    np.testing.assert_array_equal(got.lse[0, 0, :40], clean.lse[0, 0, :40])
    np.testing.assert_array_equal(got.out[0, 0, :40], clean.out[0, 0, :40])
    assert not np.isfinite(got.out[0, 0, 40:]).all()
    gradients = logitscope.attention_backward(dout, q, k, v, got, mask=mask)
    np.testing.assert_array_equal(gradients.dq[0, 0, :40], clean_gradients.dq[0, 0, :40])


def test_rows_without_visible_keys_have_the_sink_alone():
    inputs, (dout, dlse, dentropy), _ = problem((2, 2, 2, 40, 8), np.float32)
    sinks = np.array([0.5, -3.0], np.float32)
    options = {"is_causal": True, "q_len": [40, 33], "sinks": sinks}
    got = logitscope.attention(*inputs, stats=("entropy",), **options)
    blind, padded = np.s_[0, :, :32], np.s_[1, :, 33:]
    for rows, lse in ((blind, sinks[:, None]), (padded, -np.inf)):
        assert (got.out[rows] == 0).all()
        assert (got.entropy[rows] == 0).all()
        assert (got.lse[rows] == lse).all()
        assert (got.max_logit[rows] == -np.inf).all()
    gradients = logitscope.attention_backward(dout, *inputs, got, dlse=dlse, dentropy=dentropy, **options)
    assert (gradients.dq[blind] == 0).all()
    assert (gradients.dq[padded] == 0).all()
    loud = logitscope.attention(*inputs, empty="nan", **options)
    assert np.isnan(loud.out[blind]).all()
    assert np.isnan(loud.lse[padded]).all()
    assert np.isfinite(loud.out[0, :, 32:]).all()


def test_a_sink_of_zero_is_one_more_key_of_zeros_and_one_of_minus_infinity_none():
    (q, k, v), (dout, *_), _ = problem((2, 2, 1, 37, 83), np.float64)
    sunk = logitscope.attention(q, k, v, sinks=np.zeros(2), stats=("entropy",))
    longer = [np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 0)]) for x in (k, v)]
    more = logitscope.attention(q, *longer, stats=("entropy",))
    for name in ("out", "lse", "entropy"):
        np.testing.assert_allclose(getattr(sunk, name), getattr(more, name), rtol=1e-13, atol=1e-13)
    none = {"sinks": np.full(2, -np.inf)}
    vanished, plain = logitscope.attention(q, k, v, **none), logitscope.attention(q, k, v)
    np.testing.assert_array_equal(vanished.out, plain.out)
    np.testing.assert_array_equal(vanished.lse, plain.lse)
    gradients = logitscope.attention_backward(dout, q, k, v, vanished, **none)
    assert (gradients.dsinks == 0).all()


def test_a_sink_far_above_or_below_the_scores_keeps_everything_exact():
    for offset in (80.0, -80.0, 1e4, -1e4):
        options = {"sinks": np.array([offset, offset + 1])}
        assert_dense((1, 2, 1, 19, 40), np.float64, None, options)


def test_the_rows_of_the_map_sum_to_what_the_sink_leaves():
    (q, k, v), _, _ = problem((1, 2, 1, 64, 64), np.float64)
    options = {"sinks": np.array([1.0, 3.0]), "window": (20, 0), "map_bins": (64, 64)}
    got = logitscope.attention(q, k, v, **options)
    wanted = oracles.attention(q, k, v, visible=oracles.band(64, 64, window=(20, 0)), sinks=options["sinks"])
    np.testing.assert_allclose(got.map, wanted.weights, atol=1e-14)
    np.testing.assert_allclose(got.map.sum(-1), 1 - np.exp(options["sinks"][:, None] - got.lse), rtol=1e-12)


def test_results_have_the_same_bits_at_any_number_of_threads():
    (q, k, v), (dout, dlse, dentropy), rng = problem((2, 6, 3, 210, 310), np.float32)
    options = {
        "window": (150, 30),
        "kv_len": [310, 200],
        "q_len": [190, 210],
        "mask": rng.random((210, 310)) < 0.8,
        "sinks": rng.standard_normal(6).astype(np.float32),
    }
    results = []
    try:
        for threads in (1, 2, 3, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(q, k, v, stats=("entropy",), **options)
            gradients = logitscope.attention_backward(
                dout, q, k, v, got, dlse=dlse, dentropy=dentropy, **options
            )
            parts = (
                got.out,
                got.lse,
                got.entropy,
                gradients.dq,
                gradients.dk,
                gradients.dv,
                gradients.dsinks,
            )
            results.append([part.tobytes() for part in parts])
    finally:
        logitscope.set_num_threads(None)
    assert all(other == results[0] for other in results[1:])


GOOD = np.zeros((1, 2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"mask": np.ones((3, 4), bool)},
            ShapeError,
            "mask has shape (3, 4); use one that broadcasts to (batch, heads, queries, keys) = (1, 2, 3, 3)",
        ),
        (
            {"mask": np.ones((3, 3))},
            DTypeError,
            "mask has dtype float64; use bool, True where a query may see a key",
        ),
        ({"mask": "all"}, DTypeError, "mask has dtype <U3; use bool"),
        (
            {"window": (3, -2)},
            ArgumentError,
            "window is (3, -2); use (left, right), integers of 0 or more, -1 for no bound",
        ),
        ({"window": (3,)}, ArgumentError, "window is (3,); use (left, right)"),
        ({"window": 3}, ArgumentError, "window is 3; use (left, right)"),
        ({"window": (0.5, 1)}, ArgumentError, "window is (0.5, 1); use (left, right)"),
        ({"kv_len": 4}, ArgumentError, "kv_len is 4; use lengths of 0..3"),
        ({"q_len": [-1]}, ArgumentError, "q_len is -1; use lengths of 0..3"),
        (
            {"q_len": [1, 2]},
            ShapeError,
            "q_len has shape (2,); use one integer, or (1,), one for each batch element",
        ),
        ({"kv_len": 2.0}, DTypeError, "kv_len has dtype float64; use integers"),
        (
            {"sinks": np.zeros(3, np.float32)},
            ShapeError,
            "sinks has shape (3,); use (2,), one number for each head of q",
        ),
        ({"sinks": np.zeros(2)}, DTypeError, "sinks has dtype float64, q has float32; use one dtype"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name(change, error, message):
    with pytest.raises(error) as caught:
        logitscope.attention(GOOD, GOOD, GOOD, **change)
    assert f"attention: {message}" in str(caught.value)
    result = logitscope.attention(GOOD, GOOD, GOOD)
    with pytest.raises(error) as caught:
        logitscope.attention_backward(GOOD, GOOD, GOOD, GOOD, result, **change)
    assert f"attention_backward: {message}" in str(caught.value)


def test_tensors_are_taken_for_masks_and_lengths():
    torch = pytest.importorskip("torch")
    (q, k, v), _, rng = problem((2, 2, 1, 17, 19), np.float32)
    options = {"mask": rng.random((17, 19)) < 0.5, "kv_len": np.array([19, 3]), "sinks": q[0, :, 0, 0]}
    wanted = logitscope.attention(q, k, v, **options)
    got = logitscope.attention(
        *map(torch.tensor, (q, k, v)), **{name: torch.tensor(value) for name, value in options.items()}
    )
    np.testing.assert_array_equal(got.out.numpy(), wanted.out)
    with pytest.raises(DTypeError, match=r"mask has dtype torch.bfloat16; use bool"):
        logitscope.attention(q, k, v, mask=torch.ones(17, 19, dtype=torch.bfloat16))
