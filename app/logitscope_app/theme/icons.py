"""The few icons of the program, drawn as paths in the palette's colours: no files, always sharp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = 48  # drawn large on a 24-unit grid and scaled down by Qt


def _triangle(path: QPainterPath, *points: tuple[float, float]) -> None:
    path.addPolygon(QPolygonF([QPointF(x, y) for x, y in points]))
    path.closeSubpath()


def _play(path: QPainterPath) -> None:
    _triangle(path, (8, 5), (19, 12), (8, 19))


def _pause(path: QPainterPath) -> None:
    path.addRect(QRectF(7, 5, 3.5, 14))
    path.addRect(QRectF(13.5, 5, 3.5, 14))


def _back(path: QPainterPath) -> None:
    _triangle(path, (16, 6), (8, 12), (16, 18))


def _forward(path: QPainterPath) -> None:
    _triangle(path, (8, 6), (16, 12), (8, 18))


def _first(path: QPainterPath) -> None:
    path.addRect(QRectF(5, 6, 2.5, 12))
    _triangle(path, (18, 6), (9, 12), (18, 18))


def _last(path: QPainterPath) -> None:
    path.addRect(QRectF(16.5, 6, 2.5, 12))
    _triangle(path, (6, 6), (15, 12), (6, 18))


def _live(path: QPainterPath) -> None:
    path.addEllipse(QPointF(12, 12), 5, 5)


def _more(path: QPainterPath) -> None:
    for x in (6, 12, 18):
        path.addEllipse(QPointF(x, 12), 1.7, 1.7)


_SHAPES: dict[str, Callable[[QPainterPath], None]] = {
    "play": _play,
    "pause": _pause,
    "back": _back,
    "forward": _forward,
    "first": _first,
    "last": _last,
    "live": _live,
    "more": _more,
}


def icon(name: str, colour: str) -> QIcon:
    """The icon of that name in that colour."""
    path = QPainterPath()
    _SHAPES[name](path)
    return QIcon(_drawn(path, colour))


def app_icon(background: str, line: str) -> QIcon:
    """The program's icon: a softmax curve on a rounded square."""
    pixmap = QPixmap(_SIZE, _SIZE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(_SIZE / 24, _SIZE / 24)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(background))
    painter.drawRoundedRect(QRectF(1, 1, 22, 22), 5, 5)
    curve = QPainterPath(QPointF(4, 18))
    curve.cubicTo(13, 18, 11, 6, 20, 6)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(line), 2.4, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap))
    painter.drawPath(curve)
    painter.end()
    return QIcon(pixmap)


def _drawn(path: QPainterPath, colour: str) -> QPixmap:
    pixmap = QPixmap(_SIZE, _SIZE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(_SIZE / 24, _SIZE / 24)
    painter.fillPath(path, QColor(colour))
    painter.end()
    return pixmap
