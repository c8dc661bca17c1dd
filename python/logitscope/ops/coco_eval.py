"""Average precision of detections as the COCO benchmark measures it."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from logitscope import _native
from logitscope._arrays import as_numpy
from logitscope.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Areas of boxes by name, both ends included."""

RECALLS = np.linspace(0.0, 1.0, 101)


class CocoEval:
    """Mean average precision over images, with the matching and the numbers of pycocotools.

    Parameters
    ----------
    iou_thresholds
        The overlaps that make a match, (T,) in 0..1; 0.50, 0.55, ... 0.95 by default.
    max_dets
        How many detections of an image and a class count, those with the largest scores.

    Notes
    -----
    For each class and threshold, detections are matched in falling order of their scores, each to the true box left
    with the largest overlap; precision is made to fall with recall and averaged over 101 recalls, then over
    thresholds and over the classes that have true boxes. Images count in the order in which they were added, which
    matters for equal scores alone. Areas are those of the boxes.

    Examples
    --------
    >>> import numpy as np
    >>> from logitscope.detection import CocoEval
    >>> boxes, classes = np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]]), np.array([1, 1])
    >>> evaluation = CocoEval()
    >>> evaluation.add("street.png", boxes, classes, boxes, np.array([0.9, 0.8]), classes)
    >>> result = evaluation.compute()
    >>> round(result["mAP"], 6), round(result["AR_1"], 6), result["AP_large"]
    (1.0, 0.5, nan)
    """

    def __init__(self, iou_thresholds: Any = None, max_dets: int = 100) -> None:
        thresholds = np.linspace(0.5, 0.95, 10) if iou_thresholds is None else np.asarray(iou_thresholds)
        if thresholds.ndim != 1 or not len(thresholds) or not ((thresholds >= 0) & (thresholds <= 1)).all():
            message = f"CocoEval: iou_thresholds is {iou_thresholds!r}; use a list of numbers in 0..1"
            raise ArgumentError(message)
        if operator.index(max_dets) < 1:
            message = f"CocoEval: max_dets is {max_dets}; use at least 1"
            raise ArgumentError(message)
        self.iou_thresholds = np.ascontiguousarray(thresholds, np.float64)
        self.max_dets = operator.index(max_dets)
        self._images: dict[Hashable, _Image] = {}

    def add(
        self,
        image_id: Hashable,
        gt_boxes: Any,
        gt_classes: Any,
        det_boxes: Any,
        det_scores: Any,
        det_classes: Any,
        gt_ignore: Any = None,
        gt_crowd: Any = None,
    ) -> None:
        """Add an image.

        Parameters
        ----------
        image_id
            What tells the image from others.
        gt_boxes, gt_classes
            (G, 4) x1, y1, x2, y2 of the true boxes, any numbers, and (G,) integers.
        det_boxes, det_scores, det_classes
            (D, 4), (D,) finite and (D,) integers of the detections.
        gt_ignore
            (G,) bool: true boxes that do not count, and the detections matched to them neither.
        gt_crowd
            (G,) bool: boxes around many objects. They do not count either, may be matched many times, and their
            overlap is the share of the detection that they cover.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            Naming the argument and the row, what came and what would work.
        """
        if image_id in self._images:
            message = f"CocoEval.add: image_id {image_id!r} was added before; use each once"
            raise ArgumentError(message)
        truths, detections = _boxes("gt_boxes", gt_boxes), _boxes("det_boxes", det_boxes)
        crowd, ignore = _flags("gt_crowd", gt_crowd, truths), _flags("gt_ignore", gt_ignore, truths)
        scores = _column("det_scores", det_scores, detections, "scores")
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores))[0])
            message = f"CocoEval.add: det_scores is {scores[row]} in row {row}; use finite numbers"
            raise ArgumentError(message)
        self._images[image_id] = _Image(
            truths,
            _column("gt_classes", gt_classes, truths, "classes"),
            ignore | crowd,
            crowd,
            detections,
            scores,
            _column("det_classes", det_classes, detections, "classes"),
        )

    def compute(self) -> dict[str, Any]:
        """Evaluate what was added.

        Returns
        -------
        dict
            ``"mAP"``; ``"AP50"``, ``"AP75"``; ``"AP_small"``, ``"AP_medium"``, ``"AP_large"``; ``"AR_1"``,
            ``"AR_10"``, ``"AR_100"``, the largest recalls with so many detections an image (with ``max_dets`` in
            place of 100), and ``"AR_small"`` and so on with all; ``"per_class"``, the average precision of each
            class with true boxes; ``"precision"``, (T, 101) over recalls, the mean of these classes. What there is
            nothing to average for is NaN.
        """
        images = list(self._images.values())
        classes = sorted({int(c) for image in images for c in (*image.gt_classes, *image.det_classes)})
        sets = [_ClassSet.of(images, c, self.max_dets) for c in classes]
        judged = [one.judge(self.iou_thresholds) for one in sets]
        counts = sorted({1, 10, self.max_dets})
        counts = counts[: counts.index(self.max_dets) + 1]
        nothing = np.full((len(self.iou_thresholds), len(RECALLS)), np.nan)
        curves: dict[str, list[_Curve]] = {
            area: [one.curve(index, self.max_dets) for one in judged] for index, area in enumerate(AREAS)
        }
        of_counts = {count: [one.curve(0, count) for one in judged] for count in counts}
        live = {area: [one for one in found if one.positives] for area, found in curves.items()}
        precision = np.mean([one.precision for one in live["all"]] or [nothing], axis=0)
        result: dict[str, Any] = {"mAP": float(precision.mean())}
        for name, threshold in (("AP50", 0.5), ("AP75", 0.75)):
            at = np.isclose(self.iou_thresholds, threshold, rtol=0, atol=1e-9)
            result[name] = float(precision[at].mean()) if at.any() else float("nan")
        for area in list(AREAS)[1:]:
            result[f"AP_{area}"] = _mean([one.precision for one in live[area]])
        for count, found in of_counts.items():
            result[f"AR_{count}"] = _mean([one.recall for one in found if one.positives])
        for area in list(AREAS)[1:]:
            result[f"AR_{area}"] = _mean([one.recall for one in live[area]])
        result["per_class"] = {
            c: float(one.precision.mean())
            for c, one in zip(classes, curves["all"], strict=True)
            if one.positives
        }
        result["precision"] = precision
        return result


class _Image(NamedTuple):
    truths: NDArray[np.float64]
    gt_classes: NDArray[Any]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    detections: NDArray[np.float64]
    scores: NDArray[np.float64]
    det_classes: NDArray[Any]


class _Curve(NamedTuple):
    positives: int
    precision: NDArray[np.float64]
    """(T, 101)."""
    recall: NDArray[np.float64]
    """(T,), the largest."""


class _ClassSet(NamedTuple):
    """The boxes of one class in all images, those of an image one after the other."""

    truths: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    detections: NDArray[np.float64]
    scores: NDArray[np.float64]
    ranks: NDArray[np.intp]
    groups: list[tuple[int, int]]

    @classmethod
    def of(cls, images: list[_Image], c: int, most: int) -> _ClassSet:
        true = [np.flatnonzero(image.gt_classes == c) for image in images]
        found = []
        for image in images:
            own = np.flatnonzero(image.det_classes == c)
            found.append(own[np.argsort(-image.scores[own], kind="stable")[:most]])
        truths, detections = list(zip(images, true, strict=True)), list(zip(images, found, strict=True))
        return cls(
            truths=np.concatenate([image.truths[own] for image, own in truths]),
            ignore=np.concatenate([image.ignore[own] for image, own in truths]),
            crowd=np.concatenate([image.crowd[own] for image, own in truths]),
            detections=np.concatenate([image.detections[own] for image, own in detections]),
            scores=np.concatenate([image.scores[own] for image, own in detections]),
            ranks=np.concatenate([np.arange(len(own)) for own in found]),
            groups=[(len(one), len(other)) for one, other in zip(found, true, strict=True)],
        )

    def judge(self, thresholds: NDArray[np.float64]) -> _Judged:
        truth_areas, areas = _areas(self.truths), _areas(self.detections)
        ignored = np.stack([self.ignore | _beyond(truth_areas, *ends) for ends in AREAS.values()], axis=-1)
        outside = np.stack([_beyond(areas, *ends) for ends in AREAS.values()], axis=-1)
        matched = np.empty((len(areas), len(AREAS), len(thresholds)), np.bool_)
        skipped = np.empty_like(matched)
        _native.coco_match(
            {
                "detections": self.detections,
                "truths": self.truths,
                "groups": self.groups,
                "crowd": self.crowd,
                "ignored": ignored,
                "outside": outside,
                "thresholds": thresholds,
            },
            len(AREAS),
            matched,
            skipped,
        )
        return _Judged(self, matched, skipped, (~ignored).sum(axis=0))


class _Judged(NamedTuple):
    """Which detections are matched and which do not count, (detections, areas, thresholds)."""

    of: _ClassSet
    matched: NDArray[np.bool_]
    skipped: NDArray[np.bool_]
    positives: NDArray[np.intp]

    def curve(self, area: int, most: int) -> _Curve:
        """Precision over recall with at most so many detections an image."""
        counts = np.flatnonzero(self.of.ranks < most)
        order = counts[np.argsort(-self.of.scores[counts], kind="stable")]
        matched, skipped = self.matched[order, area].T, self.skipped[order, area].T
        positives = int(self.positives[area])
        true = np.cumsum(matched & ~skipped, axis=1, dtype=np.float64)
        false = np.cumsum(~matched & ~skipped, axis=1, dtype=np.float64)
        recall = true / max(positives, 1)
        precision = true / (true + false + np.spacing(1))
        # The best precision at this recall or a larger one.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
        places = [np.searchsorted(one, RECALLS, side="left") for one in recall]
        at_recalls = np.take_along_axis(padded, np.array(places), axis=1)
        return _Curve(positives, at_recalls, recall[:, -1] if len(order) else np.zeros(len(recall)))


def _mean(found: list[NDArray[np.float64]]) -> float:
    return float(np.mean(found)) if found else float("nan")


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _beyond(areas: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return (areas < low) | (areas > high)


def _boxes(name: str, value: Any) -> NDArray[np.float64]:
    boxes = as_numpy("CocoEval.add", name, value)
    if boxes.dtype.kind not in "fiu":
        message = f"CocoEval.add: {name} has dtype {boxes.dtype}; use numbers"
        raise DTypeError(message)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        message = f"CocoEval.add: {name} has shape {boxes.shape}; use (N, 4)"
        raise ShapeError(message)
    boxes = boxes.astype(np.float64)
    wrong = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 0] <= boxes[:, 2]) & (boxes[:, 1] <= boxes[:, 3]))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        got = f"{tuple(boxes[row].tolist())} in row {row}"
        message = f"CocoEval.add: {name} is {got}; use finite numbers, x1 <= x2 and y1 <= y2"
        raise ArgumentError(message)
    return boxes


_COLUMNS: dict[str, tuple[Any, str, str]] = {
    "flags": (np.bool_, "biu", "bool"),
    "classes": (np.int64, "iu", "integers"),
    "scores": (np.float64, "fiu", "numbers"),
}
"""What a column is read as, the kinds of dtypes it may have, and what a message calls them."""


def _column(name: str, value: Any, boxes: NDArray[Any], kind: str) -> NDArray[Any]:
    """Read one value a box."""
    dtype, accepted, called = _COLUMNS[kind]
    column = as_numpy("CocoEval.add", name, value)
    # An empty list is one of numbers to NumPy.
    if column.dtype.kind not in accepted and column.size:
        message = f"CocoEval.add: {name} has dtype {column.dtype}; use {called}"
        raise DTypeError(message)
    if column.shape != boxes.shape[:1]:
        message = f"CocoEval.add: {name} has shape {column.shape}; use {boxes.shape[:1]}, one a box"
        raise ShapeError(message)
    return column.astype(dtype)


def _flags(name: str, value: Any, boxes: NDArray[Any]) -> NDArray[np.bool_]:
    return np.zeros(len(boxes), np.bool_) if value is None else _column(name, value, boxes, "flags")
