"""Layouts of the docks under names of the user's own."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logitscope_app.settings import Settings

MOST = 50


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the docks are, as Qt tells it, and which the user does not want."""

    state: bytes
    hidden: tuple[str, ...]


class Layouts:
    """Keeps layouts in the settings; what is stored and is none is as if not stored."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def names(self) -> list[str]:
        """Names in the order of the alphabet."""
        return sorted(self._stored())

    def get(self, name: str) -> Layout | None:
        """The layout of that name."""
        entry = self._stored().get(name)
        return None if entry is None else Layout(base64.b64decode(entry["state"]), tuple(entry["hidden"]))

    def put(self, name: str, layout: Layout) -> None:
        """Keep a layout; another of that name goes."""
        stored = self._stored()
        state = base64.b64encode(layout.state).decode()
        stored[name] = {"state": state, "hidden": list(layout.hidden)}
        self._settings["layouts"] = json.dumps(dict(list(stored.items())[-MOST:]))
        self._settings.save()

    def remove(self, name: str) -> None:
        """Forget a layout."""
        stored = self._stored()
        if stored.pop(name, None) is not None:
            self._settings["layouts"] = json.dumps(stored)
            self._settings.save()

    def _stored(self) -> dict[str, dict[str, Any]]:
        return {
            name: entry for name, entry in json.loads(self._settings["layouts"]).items() if _is_one(entry)
        }


def is_layouts(text: str) -> bool:
    """Whether a stored value is a JSON object of reasonable size."""
    try:
        return len(text) < 1 << 22 and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_one(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("state"), str):
        return False
    hidden = entry.get("hidden")
    if not isinstance(hidden, list) or not all(isinstance(name, str) for name in hidden):
        return False
    try:
        base64.b64decode(entry["state"], validate=True)
    except ValueError:
        return False
    return True
