import json

import numpy as np
import pytest

from logitscope.record import Panel, StepArray, StepText
from logitscope_app.models.resolve import resolve
from logitscope_app.models.series import Points
from logitscope_app.models.states import (
    HeadsState,
    HeatmapState,
    HistogramState,
    LinesState,
    PanelState,
    TableState,
    TextState,
)


class _Data:
    def __init__(self, points=None, arrays=None, texts=None):
        self._points, self._arrays, self._texts = points or {}, arrays or {}, texts or {}

    def names(self):
        return [*self._points, *self._arrays, *self._texts]

    def points(self, tag):
        steps = self._points.get(tag)
        if steps is None:
            return Points.empty()
        return Points(np.array(list(steps), np.int64), np.array(list(steps.values()), float))

    def compared(self, tag):
        return []

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


def test_that_layers_are_a_row():
    data = _Data({f"entropy/layer{n}": {0: 1.0} for n in range(3)})
    state = resolve(Panel("Entropy", "lines", ("entropy/*",)), data, 0)
    assert isinstance(state, LinesState)
    assert state.ordered


@pytest.mark.parametrize("kind", ["lines", "heatmap", "heads", "histogram", "text"])
@pytest.mark.parametrize("tags", [("x",), ()])
def test_that_a_panel_without_values_says_so(kind, tags):
    assert resolve(Panel("X", kind, tags), _Data(), 3).message


def test_that_an_unknown_kind_names_its_tags():
    state = resolve(Panel("X", "spectrum", ("a", "b")), _Data(), 3)
    assert type(state) is PanelState
    assert "spectrum" in state.message
    assert "a, b" in state.message


def test_that_heads_get_figures_and_token_labels():
    arrays = {"attention/map": np.ones((2, 3, 4, 4)), "attention/entropy": np.ones((2, 3))}
    arrays["attention/max_logit"] = np.ones((5, 5))
    data = _Data(arrays=arrays, texts={"attention/tokens": json.dumps(list("abcdefgh"))})
    state = resolve(Panel("Maps", "heads", ("attention/map",)), data, 4)
    assert isinstance(state, HeadsState)
    assert [name for name, _ in state.figures] == ["entropy"]
    assert state.row_labels == state.column_labels == ("ab", "cd", "ef", "gh")


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
