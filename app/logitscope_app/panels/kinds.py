"""Which widget draws which state."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    VerdictState,
    WhatIfState,
)
from logitscope_app.panels.bars import BarsCard
from logitscope_app.panels.card import Card
from logitscope_app.panels.heads import HeadsCard
from logitscope_app.panels.heatmap import HeatmapCard
from logitscope_app.panels.histogram import HistogramCard
from logitscope_app.panels.image import ImageCard
from logitscope_app.panels.lines import LinesCard
from logitscope_app.panels.scatter import ScatterCard
from logitscope_app.panels.table import TableCard
from logitscope_app.panels.text import TextCard
from logitscope_app.panels.verdict import VerdictCard
from logitscope_app.panels.what_if import WhatIfCard

if TYPE_CHECKING:
    from logitscope_app.theme.palette import Palette

CARDS: dict[type[PanelState], type[Card]] = {
    LinesState: LinesCard,
    BarsState: BarsCard,
    HeadsState: HeadsCard,
    HeatmapState: HeatmapCard,
    HistogramState: HistogramCard,
    ImageState: ImageCard,
    ScatterState: ScatterCard,
    TableState: TableCard,
    TextState: TextCard,
    VerdictState: VerdictCard,
    WhatIfState: WhatIfCard,
    PanelState: Card,
}


def card_for(state: PanelState, palette: Palette) -> Card:
    """A new widget for the state; a plain card with its message where the kind has none of its own."""
    return CARDS[type(state)](palette)
