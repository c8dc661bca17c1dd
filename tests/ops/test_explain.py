"""What logitscope.explain tells of a call."""

import numpy as np
import pytest
import torch

import logitscope
from logitscope import _native
from logitscope.errors import ArgumentError, ShapeError
from logitscope.nn.functional import attention, scaled_dot_product_attention
from logitscope.ops import _bfloat16


def arrays(length=300, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((3, 1, 2, length, 16)).astype(dtype)


def test_that_a_plain_call_ran_in_the_kernel_and_nothing_was_refused(isa):
    q, k, v = arrays()
    told = logitscope.explain(q, k, v)
    (step,) = told.steps
    assert (told.path, step.path, step.operation, step.dtype) == ("native", "native", "attention", "float32")
    assert step.kernel == logitscope.last_kernel()
    assert isa in step.kernel
    assert step.threads == logitscope.get_num_threads()
    assert step.shapes == ((1, 2, 300, 16), (1, 2, 300, 16))
    assert told.refused == ()
    assert step.tiles.all == step.tiles.computed > 0
    assert (told.result.out == logitscope.attention(q, k, v).out).all()
    assert str(told).startswith("attention: the kernel attention-f32-")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_that_skipped_tiles_are_counted(dtype):
    q, k, v = arrays(512, dtype)
    causal = logitscope.explain(q, k, v, is_causal=True).steps[0].tiles
    assert causal.computed < causal.all
    assert 0 < causal.masked < causal.computed
    nothing = logitscope.explain(q, k, v, mask=np.zeros((512, 512), bool)).steps[0].tiles
    assert nothing.computed == nothing.masked == 0
    shorter = logitscope.explain(q, k, v, kv_len=128).steps[0].tiles
    assert (shorter.computed * 4, shorter.masked) == (shorter.all, 0)


def test_that_copies_float64_rows_and_dropout_are_named():
    q, k, v = arrays()
    wide = np.zeros((1, 2, 300, 32), np.float32)[..., ::2]
    told = logitscope.explain(q, wide, v[:, :, ::-1])
    assert told.refused == (
        "k is copied (0.0 MB): its last axis is not contiguous",
        "v is copied (0.0 MB): an axis runs backwards or across numbers",
    )
    q[0, 1, 5] = 1e30
    told = logitscope.explain(q, k * 1e15, v)
    assert told.steps[0].wide_rows == 1
    assert "the scores of 1 rows leave the range of float32" in told.refused[0]
    told = logitscope.explain(q, k, v, dropout_p=0.5, seed=1)
    assert "dropout" in told.refused[-1]
    assert f"not faster: {told.refused[-1]}" in str(told)


def test_that_it_says_which_products_of_bfloat16_are_not_used(isa, tmp_path, monkeypatch):
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr(_bfloat16, "_CPU", cpu)
    q, k, v = (torch.from_numpy(x).bfloat16() for x in arrays(20))
    # An instruction set that is named goes without them.
    (reason,) = logitscope.explain(q, k, v).refused
    assert reason.startswith(
        "bfloat16 is widened to float32: the instruction set in use has no products of it"
    )
    cpu.write_text("flags\t: fpu avx512_bf16 amx_tile amx_bf16\n")
    refused = logitscope.explain(q, k, v).refused
    assert refused[-1] == "the AMX tiles of this CPU are not used: an instruction set was chosen by name"
    cpu.write_text("flags\t: fpu avx512_bf16\n")
    assert len(logitscope.explain(q, k, v).refused) == 1
    assert logitscope.explain(q.half(), k.half(), v.half()).refused == ()


@pytest.mark.parametrize(
    ("has_tiles", "switch", "products", "reason"),
    [
        (False, "0", "pairs", "LOGITSCOPE_AMX is 0"),
        (False, "", "pairs", "the system does not let this process use them (arch_prctl)"),
        (True, "", "tiles", None),
    ],
)
def test_that_it_says_how_bfloat16_was_multiplied(has_tiles, switch, products, reason, tmp_path, monkeypatch):
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("flags\t: fpu avx512_bf16 amx_tile amx_bf16\n")
    monkeypatch.setattr(_bfloat16, "_CPU", cpu)
    monkeypatch.setattr(_native, "has_bf16_products", lambda: True)
    monkeypatch.setattr(_native, "has_bf16_tiles", lambda: has_tiles)
    monkeypatch.setenv("LOGITSCOPE_AMX", switch)
    q, k, v = (torch.from_numpy(x).bfloat16() for x in arrays(20))
    (step,) = logitscope.explain(q, k, v).steps
    assert step.products == products
    assert f"bfloat16 is multiplied in {products}" in str(step)
    assert step.refused == ((f"the AMX tiles of this CPU are not used: {reason}",) if reason else ())
    assert logitscope.info()["bfloat16"] == "; ".join([f"multiplied in {products}", *step.refused])


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_that_the_composite_path_says_why():
    q, k, v = (torch.from_numpy(x).requires_grad_() for x in arrays(20))

    def energy(q):
        return scaled_dot_product_attention(q, k, v).square().sum()

    told = logitscope.explain(q.detach(), function=torch.func.grad(energy))
    assert told.path == "composite"
    assert told.steps[0].kernel is told.steps[0].tiles is None
    assert told.refused[0] == "a transform of torch.func is active"
    assert "plain torch" in str(told)

    def twice(q):
        (gradient,) = torch.autograd.grad(energy(q), q, create_graph=True)
        return gradient.sum()

    told = logitscope.explain(q, function=twice)
    assert [(step.operation, step.path) for step in told.steps] == [
        ("attention", "native"),
        ("attention_backward", "composite"),
    ]
    assert told.refused == ("its gradients are to be differentiated (create_graph=True)",)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q.detach(), torch.ones_like(q))
        assert logitscope.explain(dual, k, v, function=attention).refused == (
            "a tensor carries a forward-mode derivative",
        )


def test_that_tensors_elsewhere_name_their_device(monkeypatch):
    from logitscope.nn.functional import _path

    class Elsewhere:
        device = torch.device("cuda:1")

    assert _path.why_composite(Elsewhere()).startswith("a tensor is on device 'cuda:1'")
    assert _path.needs_composite(Elsewhere())


def test_that_a_training_step_tells_every_pass():
    q, k, v = (torch.from_numpy(x).requires_grad_() for x in arrays(20))

    def step():
        attention(q, k, v, is_causal=True).out.sum().backward()

    told = logitscope.explain(function=step)
    assert [step.operation for step in told.steps] == ["attention", "attention_backward"]
    assert told.path == "native"


def test_that_nothing_is_noted_outside_and_errors_pass_through():
    q, k, v = arrays(20)
    told = logitscope.explain(function=lambda: None)
    assert told.steps == ()
    assert str(told) == "no attention of logitscope has run"
    with pytest.raises(ShapeError, match="attention: k has shape"):
        logitscope.explain(q, k[..., :3], v)
    with pytest.raises(ArgumentError, match="explain: function is 3"):
        logitscope.explain(q, k, v, function=3)
    assert len(logitscope.explain(q, k, v).steps) == 1
