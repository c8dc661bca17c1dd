"""The dashboard's tests run on Qt's offscreen platform, with the cyclic collector off while Qt dispatches."""

from __future__ import annotations

import gc
import os
from functools import partial

import pytest

os.environ["QT_QPA_PLATFORM"] = "offscreen"

PATIENCE_MS = 60_000


@pytest.fixture(autouse=True)
def _no_cyclic_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def qtbot(qtbot, monkeypatch):
    """Waits long before it gives up: a busy machine is no failure."""
    for name in ("waitUntil", "waitSignal", "waitActive", "waitExposed"):
        monkeypatch.setattr(qtbot, name, partial(getattr(qtbot, name), timeout=PATIENCE_MS))
    return qtbot


@pytest.fixture
def theme(qapp):
    from logitscope_app.theme.manager import ThemeManager

    manager = ThemeManager(qapp, "dark")
    yield manager
    manager.release()


@pytest.fixture
def make_session(qtbot):
    """Sessions over readers in memory; closed at the end."""
    from logitscope_app.services.follower import Follower
    from logitscope_app.services.session import Session

    sessions = []

    def make(reader, poll_seconds=0.01):
        reader.path.touch()
        session = Session(
            lambda path: Follower(path, open_reader=lambda _: reader, poll_seconds=poll_seconds)
        )
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        session.close()


@pytest.fixture
def make_window(qtbot, theme, make_session):
    """Windows that follow a reader in memory and show their first frame; closed at the end."""
    from logitscope_app.main_window import MainWindow

    windows = []

    def make(reader, *, step=None, size=(1600, 1000), **options):
        window = MainWindow(theme, session=make_session(reader), **options)
        windows.append(window)
        if size is not None:
            window.resize(*size)
        window.show()
        with qtbot.waitActive(window):
            window.activateWindow()
        window.open_run(reader.path, step)
        qtbot.waitUntil(lambda: window.frame is not None)
        return window

    yield make
    for window in windows:
        window.close()
        window.deleteLater()
