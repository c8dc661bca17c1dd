"""Non-maximum suppression of boxes: soft, hard, and of each class by itself."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_floats, as_numpy, like, same_dtype
from logitscope._dtypes import narrow, widen
from logitscope.errors import ArgumentError, DTypeError, ShapeError
from logitscope.ops.box_iou import read_boxes, read_offset

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Method = Literal["gaussian", "linear", "hard"]


def soft_nms(
    boxes: Any,
    scores: Any,
    method: Method = "gaussian",
    *,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    max_output: int | None = None,
    offset: int = 0,
    hard_cut: float | None = None,
    prefilter: bool = True,
    weight_fn: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> tuple[Any, Any]:
    """Soft non-maximum suppression: boxes that overlap a better one keep a part of their score.

    The box with the largest score is chosen; the scores of the others are multiplied by f(o) of their overlap o
    (intersection over union) with it; and so on with those that are left. Bodla et al., arXiv 1704.04503.

    Parameters
    ----------
    boxes
        (N, 4), NumPy array or torch CPU tensor of float32, float64, float16 or bfloat16: x1, y1, x2, y2 with x1 <= x2
        and y1 <= y2.
    scores
        (N,) of the same dtype, finite. Neither array is modified.
    method
        ``"gaussian"``: f(o) = exp(-o² / sigma); ``"linear"``: 1 - o where o > iou_threshold, else 1; ``"hard"``: 0
        where o > iou_threshold, else 1.
    iou_threshold
        In 0..1; what ``"gaussian"`` does not use.
    sigma
        Above 0. TensorFlow's soft_nms_sigma is half of it.
    score_threshold
        At least 0. A box whose score has fallen below it is dropped, and so is one with a weight of 0.
    max_output
        At most so many boxes are chosen; None is all.
    offset
        Added to all widths and heights: 1 where x2 and y2 are pixels that belong to the box, else 0.
    hard_cut
        In 0..1: boxes that overlap the chosen one by more are dropped, whatever the method, as in TensorFlow.
    prefilter
        Drop scores below the threshold before the first box is chosen; the paper's code does not.
    weight_fn
        A function of one's own in place of the method: it takes the overlaps (M,) as a NumPy array and returns as
        many weights in 0..1. It is called once for each chosen box.

    Returns
    -------
    keep, scores
        Where the chosen boxes stood, (K,) int64, and their scores by then, (K,) of the dtype of ``scores`` and not
        growing. Of equal scores the first box is chosen. 16-bit scores decay as float32 and are rounded at the end.
        Scores have no gradient.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument and the row, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.detection import soft_nms
    >>> boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    >>> keep, scores = soft_nms(boxes, np.array([0.9, 0.8, 0.5]))
    >>> keep, scores.round(5)
    (array([0, 2, 1]), array([0.9    , 0.5    , 0.10827]))
    """
    options = _options(
        "soft_nms", method, iou_threshold, sigma, score_threshold, max_output, offset, hard_cut, prefilter
    )
    if weight_fn is not None:
        return _with_weights_of(boxes, scores, options, weight_fn)
    return _suppress("soft_nms", boxes, scores, None, options)


def batched_soft_nms(
    boxes: Any,
    scores: Any,
    classes: Any,
    method: Method = "gaussian",
    *,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    max_output: int | None = None,
    offset: int = 0,
    hard_cut: float | None = None,
    prefilter: bool = True,
) -> tuple[Any, Any]:
    """:func:`soft_nms` of each class by itself, the classes in parallel.

    Parameters
    ----------
    boxes, scores
        As in :func:`soft_nms`.
    classes
        (N,) integers: boxes of different classes do not touch each other.
    method, iou_threshold, sigma, score_threshold, offset, hard_cut, prefilter
        As in :func:`soft_nms`.
    max_output
        At most so many boxes of each class.

    Returns
    -------
    keep, scores
        As in :func:`soft_nms`, the chosen of all classes in falling order of their scores.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument and the row, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.detection import batched_soft_nms
    >>> boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    >>> batched_soft_nms(boxes, np.array([0.8, 0.9]), np.array([3, 5]))
    (array([1, 0]), array([0.9, 0.8]))
    """
    operation = "batched_soft_nms"
    options = _options(
        operation, method, iou_threshold, sigma, score_threshold, max_output, offset, hard_cut, prefilter
    )
    groups = as_numpy(operation, "classes", classes)
    if groups.dtype.kind not in "iu":
        message = f"{operation}: classes has dtype {groups.dtype}; use integers"
        raise DTypeError(message)
    return _suppress(operation, boxes, scores, groups, options)


def nms(boxes: Any, scores: Any, iou_threshold: float = 0.5, *, offset: int = 0) -> Any:
    """Hard non-maximum suppression: a box stays unless it overlaps a better one that has stayed.

    Parameters
    ----------
    boxes, scores
        As in :func:`soft_nms`; scores may be any finite numbers.
    iou_threshold
        In 0..1: an intersection over union above it suppresses.
    offset
        As in :func:`soft_nms`.

    Returns
    -------
    keep
        (K,) int64, in falling order of the scores; of equal ones the first.

    Raises
    ------
    ShapeError, DTypeError, DeviceError, ArgumentError
        Naming the argument and the row, what came and what would work.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.detection import nms
    >>> nms(np.array([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]), np.array([0.8, 0.9, 0.5]))
    array([1, 2])
    """
    options: _native.SuppressionOptions = {
        "method": "hard",
        "iou_threshold": float(iou_threshold),
        "sigma": 0.5,
        "score_threshold": -np.inf,
        "max_output": None,
        "offset": read_offset("nms", offset),
        "hard_cut": None,
        "prefilter": True,
    }
    return _suppress("nms", boxes, scores, None, options)[0]


def _options(
    operation: str,
    method: str,
    iou_threshold: float,
    sigma: float,
    score_threshold: float,
    max_output: int | None,
    offset: int,
    hard_cut: float | None,
    prefilter: bool,
) -> _native.SuppressionOptions:
    if not score_threshold >= 0:
        message = f"{operation}: score_threshold is {score_threshold!r}; use a number of at least 0"
        raise ArgumentError(message)
    if max_output is not None and operator.index(max_output) < 0:
        message = f"{operation}: max_output is {max_output}; use None or a number of at least 0"
        raise ArgumentError(message)
    return {
        "method": method,
        "iou_threshold": float(iou_threshold),
        "sigma": float(sigma),
        "score_threshold": float(score_threshold),
        "max_output": None if max_output is None else operator.index(max_output),
        "offset": read_offset(operation, offset),
        "hard_cut": None if hard_cut is None else float(hard_cut),
        "prefilter": bool(prefilter),
    }


class _Scene(NamedTuple):
    boxes: NDArray[Any]
    scores: NDArray[Any]

    @classmethod
    def of(cls, operation: str, boxes: Any, scores: Any) -> _Scene:
        corners = read_boxes(operation, "boxes", boxes)
        numbers = as_floats(operation, "scores", scores)
        if numbers.shape != corners.shape[:1]:
            message = f"{operation}: scores has shape {numbers.shape}; use {corners.shape[:1]}, one a box"
            raise ShapeError(message)
        same_dtype(operation, [("boxes", corners), ("scores", numbers)])
        return cls(corners, np.ascontiguousarray(numbers))


def _suppress(
    operation: str,
    boxes: Any,
    scores: Any,
    classes: NDArray[Any] | None,
    options: _native.SuppressionOptions,
) -> tuple[Any, Any]:
    scene = _Scene.of(operation, boxes, scores)
    if classes is not None:
        if classes.shape != scene.scores.shape:
            message = f"{operation}: classes has shape {classes.shape}; use {scene.scores.shape}, one a box"
            raise ShapeError(message)
        classes = classes.astype(np.int64, order="C", copy=False)
    keep, kept = np.empty(len(scene.scores), np.int64), np.empty_like(scene.scores)
    count = _native.soft_nms(operation, *scene, classes, options, keep, kept)
    return like(scores, keep[:count].copy()), like(scores, kept[:count].copy())


def _with_weights_of(
    boxes: Any,
    scores: Any,
    options: _native.SuppressionOptions,
    weight_fn: Callable[[NDArray[Any]], NDArray[Any]],
) -> tuple[Any, Any]:
    scene = _Scene.of("soft_nms", boxes, scores)
    # No box: checks the others, and the options.
    _suppress("soft_nms", scene.boxes, scene.scores, None, options | {"max_output": 0})
    corners, numbers = widen(scene.boxes), widen(scene.scores)
    threshold, cut = options["score_threshold"], options["hard_cut"]
    most = len(numbers) if options["max_output"] is None else options["max_output"]
    left = np.flatnonzero(numbers >= threshold) if options["prefilter"] else np.arange(len(numbers))
    current = numbers[left]
    keep: list[int] = []
    kept: list[Any] = []
    while len(left) and len(keep) < most:
        best = int(np.argmax(current))
        kept.append(current[best])
        keep.append(int(left[best]))
        left, current = np.delete(left, best), np.delete(current, best)
        overlaps = np.empty((1, len(left)), current.dtype)
        _native.box_iou(corners[keep[-1:]], corners[left], options["offset"], overlaps)
        weights = _weights(weight_fn, overlaps[0])
        if cut is not None:
            weights = np.where(overlaps[0] > cut, 0, weights)
        current = (current * weights).astype(current.dtype, copy=False)
        stay = (weights > 0) & (current >= threshold)
        left, current = left[stay], current[stay]
    final = narrow(np.array(kept, numbers.dtype), scene.scores.dtype)
    return like(scores, np.array(keep, np.int64)), like(scores, final)


def _weights(weight_fn: Callable[[NDArray[Any]], NDArray[Any]], overlaps: NDArray[Any]) -> NDArray[Any]:
    weights = np.asarray(weight_fn(overlaps))
    if weights.shape != overlaps.shape or weights.dtype.kind not in "fiub":
        got = f"{weights.dtype} of shape {weights.shape}"
        message = f"soft_nms: weight_fn returned {got}; return numbers of shape {overlaps.shape}"
        raise ShapeError(message)
    wrong = np.flatnonzero(~((weights >= 0) & (weights <= 1)))
    if len(wrong):
        at = f"an overlap of {overlaps[wrong[0]]}"
        message = f"soft_nms: weight_fn returned {weights[wrong[0]]} for {at}; return numbers in 0..1"
        raise ArgumentError(message)
    return weights
