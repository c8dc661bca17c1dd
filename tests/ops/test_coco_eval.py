"""Average precision against pycocotools, and what it is at its limits."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import logitscope
from logitscope.detection import CocoEval
from logitscope.errors import ArgumentError, DTypeError, ShapeError

NAMES = ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
NAMES += ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")


def images(seed, count=30, classes=4, crowds=False):
    """True boxes of all sizes and detections near them, with equal scores, misses and false ones."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        n = int(rng.integers(0, 12))
        corner, size = (
            rng.uniform(0, 400, (n, 2)),
            rng.choice([20, 60, 140], (n, 1)) * rng.uniform(0.5, 1.5, (n, 2)),
        )
        truths = np.concatenate([corner, corner + size], axis=1)
        gt_classes = rng.integers(0, classes, n)
        crowd = rng.uniform(size=n) < (0.25 if crowds else 0)
        boxes, scores, det_classes = [], [], []
        for truth, c in zip(truths, gt_classes, strict=True):
            for _ in range(int(rng.integers(0, 5))):
                side = np.tile(truth[2:] - truth[:2], 2)
                moved = truth + rng.normal(0, rng.choice([0.01, 0.06, 0.15]), 4) * side
                boxes.append(
                    np.concatenate([np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])])
                )
                scores.append(np.round(rng.uniform(), 1))
                det_classes.append(c if rng.uniform() < 0.9 else rng.integers(0, classes))
        for _ in range(int(rng.poisson(4))):
            corner = rng.uniform(0, 400, 2)
            boxes.append(np.concatenate([corner, corner + rng.uniform(5, 150, 2)]))
            scores.append(np.round(rng.uniform(0, 0.6), 1))
            det_classes.append(rng.integers(0, classes + 1))  # the last has no true box
        found = np.reshape(boxes, (-1, 4)), np.array(scores), np.array(det_classes, int)
        yield truths, gt_classes, crowd, *found


def by_pycocotools(all_images, max_dets=(1, 10, 100)):
    annotations, results = [], []
    for image, (truths, gt_classes, crowd, boxes, scores, det_classes) in enumerate(all_images, start=1):
        for (x1, y1, x2, y2), c, is_crowd in zip(truths, gt_classes, crowd, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            annotation = {"id": len(annotations) + 1, "image_id": image, "category_id": int(c), "bbox": box}
            annotations.append(annotation | {"area": box[2] * box[3], "iscrowd": int(is_crowd)})
        for (x1, y1, x2, y2), score, c in zip(boxes, scores, det_classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": image, "category_id": int(c), "bbox": box, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image + 1} for image in range(len(all_images))],
            "categories": [{"id": c} for c in range(6)],
            "annotations": annotations,
            "info": {},
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.maxDets = list(max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def evaluated(all_images, **options):
    evaluation = CocoEval(**options)
    for image, (truths, gt_classes, crowd, boxes, scores, det_classes) in enumerate(all_images):
        evaluation.add(image, truths, gt_classes, boxes, scores, det_classes, gt_crowd=crowd)
    return evaluation.compute()


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_that_all_twelve_numbers_are_those_of_pycocotools(seed, crowds):
    all_images = list(images(seed, crowds=crowds))
    peer = by_pycocotools(all_images)
    result = evaluated(all_images)
    np.testing.assert_allclose([result[name] for name in NAMES], peer.stats, rtol=0, atol=1e-12)
    precision = peer.eval["precision"][:, :, :, 0, 2]
    live = [c for c in range(6) if (precision[:, :, c] > -1).all()]
    np.testing.assert_allclose(result["precision"], precision[:, :, live].mean(-1), rtol=0, atol=1e-12)
    assert sorted(result["per_class"]) == live
    np.testing.assert_allclose(
        list(result["per_class"].values()), precision[:, :, live].mean((0, 1)), atol=1e-12
    )


def test_that_fewer_detections_an_image_and_other_thresholds_count():
    all_images = list(images(7))
    peer = by_pycocotools(all_images, max_dets=(1, 2, 3))
    result = evaluated(all_images, max_dets=3)
    precision = peer.eval["precision"][:, :, :, 0, 2]
    assert abs(result["mAP"] - precision[precision > -1].mean()) < 1e-12
    assert abs(result["AR_3"] - peer.eval["recall"][:, :4, 0, 2].mean()) < 1e-12
    assert "AR_10" not in result
    only = evaluated(all_images, iou_thresholds=[0.75])
    assert only["mAP"] == only["AP75"]
    assert abs(only["AP75"] - by_pycocotools(all_images).stats[2]) < 1e-12
    assert np.isnan(only["AP50"])


def test_that_the_number_of_threads_changes_nothing():
    all_images, results = list(images(8, count=80)), []
    for threads in (1, 2, 8):
        logitscope.set_num_threads(threads)
        results.append(evaluated(all_images)["precision"].tobytes())
    logitscope.set_num_threads(None)
    assert len(set(results)) == 1


def test_that_perfect_detections_are_1_and_none_are_0_and_classes_without_truth_do_not_count():
    boxes, classes = np.array([[0, 0, 10, 10], [20, 20, 140, 140]]), np.array([0, 5])
    perfect = CocoEval()
    perfect.add("a", boxes, classes, boxes, np.array([0.1, 0.9]), classes)
    # A class that is never true.
    perfect.add("b", np.zeros((0, 4)), [], boxes, np.array([0.5, 0.5]), np.array([7, 7]))
    result = perfect.compute()
    assert abs(result["mAP"] - 1) < 1e-12
    assert sorted(result["per_class"]) == [0, 5]
    assert (result["AR_1"], result["AR_medium"]) == (1.0, pytest.approx(float("nan"), nan_ok=True))
    nothing = CocoEval()
    nothing.add("a", boxes, classes, np.zeros((0, 4)), [], [])
    assert nothing.compute()["mAP"] == 0
    assert nothing.compute()["AR_100"] == 0
    assert np.isnan(CocoEval().compute()["mAP"])


def test_that_ignored_truth_takes_detections_out_of_the_count():
    boxes, classes = np.array([[0.0, 0, 10, 10], [50, 50, 90, 90]]), np.array([0, 0])
    scores = np.array([0.5, 0.9])
    counted, ignored = CocoEval(), CocoEval()
    counted.add(1, boxes[:1], classes[:1], boxes, scores, classes)
    ignored.add(1, boxes, classes, boxes, scores, classes, gt_ignore=[False, True])
    assert abs(counted.compute()["mAP"] - 0.5) < 1e-12
    assert abs(ignored.compute()["mAP"] - 1.0) < 1e-12


def test_that_bad_input_is_refused_with_what_came_and_what_would_work():
    boxes, classes, scores = np.zeros((2, 4)), np.zeros(2, int), np.zeros(2)
    evaluation = CocoEval()
    evaluation.add(0, boxes, classes, boxes, scores, classes)
    with pytest.raises(ArgumentError, match=r"^CocoEval.add: image_id 0 was added before; use each once$"):
        evaluation.add(0, boxes, classes, boxes, scores, classes)
    with pytest.raises(ShapeError, match=r"^CocoEval.add: det_boxes has shape \(2, 3\); use \(N, 4\)$"):
        evaluation.add(1, boxes, classes, boxes[:, :3], scores, classes)
    with pytest.raises(
        ShapeError, match=r"^CocoEval.add: gt_classes has shape \(1,\); use \(2,\), one a box$"
    ):
        evaluation.add(1, boxes, classes[:1], boxes, scores, classes)
    with pytest.raises(DTypeError, match=r"^CocoEval.add: det_classes has dtype float64; use integers$"):
        evaluation.add(1, boxes, classes, boxes, scores, scores)
    with pytest.raises(
        ArgumentError, match=r"^CocoEval.add: gt_boxes is \(0.0, 0.0, -1.0, 0.0\) in row 1; use "
    ):
        evaluation.add(1, [[0, 0, 0, 0], [0, 0, -1, 0]], classes, boxes, scores, classes)
    with pytest.raises(
        ArgumentError, match=r"^CocoEval.add: det_scores is inf in row 1; use finite numbers$"
    ):
        evaluation.add(1, boxes, classes, boxes, [0, np.inf], classes)
    with pytest.raises(
        ArgumentError, match=r"^CocoEval: iou_thresholds is \[1.5\]; use a list of numbers in 0..1$"
    ):
        CocoEval([1.5])
    with pytest.raises(ArgumentError, match=r"^CocoEval: max_dets is 0; use at least 1$"):
        CocoEval(max_dets=0)
