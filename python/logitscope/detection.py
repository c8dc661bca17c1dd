"""Boxes of object detectors: overlaps, non-maximum suppression hard and soft, and their evaluation."""

from __future__ import annotations

from logitscope.ops.box_iou import box_iou
from logitscope.ops.coco_eval import CocoEval
from logitscope.ops.soft_nms import batched_soft_nms, nms, soft_nms

__all__ = ["CocoEval", "batched_soft_nms", "box_iou", "nms", "soft_nms"]
