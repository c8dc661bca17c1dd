import json

import numpy as np
import pytest

from logitscope.record import Panel, StepArray, StepText
from logitscope_app.models.resolve import resolve
from logitscope_app.models.series import Points
from logitscope_app.models.states import (
    BarsState,
    HeadsState,
    HeatmapState,
    HistogramState,
    ImageState,
    LinesState,
    PanelState,
    ScatterState,
    TableState,
    TextState,
)


class _Data:
    def __init__(self, points=None, arrays=None, texts=None):
        self._points, self._arrays, self._texts = points or {}, arrays or {}, texts or {}

    def span(self):
        return 0, 20

    def names(self):
        return [*self._points, *self._arrays, *self._texts]

    def points(self, tag):
        steps = self._points.get(tag)
        if steps is None:
            return Points.empty()
        return Points(np.array(list(steps), np.int64), np.array(list(steps.values()), float))

    def compared(self, tag):
        return []

    def compared_arrays(self, tag, step):
        return []

    def steps(self, tag):
        return np.array([0] if tag in self._arrays else [], np.int64)

    def array(self, tag, step):
        found = self._arrays.get(tag)
        return None if found is None else StepArray(step or 0, found)

    def text(self, tag, step):
        found = self._texts.get(tag)
        return None if found is None else StepText(step or 0, found)


def test_that_lines_have_short_labels_and_their_value_at_the_step():
    data = _Data({"loss/train": {0: 5.0, 10: 3.0}, "loss/test": {5: 4.0}})
    state = resolve(Panel("Loss", "lines", ("loss/*",)), data, 7)
    assert isinstance(state, LinesState)
    assert [(curve.label, curve.at) for curve in state.curves] == [("train", (0, 5.0)), ("test", (5, 4.0))]
    assert not state.ordered
    assert not state.message


def test_that_what_is_not_there_yet_is_told_from_what_comes_later():
    class Later(_Data):
        def steps(self, tag):
            return np.array([9])

    panels = [Panel("A", kind, ("a",)) for kind in ("heatmap", "text")]
    for panel in panels:
        assert resolve(panel, _Data(), 3).message == "Nothing recorded yet: a."
        assert "up to this step" in resolve(panel, Later(), 3).message
    verdict = Panel("Verdict", "text", ("verdict", "verdict_data"))
    assert resolve(verdict, _Data(), 3).message == "The verdict comes at the end of the run."


def test_that_curves_over_steps_share_an_axis_and_others_do_not():
    data = _Data({"a": {0: 1.0}})
    spans = [resolve(Panel("A", "lines", ("a",), x_label=x), data, 0).span for x in ("step", "size")]
    assert spans == [(0, 20), None]


def test_that_layers_are_a_row():
    data = _Data({f"entropy/layer{n}": {0: 1.0} for n in range(3)})
    state = resolve(Panel("Entropy", "lines", ("entropy/*",)), data, 0)
    assert isinstance(state, LinesState)
    assert state.ordered


def test_that_bars_have_the_parts_that_their_tags_name_at_the_step():
    points = {
        "time/online/sum": {0: 1.0, 9: 5.0},
        "time/two_pass/sum": {0: 2.0},
        "time/two_pass/write_it": {3: 4.0},
        "time/late/sum": {8: 1.0},
    }
    panel = Panel("B", "bars", ("time/*",), options={"stacked": True, "y_marks": {"copy": 3.0}})
    state = resolve(panel, _Data(points), 7)
    assert isinstance(state, BarsState)
    assert state.names == ("online", "two pass")
    assert [part.label for part in state.parts] == ["sum", "write it"]
    assert state.parts[1].tags == ("", "time/two_pass/write_it")
    np.testing.assert_array_equal([part.heights for part in state.parts], [[1.0, 2.0], [np.nan, 4.0]])
    assert state.stacked
    assert [mark.label for mark in state.guides.marks] == ["copy"]
    state = resolve(Panel("B", "bars", ("a", "b")), _Data({"a": {0: 1.0}, "b": {0: 2.0}}), 0)
    assert (state.names, len(state.parts), state.stacked) == (("a", "b"), 1, False)


@pytest.mark.parametrize(
    "kind", ["lines", "bars", "heatmap", "heads", "histogram", "scatter", "spectrum", "text"]
)
@pytest.mark.parametrize("tags", [("x",), ()])
def test_that_a_panel_without_values_says_so(kind, tags):
    assert resolve(Panel("X", kind, tags), _Data(), 3).message


def test_that_an_unknown_kind_names_its_tags():
    state = resolve(Panel("X", "hologram", ("a", "b")), _Data(), 3)
    assert type(state) is PanelState
    assert "hologram" in state.message
    assert "a, b" in state.message


def test_that_heads_get_figures_and_token_labels():
    arrays = {"attention/map": np.ones((2, 3, 4, 4)), "attention/entropy": np.ones((2, 3))}
    arrays["attention/max_logit"] = np.ones((5, 5))
    data = _Data(arrays=arrays, texts={"attention/tokens": json.dumps(list("abcdefgh"))})
    state = resolve(Panel("Maps", "heads", ("attention/map",)), data, 4)
    assert isinstance(state, HeadsState)
    assert [name for name, _ in state.figures] == ["entropy"]
    assert state.row_labels == state.column_labels == ("ab", "cd", "ef", "gh")


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [
        (np.array([[0, 300], [-5, 7]], np.int16), [[[0] * 3, [255] * 3], [[0] * 3, [7] * 3]]),
        (np.array([[[1.0, 0.5, np.nan]]], np.float32), [[[255, 128, 0]]]),
        (np.array([[[True]]]), [[[255] * 3]]),
        (np.array([[[9, 8, 7]]], np.uint8), [[[9, 8, 7]]]),
    ],
    ids=["grey", "colours", "booleans", "bytes"],
)
def test_that_a_picture_becomes_pixels(picture, wanted):
    state = resolve(Panel("P", "image", ("p",)), _Data(arrays={"p": picture}), 3)
    assert isinstance(state, ImageState)
    assert state.step == 3
    assert state.pixels[..., :3].tolist() == wanted
    assert (state.pixels[..., 3] == 255).all()


def test_that_a_picture_may_have_opacity_and_what_is_none_is_a_message():
    for picture, wanted in (([[[1, 2]]], [1, 1, 1, 2]), ([[[1, 2, 3, 4]]], [1, 2, 3, 4])):
        state = resolve(Panel("P", "image", ("p",)), _Data(arrays={"p": np.array(picture, np.uint8)}), 3)
        assert state.pixels.tolist() == [[wanted]]
    for shape in ((4,), (2, 2, 5), (0, 3, 3)):
        state = resolve(Panel("P", "image", ("p",)), _Data(arrays={"p": np.ones(shape)}), 3)
        assert str(shape) in state.message


@pytest.mark.parametrize("shape", [(4,), (0, 2, 3, 3), (2, 2)])
def test_that_a_map_of_another_shape_is_a_message(shape):
    state = resolve(Panel("Maps", "heads", ("m",)), _Data(arrays={"m": np.ones(shape)}), 0)
    assert str(shape) in state.message


def test_that_whole_numbers_become_floats_and_a_vector_one_row():
    state = resolve(Panel("M", "heatmap", ("m",)), _Data(arrays={"m": np.arange(5)}), 0)
    assert isinstance(state, HeatmapState)
    assert state.values.shape == (1, 5)
    assert state.values.dtype == np.float32


def test_that_histograms_lose_the_filler_count():
    stored = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 0.0]])
    state = resolve(Panel("H", "histogram", ("h",)), _Data(arrays={"h": stored}), 0)
    assert isinstance(state, HistogramState)
    assert state.edges.tolist() == [0, 1, 2]
    assert state.counts.tolist() == [3, 4]


def test_that_tables_leave_out_what_is_not_finite():
    data = _Data({"loss": {0: 5.0, 1: np.nan, 2: 3.0}})
    state = resolve(Panel("T", "table", ("loss",)), data, 1)
    assert isinstance(state, TableState)
    (row,) = state.rows
    assert np.isnan(row.at)
    assert (row.low, row.high, row.count) == (3.0, 5.0, 3)


def test_that_texts_take_the_first_tag_that_has_one():
    state = resolve(Panel("T", "text", ("a", "b")), _Data(texts={"b": "hello"}), 1)
    assert isinstance(state, TextState)
    assert (state.tag, state.text) == ("b", "hello")


def test_that_points_are_clouds_by_tag_and_a_tag_without_any_is_left_out():
    arrays = {"tau/a": np.array([[1, 2, 3], [4, 5, 6]]), "tau/b": np.ones((2, 1), np.float32)}
    panel = Panel("S", "scatter", ("tau/*", "tau/c"), options={"joined": True, "log_y": True})
    state = resolve(panel, _Data(arrays=arrays), 9)
    assert isinstance(state, ScatterState)
    assert [(cloud.label, cloud.x.tolist(), cloud.y.tolist()) for cloud in state.clouds] == [
        ("a", [1, 2, 3], [4, 5, 6]),
        ("b", [1], [1]),
    ]
    assert (state.joined, state.log_x, state.log_y, state.step) == (True, False, True, 9)


@pytest.mark.parametrize("array", [np.ones(4), np.ones((3, 4)), np.ones((2, 0)), np.ones((2, 2, 2))])
def test_that_points_of_another_shape_are_a_message(array):
    state = resolve(Panel("S", "scatter", ("good", "bad")), _Data(arrays={"bad": array}), 0)
    assert "(2, n)" in state.message
    assert "bad" in state.message


def test_that_a_spectrum_goes_down_from_its_largest_value():
    arrays = {"u": np.array([[0.5, 3.0], [2.0, 1.0]])}
    state = resolve(Panel("S", "spectrum", ("u",), options={"log_x": False}), _Data(arrays=arrays), 0)
    (cloud,) = state.clouds
    assert cloud.x.tolist() == [1, 2, 3, 4]
    assert cloud.y.tolist() == [3, 2, 1, 0.5]
    assert (state.joined, state.log_x, state.log_y) == (True, False, True)


def test_that_marks_are_numbers_or_the_value_of_a_tag_at_the_step():
    options = {"x_marks": {"b": 5}, "y_marks": {"learnt": "level", "no value": "none"}, "y_band": [0.5, 2]}
    data = _Data({"level": {0: 8.0, 10: 4.0}, "a": {0: 1.0}}, {"u": np.ones(3)})
    for panel in (
        Panel("S", "spectrum", ("u",), options=options),
        Panel("L", "lines", ("a",), options=options),
    ):
        guides = resolve(panel, data, 7).guides
        assert [(m.label, m.value, m.upright) for m in guides.marks] == [("b", 5, True), ("learnt", 8, False)]
        assert guides.band == (0.5, 2)
    assert [mark.value for mark in resolve(panel, data, 10).guides.marks] == [5, 4]


@pytest.mark.parametrize(
    "options",
    [
        {"x_marks": [1], "y_marks": 3, "y_band": [2], "dashed": 5},
        {"x_marks": {"a": None, "b": float("inf"), "c": True, "d": [1]}, "y_band": [2, 1]},
        {"y_band": "ab", "curve_tag": 7, "limits": [1, "2"]},
    ],
)
@pytest.mark.parametrize("kind", ["lines", "histogram", "spectrum", "scatter", "heatmap"])
def test_that_options_that_make_no_sense_change_nothing(kind, options):
    stored = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 0.0]])
    data = _Data({"a": {0: 1.0}}, {"h": stored})
    state = resolve(Panel("X", kind, ("a" if kind == "lines" else "h",), options=options), data, 0)
    assert not state.message
    if kind == "heatmap":
        assert state.limits is None
    else:
        assert state.guides.marks == ()
        assert state.guides.band is None


def test_that_predictions_are_dashed_and_curves_lie_over_histograms():
    data = _Data({"theory/0": {0: 1.0}, "measured/0": {0: 2.0}})
    state = resolve(Panel("L", "lines", ("*/0",), options={"dashed": ["theory/*"]}), data, 0)
    assert [(curve.tag, curve.dashed) for curve in state.curves] == [
        ("theory/0", True),
        ("measured/0", False),
    ]
    arrays = {"h": np.array([[0.0, 1.0], [3.0, 0.0]]), "c": np.array([[0.0, 1.0], [5.0, 6.0]])}
    panel = Panel("H", "histogram", ("h",), options={"curve_tag": "c"})
    assert resolve(panel, _Data(arrays=arrays), 0).curve.tolist() == [[0, 1], [5, 6]]
    assert resolve(panel, _Data(arrays={"h": arrays["h"]}), 0).curve.shape == (2, 0)


def test_that_parts_of_a_whole_lie_on_each_other_where_all_are_known():
    data = _Data({"a": {0: 0.5, 2: 0.25, 4: 1.0}, "b": {0: 0.5, 4: 0.0}, "c": {0: 1.0, 4: 2.0}})
    state = resolve(Panel("L", "lines", ("a", "b", "c"), options={"stacked": True}), data, 4)
    assert [(pile.steps.tolist(), pile.values.tolist()) for pile in state.piles] == [
        ([0, 4], [0.5, 1.0]),
        ([0, 4], [1.0, 1.0]),
        ([0, 4], [2.0, 3.0]),
    ]
    assert [curve.at for curve in state.curves] == [(4, 1.0), (4, 0.0), (4, 2.0)]
