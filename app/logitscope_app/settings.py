"""What the program remembers: one table of keys; a stored value that fails its check is as if not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QByteArray, QSettings

from logitscope_app.layouts import is_layouts
from logitscope_app.panels.timeline_bar import SPEEDS
from logitscope_app.theme.manager import MODES

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT_VERSION = 1
"""Raised when docks change so much that an old layout would be wrong: Qt then refuses to restore it."""


@dataclass(frozen=True, slots=True)
class Key:
    """A remembered value: its default, how it is read back, and what makes it good."""

    default: Any
    cast: Callable[[Any], Any]
    check: Callable[[Any], bool]


def _bytes(value: Any) -> bytes:
    if isinstance(value, QByteArray):
        return bytes(value.data())
    if isinstance(value, bytes):
        return value
    message = f"not bytes: {type(value).__name__}"
    raise TypeError(message)


KEYS = {
    "theme": Key("system", str, lambda value: value in MODES),
    "speed": Key(1.0, float, lambda value: value in SPEEDS),
    "geometry": Key(b"", _bytes, lambda value: len(value) < 1 << 16),
    "layout": Key(b"", _bytes, lambda value: len(value) < 1 << 20),
    "hidden": Key("", str, lambda value: len(value) < 1 << 12),
    "layouts": Key("{}", str, is_layouts),
    "recent": Key("", str, lambda value: len(value) < 1 << 14),
}


class Settings:
    """The stored values behind :data:`KEYS`; reading never fails.

    Examples
    --------
    >>> settings = Settings(QSettings("settings.ini", QSettings.Format.IniFormat))
    >>> settings["theme"]
    'system'
    """

    def __init__(self, store: QSettings | None = None) -> None:
        self._store = QSettings("logitscope", "dashboard") if store is None else store

    def __getitem__(self, name: str) -> Any:
        key = KEYS[name]
        stored = self._store.value(name)
        if stored is None:
            return key.default
        try:
            value = key.cast(stored)
        except (TypeError, ValueError):
            return key.default
        return value if key.check(value) else key.default

    def __setitem__(self, name: str, value: Any) -> None:
        key = KEYS[name]
        if not key.check(key.cast(value)):
            message = f"settings: {name} cannot be {value!r}"
            raise ValueError(message)
        self._store.setValue(name, value)

    def clear(self, *names: str) -> None:
        """Forget some values."""
        for name in names:
            self._store.remove(name)

    def save(self) -> None:
        """Write to disk now."""
        self._store.sync()
