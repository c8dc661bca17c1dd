"""Soft non-maximum suppression as an operator; scores have no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from logitscope.ops.soft_nms import soft_nms as suppress

if TYPE_CHECKING:
    from logitscope.ops.soft_nms import Method


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str = "gaussian",
    *,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    max_output: int | None = None,
    offset: int = 0,
    hard_cut: float | None = None,
    prefilter: bool = True,
) -> tuple[Tensor, Tensor]:
    """Soft non-maximum suppression of boxes on the CPU: indices of the chosen and their scores by then.

    Parameters
    ----------
    boxes, scores
        (N, 4) and (N,), float32, float64, float16 or bfloat16, read where they lie.
    method, iou_threshold, sigma, score_threshold, max_output, offset, hard_cut, prefilter
        As in :func:`logitscope.detection.soft_nms`.

    Examples
    --------
    >>> import torch
    >>> from logitscope.nn.functional import soft_nms
    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    >>> soft_nms(boxes, torch.tensor([0.9, 0.8, 0.5]))
    (tensor([0, 2, 1]), tensor([0.9000, 0.5000, 0.1083]))
    """
    options = (method, iou_threshold, sigma, score_threshold, max_output, offset, hard_cut, prefilter)
    keep, kept = _soft_nms(boxes.detach(), scores.detach(), *options)
    return keep, kept


@torch.library.custom_op("logitscope::soft_nms", mutates_args=())
def _soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
    offset: int,
    hard_cut: float | None,
    prefilter: bool,
) -> tuple[Tensor, Tensor]:
    return suppress(
        boxes,
        scores,
        cast("Method", method),
        iou_threshold=iou_threshold,
        sigma=sigma,
        score_threshold=score_threshold,
        max_output=max_output,
        offset=offset,
        hard_cut=hard_cut,
        prefilter=prefilter,
    )


@_soft_nms.register_fake
def _(boxes: Tensor, scores: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty(count, dtype=torch.int64), scores.new_empty(count)
