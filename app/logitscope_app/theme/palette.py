"""The colours, the type scale and the spacing of the dashboard: plain data, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

BASE_SIZE = 12
"""Body text in pixels; the scale below is in steps from it."""
SMALL_SIZE = 11
TITLE_SIZE = 13
LARGE_SIZE = 16

GAP = 8
"""The unit of spacing in pixels; half and double of it are used, nothing else."""
RADIUS = 6


@dataclass(frozen=True, slots=True)
class Palette:
    """Every colour that the program draws with, as ``#rrggbb``."""

    name: str
    window: str
    surface: str
    raised: str
    border: str
    text: str
    muted: str
    faint: str
    accent: str
    on_accent: str
    good: str
    warn: str
    bad: str
    nan: str
    series: tuple[str, ...]
    ramp: tuple[float, float]
    """The stretch of viridis that reads well as lines on ``surface``."""
    amounts: str
    """The colour map of heat maps."""
    signed: str
    """The colour map of heat maps about 0, whose middle is near ``surface``."""

    def series_colour(self, index: int) -> str:
        """Colour of the line with that index; they repeat after the last."""
        return self.series[index % len(self.series)]


DARK = Palette(
    name="dark",
    window="#0f1319",
    surface="#171c24",
    raised="#222936",
    border="#2b3442",
    text="#e7ebf1",
    muted="#9aa6b6",
    faint="#5d6a7c",
    accent="#5aa9ff",
    on_accent="#08121f",
    good="#4cc38a",
    warn="#f0b429",
    bad="#ff6b6b",
    nan="#ff3fb4",
    series=("#5aa9ff", "#ffb454", "#4cd4a0", "#ff7eb6", "#b69cff", "#e5e06a", "#5fd7e6", "#ff8a65"),
    ramp=(0.30, 1.0),
    amounts="viridis",
    signed="signed_dark",
)

LIGHT = Palette(
    name="light",
    window="#e9edf2",
    surface="#ffffff",
    raised="#f1f4f8",
    border="#d5dce5",
    text="#18202b",
    muted="#546173",
    faint="#8f9bab",
    accent="#1769d2",
    on_accent="#ffffff",
    good="#0b7f57",
    warn="#9a6200",
    bad="#c62f2f",
    nan="#d6117f",
    series=("#1769d2", "#c96a00", "#0b8a5f", "#c2297b", "#6b46c9", "#8a7a00", "#0d8299", "#b8402c"),
    ramp=(0.0, 0.82),
    amounts="ink",
    signed="signed",
)

PALETTES = {palette.name: palette for palette in (DARK, LIGHT)}


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a ``#rrggbb`` colour, each 0 to 255."""
    value = int(colour[1:], 16)
    return value >> 16, (value >> 8) & 255, value & 255


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two colours: 1 (the same) to 21; body text needs 4.5."""

    def luminance(colour: str) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
