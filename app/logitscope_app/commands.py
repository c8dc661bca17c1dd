"""Everything the window can be told to do: one table for menus, keys and the help page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """``do`` names a method of the window, called with ``arguments``."""

    menu: str
    text: str
    keys: tuple[str, ...]
    do: str
    arguments: tuple[object, ...] = ()

    def run(self, window: object) -> None:
        """Tell a window."""
        getattr(window, self.do)(*self.arguments)


COMMANDS = (
    Command("Run", "Open …", ("Ctrl+O",), "choose_run"),
    Command("Run", "Experiments …", ("Ctrl+E",), "toggle_gallery"),
    Command("Run", "Next run in the list", ("N",), "open_neighbour", (1,)),
    Command("Run", "Previous run in the list", ("P",), "open_neighbour", (-1,)),
    Command("Run", "Compare with the run under the list's cursor", ("C",), "toggle_compared"),
    Command("Run", "Save the window as PNG …", ("Ctrl+S",), "choose_picture"),
    Command("Run", "Save a film of the run …", ("Ctrl+Shift+S",), "choose_film"),
    Command("Run", "Quit", ("Ctrl+Q",), "close"),
    Command("Time", "Play or pause", ("Space",), "toggle_play"),
    Command("Time", "One step back", ("Left", ","), "step_by", (-1,)),
    Command("Time", "One step on", ("Right", "."), "step_by", (1,)),
    Command("Time", "Ten steps back", ("Shift+Left",), "step_by", (-10,)),
    Command("Time", "Ten steps on", ("Shift+Right",), "step_by", (10,)),
    Command("Time", "Previous picture", ("[", "PgUp"), "picture_by", (-1,)),
    Command("Time", "Next picture", ("]", "PgDown"), "picture_by", (1,)),
    Command("Time", "First step", ("Home",), "first"),
    Command("Time", "Last step", ("End",), "last"),
    Command("Time", "Follow the newest step", ("L",), "live"),
    Command("Time", "Play faster", ("+", "="), "change_speed", (1,)),
    Command("Time", "Play slower", ("-",), "change_speed", (-1,)),
    Command("View", "Next view", ("V",), "next_view", (1,)),
    Command("View", "Previous view", ("Shift+V",), "next_view", (-1,)),
    Command("View", "Inspect every tag", ("I",), "open_inspector"),
    Command("View", "Light or dark", ("T",), "toggle_theme"),
    Command("View", "Wear the system's theme", ("Ctrl+T",), "system_theme"),
    Command("View", "Save the layout as …", ("Ctrl+Shift+L",), "choose_layout_name"),
    Command("View", "Default layout", ("Ctrl+0",), "reset_layout"),
    Command("View", "Full screen", ("F11",), "toggle_full_screen"),
    Command("Help", "Commands …", ("Ctrl+K",), "open_palette"),
    Command("Help", "Keys", ("?", "F1"), "toggle_help"),
)

CARD_KEYS = (
    ("Tab", "to the next panel"),
    ("Arrows", "choose a head, move over a map"),
    ("M", "enlarge or shrink"),
    ("S", "save as CSV, PNG or SVG"),
    ("Y", "logarithmic axis of a plot"),
    ("Z, Shift+Z", "zoom a map; drag moves it, double click shows all"),
    ("G", "logarithmic colours of maps"),
    ("H", "a histogram over time"),
    ("O", "next figure below the heads"),
    ("R", "sort the heads by it"),
    ("X", "what if: back to what was recorded"),
    ("D", "difference to the maps seen now"),
    ("W", "difference to the compared run's maps"),
    ("Ctrl+wheel", "zoom a plot; double click shows all"),
)
"""Keys that panels listen to while they have the keyboard."""


def help_page() -> dict[str, list[tuple[str, str]]]:
    """Keys and what they do, by menu."""
    page: dict[str, list[tuple[str, str]]] = {}
    for command in COMMANDS:
        page.setdefault(command.menu, []).append(("  ".join(command.keys), command.text))
    page["Panel"] = list(CARD_KEYS)
    return page
