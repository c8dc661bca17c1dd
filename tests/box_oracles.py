"""Boxes and their suppression as plain loops, and random scenes."""

from __future__ import annotations

import numpy as np


def iou(one, others, offset=0):
    """Intersection over union of a box with others."""
    one, others = np.asarray(one), np.asarray(others)
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2]) + offset
    intersection = np.maximum(sides, 0).prod(-1)
    union = (one[2:] - one[:2] + offset).prod() + (others[:, 2:] - others[:, :2] + offset).prod(-1)
    union = union - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def soft_nms(boxes, scores, weight, score_threshold=0.001, offset=0, prefilter=True):
    """The loop of the paper: a weight of 0 drops a box, and so does a score below the threshold."""
    left = [i for i in range(len(scores)) if not prefilter or scores[i] >= score_threshold]
    current, keep, kept = np.array(scores), [], []
    while left:
        best = max(left, key=lambda i: (current[i], -i))
        left.remove(best)
        keep.append(best)
        kept.append(current[best])
        weights = weight(iou(boxes[best], boxes[left], offset)) if left else []
        stay = []
        for i, factor in zip(left, weights, strict=True):
            current[i] *= factor
            if factor > 0 and current[i] >= score_threshold:
                stay.append(i)
        left = stay
    return np.array(keep, np.int64), np.array(kept, current.dtype)


def hard_nms(boxes, scores, threshold):
    """Each box in falling order of scores suppresses those after it, as torchvision does."""
    order = np.argsort(-scores, kind="stable")
    alive, keep = np.ones(len(scores), bool), []
    for place, i in enumerate(order):
        if alive[i]:
            keep.append(i)
            later = order[place + 1 :]
            alive[later[iou(boxes[i], boxes[later]) > threshold]] = False
    return np.array(keep, np.int64)


def scene(rng, count, dtype=np.float64, canvas=100.0):
    """Boxes of which many overlap, and scores."""
    corner, size = rng.uniform(0, canvas, (count, 2)), rng.uniform(5, 40, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(dtype)
    return boxes, rng.uniform(0, 1, count).astype(dtype)
