import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pyqtgraph as pg
import pytest
from fake_run import FakeReader
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor

from logitscope.record import Panel
from logitscope_app.models.run_data import RunData
from logitscope_app.models.series import Points, piled
from logitscope_app.models.states import (
    BarsState,
    Cloud,
    Curve,
    Guides,
    HeadsState,
    HeatmapState,
    HistogramState,
    ImageState,
    LinesState,
    Mark,
    PanelState,
    Part,
    ScatterState,
    TableRow,
    TableState,
    TextState,
    VerdictState,
    WhatIfState,
)
from logitscope_app.models.verdict import Check, Verdict
from logitscope_app.panels.card import Card
from logitscope_app.panels.kinds import CARDS, card_for
from logitscope_app.panels.lines import LinesCard
from logitscope_app.panels.plot import pen
from logitscope_app.theme.palette import DARK, LIGHT


def _frame(step=None, steps=120):
    data = RunData(FakeReader("demo.scope", steps))
    data.refresh()
    return data.frame(step)


def _states():
    frame = _frame()
    states = {type(state): state for state in reversed(frame.panels)}
    values = np.linspace(-1, 1, 12).reshape(3, 4)
    states[HeatmapState] = HeatmapState(Panel("M", "heatmap", ("m",)), 5, tag="m", values=values)
    states[ImageState] = ImageState(
        Panel("I", "image", ("i",)), 5, tag="i", pixels=np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    )
    states[HistogramState] = HistogramState(
        Panel("H", "histogram", ("h",)), 5, tag="h", edges=np.arange(4.0), counts=np.array([1.0, 5.0, 2.0])
    )
    states[TableState] = TableState(
        Panel("T", "table", ("a",)), 5, rows=(TableRow("a", "a", 1.5, None, float("nan"), 1200),)
    )
    heads = np.random.default_rng(0).normal(size=(2, 2, 12, 4)).astype(np.float32)
    states[WhatIfState] = WhatIfState(
        Panel("W", "what-if", ("attention/query", "attention/key")), 5, query=heads, key=heads
    )
    clouds = tuple(Cloud(f"s/{k}", f"k{k}", 10.0 ** np.arange(1, 5), np.arange(4.0) + k) for k in range(2))
    guides = Guides((Mark("L1", 300.0, True), Mark("limit", 2.0, False)), (0.5, 2.0))
    states[ScatterState] = ScatterState(
        Panel("S", "scatter", ("s/*",), x_label="classes"), 5, clouds=clouds, log_x=True, guides=guides
    )
    parts = (
        Part("sum", ("b/one/sum", "b/two/sum"), np.array([2.0, 3.0])),
        Part("write", ("b/one/write", ""), np.array([1.0, np.nan])),
    )
    states[BarsState] = BarsState(
        Panel("B", "bars", ("b/*",)), 5, names=("one", "two"), parts=parts, guides=guides
    )
    verdict = Verdict(
        "StableMax learns <more>",
        False,
        (Check("gain", 0.1, "at least", 0.2, False), Check("loss", 0.1, "at most", 0.2, True)),
        (("accuracy", 0.9),),
        (("accuracy of softmax", float("nan")),),
        ("one seed",),
    )
    states[VerdictState] = VerdictState(
        Panel("V", "text", ("verdict",)), 5, "", "verdict", "in words", verdict
    )
    states[PanelState] = PanelState(Panel("?", "image", ("s",)), 5, "cannot draw")
    return states


STATES = _states()


def _titled(title):
    return next(state for state in _frame().panels if state.panel.title == title)


def _lines(values, **options):
    points = Points(np.arange(len(values)), values)
    return LinesState(Panel("A", "lines", ("a",)), 0, "", (Curve("a", "a", points, None),), **options)


@pytest.fixture
def show(qtbot):
    cards = []

    def make(state, palette=DARK):
        card = card_for(state, palette)
        card.resize(420, 320)
        card.set_state(state)
        cards.append(card)
        with qtbot.waitExposed(card):
            card.show()
        return card

    yield make
    for card in cards:
        card.close()
        card.deleteLater()


def _colours(widget):
    image = widget.grab().toImage()
    points = [(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)]
    return {image.pixel(x, y) for x, y in points}


def test_that_every_state_has_a_card():
    assert set(STATES) == set(CARDS)


@pytest.mark.parametrize("kind", CARDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("palette", [DARK, LIGHT], ids=lambda palette: palette.name)
def test_that_every_kind_draws_and_saves_itself(show, kind, palette, theme, tmp_path):
    theme.set_mode(palette.name)
    card = show(STATES[kind], palette)
    assert card.title.text() == STATES[kind].panel.title
    assert len(_colours(card)) > 8
    for suffix in (".csv", ".png", ".svg"):
        card.save(tmp_path / f"panel{suffix}")
    assert (tmp_path / "panel.png").read_bytes().startswith(b"\x89PNG")
    assert ET.fromstring((tmp_path / "panel.svg").read_bytes()).tag.endswith("svg")
    assert (tmp_path / "panel.csv").stat().st_size > 5


@pytest.mark.parametrize("kind", CARDS, ids=lambda kind: kind.__name__)
def test_that_a_message_takes_the_place_of_the_picture_and_gives_it_back(show, kind, theme):
    state = STATES[kind]
    card = show(state)
    bare = dataclasses.replace(state, message="Nothing yet.")
    card.set_state(bare)
    assert card.message.isVisible()
    assert card.message.text() == "Nothing yet."
    if kind is not PanelState:
        card.set_state(state)
        assert card.content.isVisible()


def test_that_a_hidden_card_draws_only_the_last_of_its_states(qtbot, theme, monkeypatch):
    drawn = []
    monkeypatch.setattr(LinesCard, "draw", lambda card: drawn.append(card.state))
    card = card_for(STATES[LinesState], DARK)
    states = [dataclasses.replace(STATES[LinesState], step=step) for step in (1, 2, 3)]
    for state in states:
        card.set_state(state)
    assert drawn == []
    card.show()
    assert drawn == [states[-1]]
    card.set_state(states[-1])
    assert drawn == [states[-1]]
    card.close()
    card.deleteLater()


def test_that_lines_write_the_values_at_the_cursor(show, theme):
    state = _titled("Attention entropy")
    card = show(state)
    entries = card.legend.entries
    assert [entry.label for entry in entries] == ["L0", "L1", "L2", "L3"]
    assert entries[0].value == f"{state.curves[0].at[1]:.3g}"


def test_that_a_hovered_plot_reads_the_step_under_the_pointer_and_a_click_picks_it(qtbot, show, theme):
    card = show(_titled("Loss"))
    card.grab()
    view = card.plot.view
    scene = view.mapViewToScene(QPointF(60.2, 3.0))
    spot = card.plot.widget.mapFromScene(scene)
    viewport = card.plot.widget.viewport()
    card.plot.widget.scene().sigMouseMoved.emit(scene)
    assert card.aside.text() == "step 60"
    with qtbot.waitSignal(card.picked) as picked:
        qtbot.mouseClick(viewport, Qt.MouseButton.LeftButton, pos=spot)
    assert abs(picked.args[0] - 60) <= 1


def test_that_a_single_curve_has_its_value_beside_the_title(show, theme):
    card = show(_titled("Weight norm"))
    assert not card.legend.isVisible()
    assert float(card.aside.text()) > 60


def test_that_an_axis_shows_the_run_and_that_nothing_is_below_zero(show, theme):
    state = _lines(np.zeros(1), span=(0, 200))
    card = show(state)
    across, up = card.plot.view.viewRange()
    assert across[0] <= 0
    assert 200 <= across[1] < 220
    assert -0.1 < up[0] < 0 < up[1]
    card.set_state(_lines(np.array([-3.0, 4.0])))
    card.grab()
    across, up = card.plot.view.viewRange()
    assert across[1] < 2
    assert up[0] < -3
    card.log_action.setChecked(True)
    card.set_state(dataclasses.replace(state, span=(0, 300)))
    card.grab()
    assert card.plot.view.viewRange()[0][1] >= 300


@pytest.mark.parametrize("values", [[np.nan] * 5, [1.0, np.nan, np.inf, 2.0], [0.0, -1.0], [3.0]])
def test_that_odd_values_are_drawn_on_both_axes(show, theme, values):
    state = STATES[LinesState]
    curve = state.curves[0]
    points = curve.points.__class__(np.arange(len(values)), np.array(values))
    odd = dataclasses.replace(
        state, curves=(dataclasses.replace(curve, points=points, at=points.at(None)),), step=len(values) - 1
    )
    card = show(odd)
    card.log_action.setChecked(True)
    assert card.plot.log_y
    card.grab()
    card.log_action.setChecked(False)
    card.grab()


def test_that_heads_choose_by_key_and_read_cells_exactly(qtbot, show, theme):
    state = STATES[HeadsState]
    card = show(state)
    card.choose(1, 1)
    card.grid.setFocus()
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Down):
        qtbot.keyClick(card.grid, key)
    assert card.selected == (3, 2)
    card.large.point_at((40, 7))
    value = float(state.maps[3, 2, 40, 7])
    assert card.caption.text().startswith("L3 H2")
    assert f"row 40 “{state.row_labels[40]}”" in card.caption.text()
    assert f"column 7 “{state.column_labels[7]}”" in card.caption.text()
    shown = card.caption.text().rsplit(" ", 1)[1].replace("−", "-")
    assert float(shown) == pytest.approx(value, rel=1e-3)


def test_that_clicks_and_the_pointer_find_tiles_and_cells(qtbot, show, theme):
    card = show(STATES[HeadsState])
    tile = card.grid.tile(2, 3)
    qtbot.mouseClick(card.grid, Qt.MouseButton.LeftButton, pos=tile.center().toPoint())
    assert card.selected == (2, 3)
    card.large.setFocus()
    qtbot.keyClick(card.large, Qt.Key.Key_Down)
    qtbot.keyClick(card.large, Qt.Key.Key_Down)
    qtbot.keyClick(card.large, Qt.Key.Key_Right)
    assert "row 1" in card.caption.text()
    assert "column 1" in card.caption.text()
    qtbot.keyClick(card.large, Qt.Key.Key_Escape)
    assert "row" not in card.caption.text()


def test_that_the_figure_below_the_heads_can_be_changed(show, theme):
    card = show(STATES[HeadsState])
    assert card.figure_name.text().endswith("entropy")
    card.next_figure()
    assert card.figure_name.text().endswith("max logit")
    before = _colours(card.large)
    card.log_action.setChecked(True)
    assert _colours(card.large) != before


def test_that_maps_of_nothing_but_nan_zero_or_one_cell_are_drawn(show, theme):
    state = STATES[HeadsState]
    for maps in (
        np.full((1, 1, 3, 3), np.nan),
        np.zeros((2, 1, 4, 4)),
        np.ones((1, 1, 1, 1)),
        -np.ones((1, 2, 3, 5)),
    ):
        card = show(dataclasses.replace(state, maps=maps, figures=(), row_labels=(), column_labels=()))
        assert len(_colours(card)) > 8


def test_that_many_heads_fit_into_their_place(show, theme):
    maps = np.random.default_rng(0).random((24, 16, 8, 8)).astype(np.float32)
    figure = (("entropy", maps.mean(axis=(2, 3))),)
    card = show(dataclasses.replace(STATES[HeadsState], maps=maps, figures=figure))
    last = card.grid.tile(23, 15)
    assert card.grid.rect().contains(last.toAlignedRect().adjusted(1, 1, -1, -1))


def test_that_texts_show_their_markup_as_it_is(show, theme):
    state = dataclasses.replace(
        STATES[TextState], text="<b>bold</b>", panel=Panel("<i>x</i>", "text", ("t",))
    )
    card = show(state)
    assert card.edit.toPlainText() == "<b>bold</b>"
    assert card.title.text() == "<i>x</i>"


def test_that_a_histogram_reads_its_bins(show, theme):
    card = show(STATES[HistogramState])
    card.plot.hovered.emit(1.5)
    assert card.aside.text() == "1 … 2: 5"
    card.plot.hovered.emit(9.0)
    assert card.aside.text() == ""


def _bars(card):
    return [item for item in card.plot.item.items if isinstance(item, pg.BarGraphItem) and item.isVisible()]


def test_that_parts_lie_beside_each_other_or_on_each_other(show, theme):
    state = STATES[BarsState]
    card = show(state)
    sums, writes = _bars(card)
    np.testing.assert_allclose(sums.opts["x"], [-0.19, 0.81])
    np.testing.assert_allclose(writes.opts["x"], [0.19])  # the other bar has no such part
    assert [tick for _, tick in card.plot.item.getAxis("bottom")._tickLevels[0]] == ["one", "two"]
    card.set_state(dataclasses.replace(state, stacked=True, parts=state.parts[::-1]))
    writes, sums = _bars(card)
    np.testing.assert_allclose(sums.opts["x"], [0, 1])
    np.testing.assert_allclose(sums.opts["y0"], [1, 0])
    card.set_state(dataclasses.replace(state, parts=state.parts[:1]))
    assert len(_bars(card)) == 1


def test_that_bars_are_read_under_the_pointer(show, theme):
    card = show(STATES[BarsState])
    assert [(entry.label, entry.value) for entry in card.legend.entries] == [("sum", ""), ("write", "")]
    card.plot.hovered.emit(0.8)
    assert card.aside.text() == "two"
    assert [entry.value for entry in card.legend.entries] == ["3", "–"]
    card.plot.hovered.emit(7.0)
    assert card.aside.text() == ""
    card.set_state(dataclasses.replace(STATES[BarsState], parts=STATES[BarsState].parts[:1]))
    card.plot.hovered.emit(0.0)
    assert card.aside.text() == "one   2"
    assert not card.legend.isVisible()


def test_that_points_are_read_under_the_pointer_on_either_axis(show, theme):
    card = show(STATES[ScatterState])
    assert card.plot.log_x
    assert not card.plot.log_y
    card.plot.hovered.emit(1200.0)
    assert card.aside.text() == "classes 1,000"
    assert [(entry.label, entry.value) for entry in card.legend.entries] == [("k0", "2"), ("k1", "3")]
    card.log_x_action.setChecked(False)
    card.plot.hovered.emit(4000.0)
    assert card.aside.text() == "classes 1,000"
    card.plot.hovered.emit(None)
    assert card.aside.text() == ""
    assert [entry.value for entry in card.legend.entries] == ["", ""]


def test_that_points_lie_where_their_axes_say(show, theme):
    state = STATES[ScatterState]
    card = show(state)
    card.log_y_action.setChecked(True)
    card.grab()
    x, y = card.plot.item.listDataItems()[1].getData()
    np.testing.assert_allclose(x, np.log10(state.clouds[1].x))
    np.testing.assert_allclose(y, np.log10(state.clouds[1].y))
    low, high = card.plot.view.viewRange()[0]
    assert low < 1
    assert high > 4


def test_that_marks_and_bands_follow_the_axes_and_go_with_the_state(show, theme):
    state = STATES[ScatterState]
    card = show(state)
    assert [line.value() for line in card.guides.lines] == [0.5, 2.0, pytest.approx(np.log10(300)), 2.0]
    card.log_y_action.setChecked(True)
    card.log_x_action.setChecked(False)
    values = [line.value() for line in card.guides.lines]
    assert values == pytest.approx([np.log10(0.5), np.log10(2), 300, np.log10(2)])
    card.set_state(dataclasses.replace(state, guides=Guides((Mark("none", -1.0, False),))))
    assert card.guides.lines == []


def test_that_labels_of_marks_lie_where_there_is_room(show, theme):
    marks = [
        Mark("left", 20.0, True),
        Mark("right", 9000.0, True),
        Mark("low", 0.2, False),
        Mark("high", 3.9, False),
    ]
    card = show(dataclasses.replace(STATES[ScatterState], guides=Guides(tuple(marks))))
    card.grab()  # what is seen is settled when it is drawn
    anchors = {line.label.format: tuple(line.label.anchor) for line in card.guides.lines}
    assert anchors == {"left": (0, 0.5), "right": (1, 0.5), "low": (1, 1), "high": (1, 0)}


def test_that_lines_over_a_logarithmic_axis_keep_cursor_and_pointer(qtbot, show, theme):
    state = STATES[LinesState]
    panel = dataclasses.replace(state.panel, options={"log_x": True, "y_marks": {"half": 0.5}})
    card = show(dataclasses.replace(state, panel=panel, guides=Guides((Mark("half", 0.5, False),)), step=100))
    assert card.plot.log_x
    assert [line.value() for line in card.guides.lines] == [0.5]
    card.grab()
    scene = card.plot.view.mapViewToScene(QPointF(1.5, 3.0))
    seen = []
    card.plot.hovered.connect(seen.append)
    card.plot.widget.scene().sigMouseMoved.emit(scene)
    assert seen == [pytest.approx(10**1.5, rel=0.05)]


def test_that_a_prediction_has_the_colour_of_what_it_predicts(show, theme):
    first = STATES[LinesState].curves[0]
    named = [("measured/0", False), ("measured/1", False), ("theory/0", True), ("theory/1", True)]
    curves = tuple(dataclasses.replace(first, tag=tag, label=tag, dashed=dashed) for tag, dashed in named)
    card = show(dataclasses.replace(STATES[LinesState], curves=curves))
    colours = [entry.colour for entry in card.legend.entries]
    assert colours[:2] == colours[2:]
    assert colours[0] != colours[1]


def test_that_areas_fill_the_plot_and_the_legend_keeps_the_parts(show, theme):
    state = STATES[LinesState]
    first = state.curves[0]
    half = first.points.__class__(np.arange(3), np.full(3, 0.5))
    parts = [dataclasses.replace(first, tag=tag, label=tag, points=half, at=(2, 0.5)) for tag in "ab"]
    card = show(dataclasses.replace(state, curves=tuple(parts), piles=tuple(piled([half, half])), step=2))
    assert [entry.value for entry in card.legend.entries] == ["0.5", "0.5"]
    image = card.plot.widget.grab().toImage()
    view, widget = card.plot.view, card.plot.widget
    for height, index in ((0.27, 0), (0.73, 1)):  # between the lines of the grid
        spot = widget.mapFromScene(view.mapViewToScene(QPointF(0.6, height)))
        assert image.pixelColor(spot).name() == DARK.series_colour(index)


def test_that_a_histogram_keeps_its_bins_however_narrow_or_near_it_is_seen(show, theme):
    edges, counts = np.linspace(0.0, 1.0, 65), np.arange(64.0)
    card = show(dataclasses.replace(STATES[HistogramState], edges=edges, counts=counts))
    for place in ((0, 1), (0.4, 0.5)):
        for width in (60, 400):
            card.plot.item.setXRange(*place, padding=0)
            card.resize(width, 150)
            card.set_state(dataclasses.replace(card.state))
            card.grab()
            x, y = card.plot.item.listDataItems()[0].getData()
            assert (len(x), len(y)) == (65, 64)


def test_that_points_in_any_order_are_all_drawn_however_near_they_are_seen(show, theme):
    x = np.random.default_rng(0).permutation(1000) / 1000
    state = STATES[ScatterState]
    card = show(dataclasses.replace(state, clouds=(Cloud("s", "s", x, x),), log_x=False, guides=Guides()))
    card.resize(60, 150)
    card.plot.item.setXRange(0.4, 0.5, padding=0)
    card.grab()
    np.testing.assert_array_equal(card.plot.item.listDataItems()[0].getData()[0], x)


def test_that_a_curve_over_a_histogram_is_as_high_as_its_bars(show, theme):
    state = dataclasses.replace(STATES[HistogramState], curve=np.array([[-9.0, 1, 2], [100.0, 2, 1]]))
    card = show(state)
    curve = card.plot.item.listDataItems()[1]
    np.testing.assert_allclose(curve.getOriginalDataset(), [[1, 2], [5, 2.5]])


def test_that_fixed_limits_say_what_a_colour_means(show, theme):
    state = dataclasses.replace(STATES[HeatmapState], limits=(0.0, 1.0))
    pictures = [dataclasses.replace(state, values=np.full((2, 2), value)) for value in (0.0, 1.0)]
    dark, bright = (_colours(show(picture)) for picture in pictures)
    assert dark - bright
    assert bright - dark


def test_that_a_picture_keeps_its_proportions_and_is_read_under_the_pointer(qtbot, show, theme):
    pixels = np.full((2, 4, 4), 255, np.uint8)
    pixels[1, 3] = [200, 10, 30, 255]
    card = show(dataclasses.replace(STATES[ImageState], pixels=pixels))
    box = card.view.box()
    assert box.width() == pytest.approx(2 * box.height())
    assert (200, 10, 30) in {QColor(colour).toTuple()[:3] for colour in _colours(card)}
    assert card.aside.text() == "step 5"
    qtbot.mouseMove(card.view, (box.bottomRight() - QPointF(3, 3)).toPoint())
    assert card.aside.text() == "row 1 → column 3: 200 10 30"
    assert card.view.reading(box.left() - 5, 1.0) == ""


def test_that_tables_write_dashes_and_names_for_what_is_no_number(show, theme):
    card = show(STATES[TableState])
    assert [card.table.item(0, column).text() for column in range(5)] == ["a", "1.5", "–", "NaN", "1,200"]


def test_that_a_plain_card_is_the_last_resort():
    assert CARDS[PanelState] is Card


def test_that_a_curve_is_as_wide_on_a_fine_screen(qapp, monkeypatch):
    plain = pen("#336699", 1.6).widthF()
    monkeypatch.setattr(type(qapp), "devicePixelRatio", lambda _app: 2.0)
    assert (plain, pen("#336699", 1.6).widthF()) == (1.6, 3.2)
