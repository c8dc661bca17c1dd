import pytest
from PySide6.QtGui import QPalette

from logitscope_app.theme.icons import _SHAPES, app_icon, icon
from logitscope_app.theme.manager import MODES, ThemeManager
from logitscope_app.theme.palette import DARK, LIGHT


def test_that_switching_dresses_the_application_and_tells_once(qapp, theme):
    told = []
    theme.changed.connect(told.append)
    theme.set_mode("light")
    theme.set_mode("light")
    assert told == [LIGHT]
    assert qapp.palette().color(QPalette.ColorRole.Window).name() == LIGHT.window
    assert LIGHT.accent in qapp.styleSheet()
    theme.toggle()
    assert theme.palette is DARK


def test_that_an_unknown_theme_is_refused(theme):
    with pytest.raises(ValueError, match="purple"):
        theme.set_mode("purple")


def test_that_the_system_decides_when_asked(qapp):
    manager = ThemeManager(qapp, "system")
    assert manager.mode in MODES
    assert manager.palette in (DARK, LIGHT)
    manager.release()


@pytest.mark.parametrize("name", _SHAPES)
def test_that_icons_are_drawn(qapp, name):
    image = icon(name, "#ff0000").pixmap(24, 24).toImage()
    assert any(image.pixelColor(x, y).alpha() > 200 for x in range(24) for y in range(24))


def test_that_the_program_has_an_icon(qapp):
    assert not app_icon("#000000", "#ffffff").pixmap(32, 32).isNull()
