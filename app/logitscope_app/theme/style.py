"""The palette turned into what Qt understands: a QPalette and one style sheet."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette

from logitscope_app.theme.palette import (
    BASE_SIZE,
    GAP,
    LARGE_SIZE,
    RADIUS,
    SMALL_SIZE,
    TITLE_SIZE,
    Palette,
    rgb,
)

_MARKS = Path(__file__).with_name("marks").as_posix()
"""The pictures that a style sheet can only name: the tick of a box, the arrow of a choice; one a theme."""


def qt_palette(palette: Palette) -> QPalette:
    """Colours for widgets that the style sheet leaves to the style."""
    roles = {
        QPalette.ColorRole.Window: palette.window,
        QPalette.ColorRole.WindowText: palette.text,
        QPalette.ColorRole.Base: palette.surface,
        QPalette.ColorRole.AlternateBase: palette.raised,
        QPalette.ColorRole.Text: palette.text,
        QPalette.ColorRole.Button: palette.raised,
        QPalette.ColorRole.ButtonText: palette.text,
        QPalette.ColorRole.ToolTipBase: palette.raised,
        QPalette.ColorRole.ToolTipText: palette.text,
        QPalette.ColorRole.PlaceholderText: palette.muted,
        QPalette.ColorRole.Highlight: palette.accent,
        QPalette.ColorRole.HighlightedText: palette.on_accent,
        QPalette.ColorRole.Link: palette.accent,
    }
    result = QPalette()
    for role, colour in roles.items():
        result.setColor(role, QColor(colour))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.WindowText):
        result.setColor(QPalette.ColorGroup.Disabled, role, QColor(palette.faint))
    return result


def base_font() -> QFont:
    """The system's own interface font at the size of body text."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    font.setPixelSize(BASE_SIZE)
    return font


def fixed_font(size: int = BASE_SIZE) -> QFont:
    """The system's fixed-width font."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPixelSize(size)
    return font


def small_font() -> QFont:
    """Axis and label font."""
    font = base_font()
    font.setPixelSize(SMALL_SIZE)
    return font


def style_sheet(p: Palette) -> str:
    """The one style sheet of the program."""
    half = GAP // 2
    return f"""
QWidget {{ font-size: {BASE_SIZE}px; color: {p.text}; }}
QMainWindow, QDialog {{ background: {p.window}; }}
QMainWindow::separator {{ background: {p.window}; width: {half}px; height: {half}px; }}
QMainWindow::separator:hover {{ background: {p.accent}; }}
QToolTip {{ background: {p.raised}; color: {p.text}; border: 1px solid {p.border}; padding: {half}px; }}

QMenuBar {{ background: {p.window}; padding: 2px; }}
QMenuBar::item {{ padding: {half}px {GAP}px; border-radius: {half}px; }}
QMenuBar::item:selected {{ background: {p.raised}; }}
QMenu {{ background: {p.surface}; border: 1px solid {p.border}; padding: {half}px; }}
QMenu::item {{ padding: {half}px {3 * GAP}px {half}px {GAP * 2}px; border-radius: {half}px; }}
QMenu::item:selected {{ background: {p.accent}; color: {p.on_accent}; }}
QMenu::separator {{ height: 1px; background: {p.border}; margin: {half}px; }}

QDockWidget {{ font-size: {SMALL_SIZE}px; color: {p.muted}; titlebar-close-icon: none; }}
QDockWidget::title {{ background: {p.window}; padding: {half}px {GAP}px; text-align: left; }}
QTabBar {{ background: {p.window}; qproperty-drawBase: 0; qproperty-elideMode: ElideNone; }}
QTabBar::tab {{ background: {p.window}; color: {p.muted}; padding: {half}px {GAP + half}px; border: none;
    border-bottom: 2px solid transparent; font-size: {SMALL_SIZE}px; }}
QTabBar::tab:selected {{ color: {p.text}; border-bottom: 2px solid {p.accent}; }}
QTabBar::tab:focus {{ color: {p.accent}; }}

#dockBody, #timeline {{ background: {p.surface}; border: 1px solid {p.border}; border-radius: {RADIUS}px; }}
#panel {{ background: {p.surface}; border: 1px solid {p.border}; border-radius: {RADIUS}px; }}
#panel[current="true"] {{ border-color: {p.accent}; }}
#grid, #gridScroll, #gridScroll > QWidget {{ background: {p.window}; border: none; }}
#overlay {{ background: {_veil(p)}; }}
#claim {{ font-size: {TITLE_SIZE}px; }}
#code {{ background: {p.surface}; border: 1px solid {p.border}; border-radius: {RADIUS}px; padding: {2 * GAP}px;
    font-family: monospace; }}
#welcome {{ font-size: {LARGE_SIZE}px; font-weight: 600; }}
QProgressBar {{ background: {p.border}; border: none; border-radius: 3px; max-height: 6px; }}
QProgressBar::chunk {{ background: {p.accent}; border-radius: 3px; }}
QCheckBox {{ spacing: {GAP}px; }}
QCheckBox::indicator, QListWidget::indicator {{ width: 13px; height: 13px; border: 1px solid {p.faint};
    border-radius: 3px; background: {p.surface}; }}
QCheckBox::indicator:checked, QListWidget::indicator:checked {{ background: {p.accent};
    border-color: {p.accent}; image: url("{_MARKS}/check-{p.name}.svg"); }}
QCheckBox::indicator:focus {{ border-color: {p.accent}; }}
QTreeWidget::item {{ padding: {half}px 2px; }}
#title {{ font-size: {TITLE_SIZE}px; font-weight: 600; }}
#large {{ font-size: {LARGE_SIZE}px; font-weight: 600; }}
#muted, #message, #readout {{ color: {p.muted}; }}
#small {{ color: {p.muted}; font-size: {SMALL_SIZE}px; }}
#legend {{ color: {p.muted}; font-size: {SMALL_SIZE}px; }}
#stepNumber {{ font-size: {LARGE_SIZE}px; font-weight: 600; }}
#notice {{ background: {p.warn}; color: {p.window if p.name == "dark" else p.surface};
    padding: {half}px {GAP}px;
    border-radius: {half}px; font-weight: 600; }}

QPushButton, QToolButton, QComboBox, QLineEdit, QDoubleSpinBox, QSpinBox {{
    background: {p.raised}; border: 1px solid {p.border}; border-radius: {half}px; padding: 3px {GAP}px;
    min-height: 18px; }}
QPushButton:hover, QToolButton:hover, QComboBox:hover {{ border-color: {p.faint}; }}
QPushButton:pressed, QToolButton:pressed {{ background: {p.border}; }}
QPushButton:focus, QToolButton:focus, QComboBox:focus, QLineEdit:focus, QDoubleSpinBox:focus {{
    border-color: {p.accent}; }}
QPushButton:default, QPushButton:checked, QToolButton:checked {{
    background: {p.accent}; color: {p.on_accent}; border-color: {p.accent}; }}
QPushButton:disabled, QToolButton:disabled, QDoubleSpinBox:disabled, QComboBox:disabled {{
    background: {p.raised}; color: {p.faint}; border-color: {p.border}; }}
QToolButton#quiet {{ background: transparent; border: none; padding: 2px; }}
QToolButton#quiet:hover, QToolButton#quiet:focus {{ background: {p.raised}; }}
QToolButton::menu-indicator {{ image: none; }}
QComboBox::drop-down {{ subcontrol-origin: padding; subcontrol-position: center right; border: none; width: 20px; }}
QComboBox::down-arrow {{ image: url("{_MARKS}/down-{p.name}.svg"); width: 12px; height: 12px; }}
QComboBox QAbstractItemView {{ background: {p.surface}; border: 1px solid {p.border};
    selection-background-color: {p.accent}; selection-color: {p.on_accent}; }}
QDoubleSpinBox::up-button, QDoubleSpinBox::down-button {{ width: 0; border: none; }}

QAbstractItemView {{ background: {p.surface}; border: none; outline: none;
    selection-background-color: {p.raised};
    selection-color: {p.text}; }}
QListWidget::item {{ padding: {half}px 2px; border-radius: {half}px; }}
QListWidget::item:selected {{ background: {p.raised}; color: {p.text}; }}
QHeaderView::section {{ background: {p.surface}; color: {p.muted}; border: none;
    border-bottom: 1px solid {p.border};
    padding: {half}px {GAP}px; font-size: {SMALL_SIZE}px; }}
QTableCornerButton::section {{ background: {p.surface}; border: none; }}
QPlainTextEdit, QTextBrowser {{ background: {p.surface}; border: none; selection-background-color: {p.accent};
    selection-color: {p.on_accent}; }}

QSlider::groove:horizontal {{ height: 4px; background: {p.border}; border-radius: 2px; }}
QSlider::sub-page:horizontal {{ background: {p.accent}; border-radius: 2px; }}
QSlider::handle:horizontal {{ width: 14px; height: 14px; margin: -5px 0; border-radius: 7px;
    background: {p.text};
    border: 2px solid {p.surface}; }}
QSlider::handle:horizontal:focus, QSlider::handle:horizontal:hover {{ background: {p.accent}; }}
QSlider::sub-page:horizontal:disabled, QSlider::handle:horizontal:disabled {{ background: {p.faint}; }}

QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 0; }}
QScrollBar::handle {{ background: {p.border}; border-radius: 4px; min-height: 24px; min-width: 24px;
    margin: 1px; }}
QScrollBar::handle:hover {{ background: {p.faint}; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QAbstractScrollArea::corner {{ background: transparent; border: none; }}
QSplitter::handle {{ background: transparent; }}
QSplitter::handle:hover {{ background: {p.accent}; }}
QToolBar {{ background: {p.window}; border: none; padding: {half}px 0 0 0; spacing: 0; }}
QStatusBar {{ background: {p.window}; color: {p.muted}; }}
"""


def _veil(p: Palette) -> str:
    """The window's colour, so dense that what lies below is only guessed."""
    red, green, blue = rgb(p.window)
    return f"rgba({red}, {green}, {blue}, 235)"
