"""The cards of one group, arranged to fill the dock; scrolled when they cannot fit, and made as they come into view."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QRect, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

from logitscope_app.models.arrange import Need, arrange
from logitscope_app.panels.kinds import card_for
from logitscope_app.panels.label import named
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QKeyEvent, QResizeEvent, QShowEvent

    from logitscope_app.models.states import PanelState
    from logitscope_app.panels.card import Card
from logitscope_app.theme.palette import Palette

_TURN = 0.012
"""Seconds after which the making of cards gives way to what else the window has to do."""
_SCROLLING = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)


class PanelGrid(QScrollArea):
    """Keeps a card a panel; ``M`` on a card makes it fill the grid, and again gives the place back."""

    picked = Signal(int)

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self.setObjectName("gridScroll")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._page = named(QWidget(), "grid")
        self.setWidget(self._page)
        self._palette = palette
        self._cards: dict[tuple[str, type[PanelState], int], Card] = {}
        self._alone: Card | None = None
        self._making = QTimer(self, singleShot=True)
        self._making.timeout.connect(self._make_some)
        self.verticalScrollBar().valueChanged.connect(self._make_soon)

    @property
    def cards(self) -> tuple[Card, ...]:
        """The cards in order."""
        return tuple(self._cards.values())

    def set_states(self, states: Sequence[PanelState]) -> None:
        """Hand each card its state; cards come and go with their panels."""
        seen: dict[tuple[str, type[PanelState]], int] = {}
        cards: dict[tuple[str, type[PanelState], int], Card] = {}
        for state in states:
            name = (state.panel.title, type(state))
            seen[name] = seen.get(name, -1) + 1
            key = (*name, seen[name])
            cards[key] = self._cards.get(key) or self._new_card(state)
        changed = list(cards) != list(self._cards)
        for key in self._cards.keys() - cards.keys():
            gone = self._cards[key]
            if gone is self._alone:
                self._alone = None
            gone.hide()
            gone.deleteLater()
        self._cards = cards
        if changed:
            self._place()
        for card, state in zip(cards.values(), states, strict=True):
            card.set_state(state)
        self._make_soon()

    def finish(self) -> None:
        """Make all that is in view now; for who takes a picture."""
        for card in self._cards_to_make():
            card.bring()

    def set_palette(self, palette: Palette) -> None:
        """Wear other colours."""
        self._palette = palette
        for card in self._cards.values():
            card.set_palette(palette)

    def enlarge(self, card: Card) -> None:
        """Give a card the whole grid, or give it back."""
        self._alone = None if self._alone is card else card
        self._place()
        card.setFocus()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Arrange anew."""
        super().resizeEvent(event)
        self._place()

    def showEvent(self, event: QShowEvent) -> None:
        """Make what comes into view."""
        super().showEvent(event)
        self._make_soon()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Scroll with up, down and page keys; other keys are the window's."""
        if event.key() in _SCROLLING and not event.modifiers() and self.verticalScrollBar().maximum():
            super().keyPressEvent(event)
        else:
            event.ignore()

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Bring the card that gets the keyboard into view."""
        moved = super().focusNextPrevChild(forward)
        focus = self.focusWidget()
        if moved and focus is not None and self._page.isAncestorOf(focus):
            self.ensureWidgetVisible(focus)
        return moved

    def _new_card(self, state: PanelState) -> Card:
        card = card_for(state, self._palette)
        card.patient = True
        card.setParent(self._page)
        card.picked.connect(self.picked)
        card.enlarge_wished.connect(lambda: self.enlarge(card))
        return card

    def _place(self) -> None:
        shown = [self._alone] if self._alone is not None else list(self._cards.values())
        width, height = self.viewport().width(), self.viewport().height()
        needs = [Need(card.HEIGHT, card.WEIGHT, card.WIDE, card.TALLEST) for card in shown]
        placed = arrange(needs, width, height, GAP // 2)
        self._page.setGeometry(QRect(QPoint(0, 0), self.viewport().size()))
        self._page.resize(width, max(placed.height, height))
        for card in self._cards.values():
            if card not in shown:
                card.hide()
        for card, box in zip(shown, placed.boxes, strict=True):
            card.setGeometry(*box)
            card.show()
        self._make_soon()

    def _cards_to_make(self) -> list[Card]:
        return [
            card for card in self._cards.values() if card.is_waiting and not card.visibleRegion().isEmpty()
        ]

    def _make_soon(self) -> None:
        if any(card.is_waiting for card in self._cards.values()):
            self._making.start(0)

    def _make_some(self) -> None:
        end = time.monotonic() + _TURN
        for card in self._cards_to_make():
            card.bring()
            if time.monotonic() > end:
                self._making.start(0)
                break
