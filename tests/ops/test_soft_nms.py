"""Overlaps and suppression against plain loops; edges, layouts, tensors and bad input."""

import numpy as np
import pytest

import logitscope
from box_oracles import hard_nms, iou, scene, soft_nms
from logitscope.detection import batched_soft_nms, box_iou
from logitscope.detection import nms as fast_nms
from logitscope.detection import soft_nms as fast_soft_nms
from logitscope.errors import ArgumentError, DTypeError, ShapeError

WEIGHTS = {
    "linear": lambda o: np.where(o > o.dtype.type(0.3), 1 - o, o.dtype.type(1)),
    "gaussian": lambda o: np.exp(-(o * o) / o.dtype.type(0.5)),
    "hard": lambda o: (o <= o.dtype.type(0.3)).astype(o.dtype),
}
methods = pytest.mark.parametrize("method", WEIGHTS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
@pytest.mark.parametrize("offset", [0, 1])
def test_that_overlaps_are_those_of_a_plain_loop(isa, dtype, offset):
    rng = np.random.default_rng(0)
    for columns in (1, 7, 8, 16, 17, 100):
        a, b = scene(rng, 5, dtype)[0], scene(rng, columns, dtype)[0]
        wanted = [iou(one, b, offset) for one in a]
        np.testing.assert_array_equal(box_iou(a, b, offset=offset), wanted)
        assert logitscope.last_kernel().endswith(isa)


@dtypes
def test_that_hard_suppression_is_that_of_a_plain_loop(isa, dtype):
    rng = np.random.default_rng(1)
    for _ in range(1000 if isa == logitscope.info()["isa"] else 50):
        boxes, scores = scene(rng, int(rng.integers(0, 60)), dtype)
        scores = np.round(scores, 1)  # there are equal ones
        threshold = float(rng.uniform(0.1, 0.9))
        wanted = hard_nms(boxes, scores, dtype(threshold))
        np.testing.assert_array_equal(fast_nms(boxes, scores, threshold), wanted)
        options = {"method": "hard", "iou_threshold": threshold, "score_threshold": 0.0}
        np.testing.assert_array_equal(fast_soft_nms(boxes, scores, **options)[0], wanted)


@methods
@dtypes
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 100, 257, 500])
def test_that_soft_suppression_is_that_of_a_plain_loop(isa, dtype, method, count):
    limit = 1e-12 if dtype is np.float64 else 1e-5
    boxes, scores = scene(np.random.default_rng(count), count, dtype)
    for offset, threshold in ((0, 0.001), (1, 0.2)):
        keep, kept = fast_soft_nms(boxes, scores, method, offset=offset, score_threshold=threshold)
        wanted = soft_nms(boxes.astype(float), scores.astype(float), WEIGHTS[method], threshold, offset)
        np.testing.assert_array_equal(keep, wanted[0])
        np.testing.assert_allclose(kept, wanted[1], rtol=0, atol=limit)
        assert keep.dtype == np.int64
        assert kept.dtype == dtype
        assert (np.diff(kept) <= 0).all()
        assert len(set(keep.tolist())) == len(keep)


def test_that_a_wide_gaussian_changes_nothing_and_a_narrow_one_is_hard():
    rng = np.random.default_rng(2)
    boxes, scores = scene(rng, 200)
    keep, kept = fast_soft_nms(boxes, scores, sigma=1e9, score_threshold=0.0)
    np.testing.assert_array_equal(keep, np.argsort(-scores))
    np.testing.assert_allclose(kept, scores[keep], rtol=1e-6)
    # On a grid two boxes overlap by 1e-3 or not at all.
    boxes, _ = scene(rng, 150)
    boxes = np.round(boxes / 5) * 5 + [0, 0, 5, 5]
    overlaps = box_iou(boxes, boxes)
    assert overlaps[overlaps > 0].min() > 1e-3
    scores = rng.permutation(150) / 150 + 0.01
    keep, _ = fast_soft_nms(boxes, scores, sigma=1e-9)
    np.testing.assert_array_equal(keep, fast_nms(boxes, scores, 0.0))


def test_that_identical_boxes_decay_as_the_formulas_say():
    boxes, scores = np.tile([0.0, 0, 10, 10], (2, 1)), np.array([0.9, 0.8])
    keep, kept = fast_soft_nms(boxes, scores, "linear", score_threshold=0.0)
    np.testing.assert_array_equal(keep, [0])
    keep, kept = fast_soft_nms(boxes, scores)
    np.testing.assert_allclose(kept, [0.9, 0.8 * np.exp(-2)], rtol=1e-14)
    keep, _ = fast_soft_nms(boxes, scores, hard_cut=0.9)
    np.testing.assert_array_equal(keep, [0])
    keep, _ = fast_soft_nms(boxes, np.array([0.8, 0.8]))
    np.testing.assert_array_equal(keep, [0, 1])


@methods
def test_that_permuted_boxes_give_permuted_indices(method):
    boxes, scores = scene(np.random.default_rng(3), 120)
    order = np.random.default_rng(4).permutation(120)
    keep, kept = fast_soft_nms(boxes, scores, method)
    moved, moved_scores = fast_soft_nms(boxes[order], scores[order], method)
    np.testing.assert_array_equal(order[moved], keep)
    np.testing.assert_array_equal(moved_scores, kept)


def test_that_low_scores_are_dropped_before_or_after_the_first_choice():
    boxes = np.array([[0.0, 0, 1, 1], [5, 5, 6, 6]])
    scores = np.array([0.02, 0.01])
    assert len(fast_soft_nms(boxes, scores, score_threshold=0.1)[0]) == 0
    for method in WEIGHTS:
        keep, _ = fast_soft_nms(boxes, scores, method, score_threshold=0.1, prefilter=False)
        np.testing.assert_array_equal(keep, [0])


@methods
def test_that_max_output_stops_after_so_many(method):
    boxes, scores = scene(np.random.default_rng(5), 80)
    keep, kept = fast_soft_nms(boxes, scores, method)
    for most in (0, 1, 7):
        fewer, fewer_scores = fast_soft_nms(boxes, scores, method, max_output=most)
        np.testing.assert_array_equal(fewer, keep[:most])
        np.testing.assert_array_equal(fewer_scores, kept[:most])


@dtypes
def test_that_a_function_of_one_s_own_gives_what_the_method_gives(dtype):
    boxes, scores = scene(np.random.default_rng(6), 150, dtype)
    for method, weight in WEIGHTS.items():
        for more in ({}, {"hard_cut": 0.6, "max_output": 40}, {"score_threshold": 0.5, "prefilter": False}):
            keep, kept = fast_soft_nms(boxes, scores, method, **more)
            own, own_scores = fast_soft_nms(boxes, scores, weight_fn=weight, **more)
            np.testing.assert_array_equal(own, keep)
            np.testing.assert_allclose(own_scores, kept, rtol=1e-5 if dtype is np.float32 else 1e-12)
            assert own_scores.dtype == dtype


def test_that_no_boxes_and_boxes_without_area_give_no_nan():
    keep, kept = fast_soft_nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert (keep.dtype, kept.dtype, len(keep), len(kept)) == (np.int64, np.float32, 0, 0)
    assert len(fast_nms(np.zeros((0, 4)), np.zeros(0))) == 0
    assert box_iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    points = np.tile([3.0, 3, 3, 3], (3, 1))
    np.testing.assert_array_equal(box_iou(points, points), np.zeros((3, 3)))
    for method in WEIGHTS:
        keep, kept = fast_soft_nms(points, np.array([0.3, 0.5, 0.4]), method)
        np.testing.assert_array_equal(keep, [1, 2, 0])
        np.testing.assert_array_equal(kept, [0.5, 0.4, 0.3])


def test_that_inputs_are_read_whatever_their_layout_and_never_written():
    boxes, scores = scene(np.random.default_rng(7), 90)
    wanted = fast_soft_nms(boxes, scores)
    columns = np.asfortranarray(boxes)
    spread = np.repeat(scores, 2)[::2]
    for array in (columns, spread):
        array.flags.writeable = False
    got = fast_soft_nms(columns, spread)
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])
    before = boxes.copy(), scores.copy()
    batched_soft_nms(boxes, scores, np.zeros(90, np.int32))
    fast_nms(boxes, scores)
    np.testing.assert_array_equal(boxes, before[0])
    np.testing.assert_array_equal(scores, before[1])


def test_that_eighty_classes_are_a_loop_over_classes_at_any_number_of_threads():
    rng = np.random.default_rng(8)
    boxes, scores = scene(rng, 3000, np.float32)
    classes = rng.integers(0, 80, 3000)
    wanted = []
    for c in range(80):
        own = np.flatnonzero(classes == c)
        keep, kept = fast_soft_nms(boxes[own], scores[own], "linear", max_output=20)
        wanted += zip(-kept, own[keep], strict=True)
    wanted.sort()
    for threads in (1, 2, 4):
        logitscope.set_num_threads(threads)
        keep, kept = batched_soft_nms(boxes, scores, classes, "linear", max_output=20)
        np.testing.assert_array_equal(keep, [place for _, place in wanted])
        np.testing.assert_array_equal(kept, [-score for score, _ in wanted])
    logitscope.set_num_threads(None)


def test_that_tensors_give_tensors():
    torch = pytest.importorskip("torch")
    boxes, scores = (torch.from_numpy(x) for x in scene(np.random.default_rng(9), 50, np.float32))
    wanted = fast_soft_nms(boxes.numpy(), scores.numpy())
    scores.requires_grad_()
    for got in (fast_soft_nms(boxes, scores), batched_soft_nms(boxes, scores, torch.zeros(50).long())):
        torch.testing.assert_close(got[0], torch.from_numpy(wanted[0]))
        torch.testing.assert_close(got[1], torch.from_numpy(wanted[1]), rtol=0, atol=0)
        assert not got[1].requires_grad
    assert isinstance(fast_nms(boxes, scores), torch.Tensor)
    assert isinstance(box_iou(boxes, boxes), torch.Tensor)


BOX = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1]])
SCORES = np.array([0.5, 0.4])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((BOX[:, :3], SCORES), {}, ShapeError, r"boxes has shape \(2, 3\); use \(N, 4\)"),
        ((BOX, SCORES[:1]), {}, ShapeError, r"scores has shape \(1,\); use \(2,\), one a box"),
        ((BOX.astype(int), SCORES), {}, DTypeError, "boxes has dtype int64; use "),
        ((BOX, SCORES.astype(np.float32)), {}, DTypeError, "scores has dtype float32, boxes has float64"),
        (
            (BOX - [[0], [np.nan]], SCORES),
            {},
            ArgumentError,
            r"boxes is \(NaN, NaN, NaN, NaN\) in row 1; use",
        ),
        (
            (BOX * [[1], [-1]], SCORES),
            {},
            ArgumentError,
            r"boxes is \(-0.0, -0.0, -1.0, -1.0\) in row 1; use finite",
        ),
        (
            (BOX * [[1], [1e200]], SCORES),
            {},
            ArgumentError,
            r"boxes is \(0.0, 0.0, 1e200, 1e200\) in row 1; use finite numbers, an area",
        ),
        ((BOX, SCORES * np.nan), {}, ArgumentError, "scores is NaN in row 0; use finite numbers"),
        ((BOX, SCORES * [1, np.inf]), {}, ArgumentError, "scores is inf in row 1; use finite numbers"),
        ((BOX, SCORES), {"sigma": 0}, ArgumentError, "sigma is 0.0; use a positive finite number"),
        ((BOX, SCORES), {"sigma": -1}, ArgumentError, "sigma is -1.0; use a positive finite number"),
        (
            (BOX, SCORES),
            {"method": "soft"},
            ArgumentError,
            "method is 'soft'; use 'gaussian', 'linear' or 'hard'",
        ),
        (
            (BOX, SCORES),
            {"method": "linear", "iou_threshold": 1.5},
            ArgumentError,
            "iou_threshold is 1.5; use a number in 0..1",
        ),
        (
            (BOX, SCORES),
            {"method": "hard", "iou_threshold": np.nan},
            ArgumentError,
            "iou_threshold is NaN; use a number in 0..1",
        ),
        ((BOX, SCORES), {"hard_cut": -0.5}, ArgumentError, "hard_cut is -0.5; use a number in 0..1"),
        (
            (BOX, SCORES),
            {"score_threshold": -1},
            ArgumentError,
            "score_threshold is -1; use a number of at least 0",
        ),
        ((BOX, SCORES), {"max_output": -1}, ArgumentError, "max_output is -1; use None or a number"),
        ((BOX, SCORES), {"offset": 2}, ArgumentError, "offset is 2; use 0 or 1"),
        (
            (BOX, SCORES),
            {"weight_fn": lambda o: o + 2},
            ArgumentError,
            "weight_fn returned 3.0 for an overlap of 1.0",
        ),
        (
            (BOX, SCORES),
            {"weight_fn": lambda o: o[:0]},
            ShapeError,
            r"weight_fn returned float64 of shape \(0,\)",
        ),
    ],
)
def test_that_bad_input_is_refused_with_what_came_and_what_would_work(arguments, options, error, message):
    with pytest.raises(error, match=rf"^soft_nms: {message}"):
        fast_soft_nms(*arguments, **options)


def test_that_the_other_functions_refuse_by_their_own_names():
    with pytest.raises(DTypeError, match=r"^batched_soft_nms: classes has dtype float64; use integers$"):
        batched_soft_nms(BOX, SCORES, SCORES)
    with pytest.raises(
        ShapeError, match=r"^batched_soft_nms: classes has shape \(1,\); use \(2,\), one a box$"
    ):
        batched_soft_nms(BOX, SCORES, np.zeros(1, int))
    with pytest.raises(ArgumentError, match=r"^nms: iou_threshold is -0.1; use a number in 0..1$"):
        fast_nms(BOX, SCORES, -0.1)
    with pytest.raises(
        ArgumentError, match=r"^box_iou: b is \(0.0, 0.0, 1.0, -1.0\) in row 0; use finite numbers, x1 <= x2"
    ):
        box_iou(BOX, BOX[:1] * [1, 1, 1, -1])
    with pytest.raises(DTypeError, match=r"^box_iou: b has dtype float32, a has float64; use one dtype$"):
        box_iou(BOX, BOX.astype(np.float32))
