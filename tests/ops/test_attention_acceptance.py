"""The ten acceptance checks of the attention core in their order; other files go into each more deeply."""

import numpy as np
import pytest
import torch

import logitscope
import oracles
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.nn.functional import attention

# query heads, key heads, queries, keys, head_dim, value dim
SHAPES = [(1, 1, 31, 53, 8, 5), (2, 1, 37, 37, 40, 40), (4, 1, 67, 41, 64, 80), (8, 1, 13, 131, 80, 64)]
SHAPES += [(4, 2, 127, 127, 128, 16)]
NAMES = ("q", "k", "v", "inv_temperature", "bias", "alibi_slopes", "of_heads")


def inputs(shape, kind, dtype):
    heads, key_heads, queries, keys, dim, value_dim = shape
    rng = np.random.default_rng(queries)
    sizes = [
        *((2, heads, queries, dim), (2, key_heads, keys, dim), (2, key_heads, keys, value_dim)),
        *((2, heads, queries), (heads, queries, keys), (heads,), (heads,)),
    ]
    return [torch.from_numpy(rng.standard_normal(size)).to(dtype).requires_grad_() for size in sizes], rng


def dense(q, k, v, temperature, bias, slopes, of_heads, kind):
    """In torch with autograd: output, lse and entropy of causal attention with a softcap of 2."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    (queries, keys), size = (q.shape[2], k.shape[2]), q.shape[3]
    scores = 2 * ((q @ k.mT / size**0.5) * temperature[..., None] / 2).tanh() + bias
    distance = (torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)).to(q.dtype)
    scores = scores - slopes[:, None, None] * distance.abs()
    scores = scores.masked_fill(distance < 0, -torch.inf)
    if kind == "sigmoid":
        # Rows that see nothing: their logarithms are not looked at.
        weights = (scores + of_heads[:, None, None]).sigmoid()
        total = weights.sum(-1)
        total = total.masked_fill(total == 0, 1)
        shares = weights / total[..., None]
        lse = total.log()
    else:
        every = torch.cat([scores, of_heads[:, None, None].expand(*scores.shape[:3], 1)], -1)
        lse = every.logsumexp(-1)
        shares = every.softmax(-1)
        weights = shares[..., :-1]
    # 0 ln 0 without the infinite slope that it has there.
    return weights @ v, lse, -(shares * shares.clamp(min=1e-300).log()).sum(-1)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_check_1_values_and_all_gradients_are_those_of_autograd_in_float64(shape, kind, dtype, limit):
    given, rng = inputs(shape, kind, dtype)
    q, k, v, temperature, bias, slopes, of_heads = given
    options = {"sinks": of_heads} if kind == "softmax" else {"kind": kind, "sigmoid_bias": of_heads}
    result = attention(
        q, k, v, inv_temperature=temperature, bias=bias, alibi_slopes=slopes, softcap=2.0, is_causal=True,
        stats=("entropy",), **options,
    )  # fmt: skip
    exact = [x.detach().double().requires_grad_() for x in given]
    wanted = dense(*exact, kind)
    seen = torch.arange(shape[2]) + shape[3] - shape[2] >= 0
    ours, theirs = 0.0, 0.0
    for part, other in zip((result.out, result.lse, result.entropy), wanted, strict=True):
        rows = seen if part.dim() == 3 else seen[:, None]
        shown = torch.where(rows, part, 0).double()
        expected = torch.where(rows, other, 0)
        assert (shown - expected).abs().max() <= limit * max(1, expected.abs().max())
        upstream = torch.from_numpy(rng.standard_normal(part.shape)) * rows
        ours = ours + (torch.where(rows, part, 0) * upstream.to(dtype)).sum()
        theirs = theirs + (expected * upstream.to(dtype).double()).sum()
    # A row that sees nothing has the sink's lse here and none there: it is left out of both.
    found, gradients = torch.autograd.grad(ours, given), torch.autograd.grad(theirs, exact)
    for name, gradient, expected in zip(NAMES, found, gradients, strict=True):
        error = (gradient.double() - expected).abs().max() / expected.abs().max()
        assert error <= limit, f"{name}: {error}"


def test_check_2_empty_rows_are_zero_and_padding_does_not_leak():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 2, 2, 9, 8)).astype(np.float32)
    k[1, :, 4:], v[1, :, 4:] = np.nan, np.nan
    options = {"kv_len": [0, 4]}
    got = logitscope.attention(q, k, v, stats=("entropy",), **options)
    ones = np.ones((2, 2, 9), np.float32)
    gradients = logitscope.attention_backward(
        np.ones_like(q), q, k, v, got, dlse=ones, dentropy=ones, **options
    )
    assert (got.out[0] == 0).all()
    assert (got.entropy[0] == 0).all()
    assert np.isneginf(got.lse[0]).all()
    for gradient in (gradients.dq, gradients.dk, gradients.dv):
        assert (gradient[0] == 0).all()
        assert np.isfinite(gradient).all()
    assert np.isfinite(got.out).all()


def test_check_3_sinks_and_sigmoid_biases_at_their_limits():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, 2, 20, 8))
    longer = [np.concatenate([x, np.zeros_like(x[:, :, :1])], axis=2) for x in (k, v)]
    plain = logitscope.attention(q, k, v)
    of_zero = logitscope.attention(q, k, v, sinks=np.zeros(2))
    np.testing.assert_allclose(of_zero.out, logitscope.attention(q, *longer).out, rtol=1e-12, atol=1e-15)
    assert (logitscope.attention(q, k, v, sinks=np.full(2, -np.inf)).out == plain.out).all()
    assert (logitscope.attention(q, k, v, kind="sigmoid", sigmoid_bias=-np.inf).out == 0).all()


@pytest.mark.parametrize("align", ["bottom_right", "top_left"])
def test_check_4_masks_are_dense_masks_and_packed_sequences_calls_of_their_own(align):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 2, n, 8)) for n in (70, 150, 150))
    lengths = {"q_len": [70, 31], "kv_len": [150, 90]}
    visible = oracles.band(70, 150, align=align, window=(40, 0), **lengths)
    banded = logitscope.attention(q, k, v, is_causal=True, causal_align=align, window=(40, 7), **lengths)
    dense_mask = logitscope.attention(q, k, v, mask=visible)
    np.testing.assert_allclose(banded.out, dense_mask.out, rtol=1e-12, atol=1e-15)
    packed = [np.ascontiguousarray(x[0].swapaxes(0, 1)) for x in (q, k, v)]
    got = logitscope.attention_varlen(*packed, [0, 30, 70], [0, 90, 150], is_causal=True, causal_align=align)
    for rows, keys in ((slice(0, 30), slice(0, 90)), (slice(30, 70), slice(90, 150))):
        own = [packed[0][None, rows], packed[1][None, keys], packed[2][None, keys]]
        alone = logitscope.attention(*own, is_causal=True, causal_align=align, layout="blhd")
        assert (got.out[rows] == alone.out[0]).all()


@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_check_5_entropy_is_exact_at_large_offsets(offset):
    rng = np.random.default_rng(0)
    # Multiples of 1/64, which float32 holds at the offset.
    scores = rng.integers(-300, 300, 500) / 64 + offset
    q, k = np.ones((1, 1, 1, 1), np.float32), scores.astype(np.float32).reshape(1, 1, -1, 1)
    p = np.exp(scores - scores.max())
    p /= p.sum()
    got = logitscope.attention(q, k, k, scale=1.0, stats=("entropy",)).entropy
    np.testing.assert_allclose(got.ravel(), -(p * np.log(p)).sum(), rtol=1e-6)
    uniform = np.full_like(k, offset)
    got = logitscope.attention(q, uniform, k, scale=1.0, stats=("entropy",)).entropy
    np.testing.assert_allclose(got.ravel(), np.log(500), rtol=1e-6)
    uniform[0, 0, 7] = offset + 200
    assert (logitscope.attention(q, uniform, k, scale=1.0, stats=("entropy",)).entropy == 0).all()


def test_check_6_an_offset_that_spoils_torchs_gradient_spoils_none_here():
    q, k, v = torch.randn(3, 1, 1, 64, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    offset = torch.full((1, 1, 64, 64), 1e5)
    sums = []
    for function, name in ((attention, "bias"), (_fused, "attn_mask")):
        value = v.clone().requires_grad_()
        out = function(q, k, value, **{name: offset})
        (out if isinstance(out, torch.Tensor) else out.out).sum().backward()
        sums.append(value.grad.sum(2) / 64)
    assert (sums[0] - 1).abs().max() < 1e-5
    assert (sums[1] - 1).abs().max() > 1e-4, "torch has mended it: say so in the notes of attention"


def _fused(q, k, v, attn_mask):
    """Torch's kernel, not its plain path."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)


def test_check_7_bits_do_not_depend_on_threads_and_decoding_is_the_last_row():
    rng = np.random.default_rng(0)
    q, k, v, dout = rng.standard_normal((4, 1, 4, 257, 16)).astype(np.float32)
    results = []
    try:
        for threads in (1, 2, 3, 8, 8):
            logitscope.set_num_threads(threads)
            got = logitscope.attention(q, k, v, is_causal=True, stats=("entropy", "logits", "variance"))
            gradients = logitscope.attention_backward(dout, q, k, v, got, is_causal=True)
            parts = (
                got.out,
                got.entropy,
                got.logit_m2,
                got.variance,
                *(gradients.dq, gradients.dk, gradients.dv),
            )
            results.append([part.tobytes() for part in parts])
    finally:
        logitscope.set_num_threads(None)
    assert all(other == results[0] for other in results)
    for keys in (255, 256, 257):
        cache = logitscope.KVCache(1, 4, keys, 16)
        cache.append(k[:, :, :keys], v[:, :, :keys])
        last = logitscope.attention_decode(q[:, :, keys - 1 : keys], cache)
        np.testing.assert_allclose(last.out[:, :, 0], got.out[:, :, keys - 1], atol=2e-6)


def test_check_8_the_map_is_the_pooled_dense_map_and_its_rows_leave_the_sinks_share():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, 2, 60, 8))
    sinks = np.array([0.5, 2.0])
    got = logitscope.attention(q, k, v, is_causal=True, sinks=sinks, map_bins=(6, 12))
    wanted = oracles.attention(q, k, v, visible=oracles.causal(60, 60), sinks=sinks)
    pooled = wanted.weights.reshape(1, 2, 6, 10, 12, 5).sum(-1).mean(3)
    np.testing.assert_allclose(got.map, pooled, atol=1e-14)
    left = 1 - np.exp(sinks[:, None] - got.lse).reshape(1, 2, 6, 10).mean(-1)
    np.testing.assert_allclose(got.map.sum(-1), left, rtol=1e-12)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_check_9_gradcheck_and_transforms():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 4, 3, dtype=torch.float64, generator=generator).unbind(0)
    sinks = torch.zeros(2, dtype=torch.float64)

    def function(q, k, v, sinks):
        result = attention(q, k, v, is_causal=True, sinks=sinks, stats=("entropy",))
        return result.out, result.lse, result.entropy

    leaves = [x.clone().requires_grad_() for x in (q, k, v, sinks)]
    assert torch.autograd.gradcheck(function, leaves)

    def energy(q):
        return sum(part.square().sum() for part in function(q, k, v, sinks))

    gradient = torch.func.grad(energy)(q)
    torch.testing.assert_close(torch.func.jvp(energy, (q,), (q,))[1], (gradient * q).sum())
    hessian = torch.func.hessian(energy)(q).reshape(q.numel(), q.numel())
    torch.testing.assert_close(hessian, hessian.T)
    step = 1e-5 * torch.randn(q.shape, dtype=torch.float64, generator=generator)
    change = torch.func.grad(energy)(q + step) - torch.func.grad(energy)(q - step)
    torch.testing.assert_close(change.flatten(), 2 * hessian @ step.flatten(), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"k": (1, 3, 5, 8), "v": (1, 3, 5, 8)}, ShapeError, "k has shape"),
        ({"k": (1, 2, 5, 7)}, ShapeError, "k has shape"),
        ({"v": (1, 2, 6, 8)}, ShapeError, "v has shape"),
        ({"mask": np.ones((3, 5), bool)}, ShapeError, "mask has shape"),
        ({"q": np.ones((1, 4, 5, 8), np.int64)}, DTypeError, "q has dtype int64"),
        ({"softcap": -1.0}, ArgumentError, "softcap is -1.0"),
        ({"sinks": np.zeros(3, np.float32)}, ShapeError, "sinks has shape"),
        ({"window": (-2, 0)}, ArgumentError, "window is"),
        ({"map_pooling": "sum"}, ArgumentError, "map_pooling is 'sum'"),
    ],
)
def test_check_10_bad_input_is_refused_by_name(change, error, named):
    given = {"q": (1, 4, 5, 8), "k": (1, 2, 5, 8), "v": (1, 2, 5, 8)} | change
    given = {
        name: np.zeros(x, np.float32) if name in "qkv" and isinstance(x, tuple) else x
        for name, x in given.items()
    }
    with pytest.raises(error, match=named):
        logitscope.attention(**given)
