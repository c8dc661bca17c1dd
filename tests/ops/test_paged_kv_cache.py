"""Caches in pages: the same bits as without pages, and pages that come and go."""

import numpy as np
import pytest

import logitscope
from logitscope.errors import ArgumentError, DTypeError, ShapeError


def sequence(batch, heads, key_heads, length, dtype=np.float32):
    rng = np.random.default_rng(length)
    shapes = [(batch, heads, length, 8), (batch, key_heads, length, 8), (batch, key_heads, length, 5)]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("page_size", [16, 24, 100, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_that_decoding_has_the_bits_of_a_cache_without_pages(isa, page_size, dtype):
    q, k, v = sequence(3, 4, 2, 1100, dtype)
    lengths = [1100, 513, 17]
    plain = logitscope.KVCache(3, 2, 1104, 8, value_dim=5, dtype=dtype)
    paged = logitscope.PagedKVCache(
        3, 2, 130, 8, value_dim=5, page_size=page_size, capacity=1104, dtype=dtype
    )
    # In turns, so that the pages of the sequences lie scattered.
    for start in range(0, 1100, 50):
        counts = [min(max(length - start, 0), 50) for length in lengths]
        for cache in (plain, paged):
            cache.append(k[:, :, start : start + 50], v[:, :, start : start + 50], counts=counts)
    assert paged.lengths.tolist() == lengths
    assert paged.free_pages == 130 - sum(-(-length // page_size) for length in lengths)
    figures = np.float64 if dtype is np.float64 else np.float32
    options = {"stats": ("entropy",), "alibi_slopes": np.linspace(0, 0.1, 4).astype(figures)}
    for window in (-1, 300):
        wanted = logitscope.attention_decode(q[:, :, :3], plain, window=window, **options)
        got = logitscope.attention_decode(q[:, :, :3], paged, window=window, **options)
        for name in ("out", "lse", "max_logit", "inv_sum", "entropy"):
            np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name), err_msg=name)
    assert isa in logitscope.last_kernel()


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_that_how_keys_and_values_are_read_changes_no_bit(isa, dim, dtype):
    # A single query of its own keys reads them beside values, chunks of 1024 places whose pages are neighbours.
    rng = np.random.default_rng(dim)
    q, k, v = (rng.standard_normal((2, 3, 2077, dim)).astype(dtype) for _ in range(3))
    caches = {
        "plain": logitscope.KVCache(2, 3, 2077, dim, dtype=dtype),
        "neighbours": logitscope.PagedKVCache(2, 3, 66, dim, dtype=dtype),
        "scattered": logitscope.PagedKVCache(2, 3, 66, dim, dtype=dtype),
        "some of both": logitscope.PagedKVCache(2, 3, 66, dim, dtype=dtype),
    }
    parts = {"plain": 2077, "neighbours": 2077, "scattered": 64, "some of both": 700}
    options = {"stats": ("entropy", "logits", "variance"), "softcap": 4.0, "alibi_slopes": np.full(3, 0.01)}
    options["alibi_slopes"] = options["alibi_slopes"].astype(np.float32)
    results = {}
    for name, cache in caches.items():
        for start in range(0, 2077, parts[name]):
            stop = min(start + parts[name], 2077)
            cache.append(k[:, :, start:stop], v[:, :, start:stop])
        results[name] = [
            logitscope.attention_decode(q[:, :, -1:], cache, window=w, **options) for w in (-1, 1500)
        ]
    for name, found in results.items():
        for got, wanted in zip(found, results["plain"], strict=True):
            for field in (
                "out",
                "lse",
                "max_logit",
                "inv_sum",
                "entropy",
                "logit_mean",
                "logit_m2",
                "variance",
            ):
                np.testing.assert_array_equal(
                    getattr(got, field), getattr(wanted, field), err_msg=f"{name}: {field}"
                )
    wide = [x.astype(np.float64) for x in (q[:, :, -1:], k, v)]
    options["alibi_slopes"] = np.full(3, np.float32(0.01), np.float64)
    truth = logitscope.attention(*wide, is_causal=True, map_bins=(1, 1), **options)
    limit = 2e-3 if dtype is np.float16 else 2e-6
    np.testing.assert_allclose(results["plain"][0].out, truth.out, atol=limit)
    np.testing.assert_allclose(results["plain"][0].entropy, truth.entropy, rtol=1e-4)
    assert isa in logitscope.last_kernel()


def test_that_released_pages_serve_other_sequences():
    q, k, v = sequence(2, 2, 2, 40)
    cache = logitscope.PagedKVCache(2, 2, 3, 8, value_dim=5, page_size=16)
    cache.append(k, v, counts=[40, 0])
    assert cache.free_pages == 0
    before = logitscope.attention_decode(q[:, :, :1], cache)
    with pytest.raises(ArgumentError, match=r"1 more pages are needed and 0 of 3 are free"):
        cache.append(k[:, :, :1], v[:, :, :1], counts=[0, 1])
    # Nothing was added by it.
    np.testing.assert_array_equal(logitscope.attention_decode(q[:, :, :1], cache).out, before.out)
    cache.append(k[:, :, :8], v[:, :, :8], counts=[8, 0])
    cache.release(0)
    assert (cache.lengths.tolist(), cache.free_pages) == ([0, 0], 3)
    cache.append(k, v, counts=[0, 40])
    got = logitscope.attention_decode(q[:, :, -1:], cache)
    wanted = logitscope.attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(got.out[1], wanted.out[1, :, -1:], atol=1e-6)
    assert (got.out[0] == 0).all()
    cache.clear()
    assert (cache.lengths.tolist(), cache.free_pages) == ([0, 0], 3)


def test_that_pages_belong_to_one_sequence_each():
    _, k, v = sequence(4, 1, 1, 200)
    cache = logitscope.PagedKVCache(4, 1, 40, 8, value_dim=5, page_size=20, capacity=200)
    rng = np.random.default_rng(0)
    for _ in range(200):
        if rng.random() < 0.2:
            cache.release(int(rng.integers(4)))
        room = 200 - cache.lengths
        counts = np.minimum(rng.integers(0, 30, 4), room)
        cache.append(k[:, :, :30], v[:, :, :30], counts=counts)
        taken = [
            page
            for pages, length in zip(cache.pages.tolist(), cache.lengths.tolist(), strict=True)
            for page in pages[: -(-length // 20)]
        ]
        assert len(set(taken)) == len(taken) == 40 - cache.free_pages


def test_that_what_does_not_fit_is_refused_by_name():
    def make(**options):
        return logitscope.PagedKVCache(**{"batch": 1, "key_heads": 1, "stock": 2, "head_dim": 8, **options})

    for error, message, options in (
        (ArgumentError, "PagedKVCache: stock is 0; use 1 or more", {"stock": 0}),
        (ArgumentError, "PagedKVCache: page_size is 8; use an integer of 16..256", {"page_size": 8}),
        (ArgumentError, "PagedKVCache: page_size is 257", {"page_size": 257}),
        (DTypeError, "PagedKVCache: dtype is int32", {"dtype": np.int32}),
    ):
        with pytest.raises(error, match=message):
            make(**options)
    cache = make(page_size=16, capacity=20)
    rows = np.zeros((1, 1, 21, 8), np.float32)
    with pytest.raises(ArgumentError, match="21 tokens are more than the capacity of 20"):
        cache.append(rows, rows)
    with pytest.raises(ShapeError, match=r"k has shape \(1, 1, 21, 7\)"):
        cache.append(rows[..., :7], rows)
    with pytest.raises(ArgumentError, match=r"PagedKVCache.release: sequence is 1; use 0..0"):
        cache.release(1)
