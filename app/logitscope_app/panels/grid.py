"""The cards of one group, arranged to fill the dock; scrolled when they cannot fit, and made as they come into view."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, QRect, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

from logitscope_app.models.arrange import Need, arrange
from logitscope_app.panels.kinds import CARDS, card_for
from logitscope_app.panels.label import named
from logitscope_app.theme.palette import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QKeyEvent, QResizeEvent, QShowEvent

    from logitscope_app.models.states import PanelState
    from logitscope_app.panels.card import Card
    from logitscope_app.theme.palette import Palette

_BATCH = 20
"""So many cards are made before the window may do something else: one takes some 0.6 ms."""
_TURN = 0.012
"""Seconds after which the making of what is inside gives way to what else the window has to do."""
_Key = tuple[str, type["PanelState"], int]
"""Title and kind of a panel, and its number among those alike."""
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
        self._states: dict[_Key, PanelState] = {}
        self._cards: dict[_Key, Card] = {}
        self._alone: Card | None = None
        self._making = QTimer(self, singleShot=True)
        self._making.timeout.connect(self._make_some)
        self.verticalScrollBar().valueChanged.connect(self._make_soon)

    @property
    def cards(self) -> tuple[Card, ...]:
        """The cards in order, as far as they are made."""
        return tuple(self._cards.values())

    @property
    def count(self) -> int:
        """How many cards there are when all are made."""
        return len(self._states)

    def set_states(self, states: Sequence[PanelState]) -> None:
        """Hand each card its state; cards come and go with their panels."""
        before, self._states = list(self._states), _keyed(states)
        for key in self._cards.keys() - self._states.keys():
            gone = self._cards.pop(key)
            if gone is self._alone:
                self._alone = None
            gone.hide()
            gone.deleteLater()
        made = self._make_cards(_BATCH)
        if made or before != list(self._states):
            self._place()
        for key, card in self._cards.items():
            card.set_state(self._states[key])
        self._make_soon()

    def finish(self) -> None:
        """Make all cards, and what is inside those in view, now; for who takes a picture."""
        if self._make_cards(len(self._states)):
            self._place()
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

    def _make_cards(self, most: int) -> bool:
        """Make the next cards, so many at most; whether there were any to make."""
        missing = [key for key in self._states if key not in self._cards][:most]
        new = {key: self._new_card(self._states[key]) for key in missing}
        known = self._cards | new
        self._cards = {key: known[key] for key in self._states if key in known}
        for key, card in new.items():
            card.set_state(self._states[key])
        return bool(new)

    def _new_card(self, state: PanelState) -> Card:
        card = card_for(state, self._palette)
        card.patient = True
        card.setParent(self._page)
        card.picked.connect(self.picked)
        card.enlarge_wished.connect(lambda: self.enlarge(card))
        return card

    def _place(self) -> None:
        """Give each card its place; those that are still to be made leave theirs free."""
        shown = {key: state for key, state in self._states.items() if self._is_shown(key)}
        width, height = self.viewport().width(), self.viewport().height()
        kinds = [CARDS[type(state)] for state in shown.values()]
        needs = [Need(kind.HEIGHT, kind.WEIGHT, kind.WIDE, kind.TALLEST) for kind in kinds]
        placed = arrange(needs, width, height, GAP // 2)
        self._page.setGeometry(QRect(QPoint(0, 0), self.viewport().size()))
        self._page.resize(width, max(placed.height, height))
        boxes = dict(zip(shown, placed.boxes, strict=True))
        for key, card in self._cards.items():
            if key in boxes:
                card.setGeometry(*boxes[key])
            card.setVisible(key in boxes)
        self._make_soon()

    def _is_shown(self, key: _Key) -> bool:
        return self._alone is None or self._cards.get(key) is self._alone

    def _cards_to_make(self) -> list[Card]:
        return [
            card for card in self._cards.values() if card.is_waiting and not card.visibleRegion().isEmpty()
        ]

    def _make_soon(self) -> None:
        if len(self._cards) < len(self._states) or any(card.is_waiting for card in self._cards.values()):
            self._making.start(0)

    def _make_some(self) -> None:
        end = time.monotonic() + _TURN
        waiting = self._cards_to_make()
        for card in waiting:
            card.bring()
            if time.monotonic() > end:
                break
        if waiting:
            self._make_soon()
        elif self._make_cards(_BATCH):
            self._place()


def _keyed(states: Sequence[PanelState]) -> dict[_Key, PanelState]:
    """States by what their cards are known by from frame to frame."""
    seen: dict[tuple[str, type[PanelState]], int] = {}
    keyed: dict[_Key, PanelState] = {}
    for state in states:
        title, kind = state.panel.title, type(state)
        number = seen.get((title, kind), 0)
        seen[title, kind] = number + 1
        keyed[title, kind, number] = state
    return keyed
