"""Soft suppression of tensors: an operator whose results have no gradient."""

import numpy as np
import pytest
import torch

from box_oracles import scene
from logitscope import detection
from logitscope.errors import ArgumentError
from logitscope.nn.functional import soft_nms

quiet = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)


def tensors(count=60):
    return tuple(torch.from_numpy(x) for x in scene(np.random.default_rng(0), count, np.float32))


@pytest.mark.parametrize("method", ["gaussian", "linear", "hard"])
def test_that_values_are_those_of_arrays(method: str) -> None:
    boxes, scores = tensors()
    wanted = detection.soft_nms(boxes.numpy(), scores.numpy(), method)
    keep, kept = soft_nms(boxes.requires_grad_(), scores.requires_grad_(), method)
    np.testing.assert_array_equal(keep.numpy(), wanted[0])
    np.testing.assert_array_equal(kept.numpy(), wanted[1])
    assert not kept.requires_grad


@quiet
def test_that_torch_accepts_the_operator() -> None:
    options = ("linear", 0.3, 0.5, 0.001, None, 0, None, True)
    torch.library.opcheck(torch.ops.logitscope.soft_nms.default, (*tensors(), *options))


@quiet
def test_that_it_compiles_without_a_break() -> None:
    boxes, scores = tensors()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(lambda b, s: soft_nms(b, 2 * s)[1] / 2, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(boxes, scores), soft_nms(boxes, 2 * scores)[1] / 2)


def test_that_bad_input_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^soft_nms: sigma is 0.0; use a positive finite number"):
        soft_nms(*tensors(), sigma=0.0)
