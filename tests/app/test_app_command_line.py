import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_run import write_run
from PySide6.QtGui import QImage

from logitscope_app.__main__ import main


def _run(*arguments, cwd, program=("-m", "logitscope_app"), **environment):
    """The program in a process of its own, on a machine without a display."""
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "LOGITSCOPE_RUNS")
    }
    clean["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _colours(image):
    points = [(x, y) for x in range(0, image.width(), 4) for y in range(0, image.height(), 4)]
    return {image.pixel(x, y) for x, y in points}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_that_a_screenshot_needs_no_display(tmp_path, theme):
    write_run(tmp_path / "demo.scope", 120)
    done = _run("demo.scope", "--screenshot", "demo.png", "--theme", theme, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    image = QImage(str(tmp_path / "demo.png"))
    assert (image.width(), image.height()) == (1600, 1000)
    assert len(_colours(image)) > 300


def test_that_a_directory_shows_its_newest_run_at_the_step_in_the_size(tmp_path):
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "demo.scope", 60)
    done = _run("--screenshot", "a.png", "--size", "1000x700", "--step", "20", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = _run("--screenshot", "b.png", "--size", "1000x700", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = (QImage(str(tmp_path / name)) for name in ("a.png", "b.png"))
    assert (first.width(), first.height()) == (1000, 700)
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.scope"], "gone.scope cannot be read"),
        (["noise.scope"], "noise.scope is no run file"),
        (["noise.scope", "--screenshot", "x.png"], "noise.scope is no run file"),
        (["demo.scope"], "no display; write a picture instead with --screenshot"),
        (["demo.scope", "--screenshot", "nowhere/x.png"], "does not exist"),
        (["--screenshot", "x.png"], "no directory runs"),
        (["empty", "--screenshot", "x.png"], "no run in empty"),
        (["demo.scope", "--screenshot", "empty"], "empty"),
        (["--gallery", "z-loss"], "--gallery: it pictures an experiment; use it with --screenshot"),
        (
            ["--gallery", "lamb", "--screenshot", "x.png"],
            "there is no experiment 'lamb' to run; use one of two-p",
        ),
    ],
)
def test_that_what_a_user_can_cause_is_one_line_and_code_2(tmp_path, arguments, words):
    write_run(tmp_path / "demo.scope", 3)
    (tmp_path / "noise.scope").write_bytes(b"noise" * 500)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    done = _run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.startswith("logitscope dashboard: ")
    assert done.stderr.count("\n") == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path not in before] == []


@pytest.mark.parametrize("size", ["1x1", "wide", "99999x400", "800x"])
def test_that_a_bad_size_is_refused(capsys, size):
    with pytest.raises(SystemExit) as ended:
        main(["--size", size])
    assert ended.value.code == 2
    assert "1600x1000" in capsys.readouterr().err


def test_that_a_damaged_run_gives_no_picture_or_a_whole_one(tmp_path):
    path = tmp_path / "demo.scope"
    write_run(path, 60)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    done = _run(path, "--screenshot", "x.png", cwd=tmp_path)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "x.png").exists() == (done.returncode == 0)


def test_that_torch_is_never_imported_and_models_need_no_qt(tmp_path):
    code = (
        "import sys, pkgutil, importlib, logitscope_app.models as m\n"
        "names = [m.__name__ + '.' + each.name for each in pkgutil.iter_modules(m.__path__)]\n"
        "list(map(importlib.import_module, names))\n"
        "import logitscope_app.theme.palette, logitscope_app.theme.colormaps\n"
        "assert not any(name.startswith('PySide6') for name in sys.modules)\n"
        "import logitscope_app.__main__\n"
        "assert not any(name.startswith('PySide6') for name in sys.modules)\n"
        "import logitscope_app.main_window, logitscope_app.screenshot\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_that_a_machine_without_fonts_is_told_what_to_install(tmp_path):
    write_run(tmp_path / "demo.scope", 3)
    (tmp_path / "fonts.conf").write_text("<fontconfig></fontconfig>")
    done = _run(
        "demo.scope", "--screenshot", "x.png", cwd=tmp_path, FONTCONFIG_FILE=str(tmp_path / "fonts.conf")
    )
    assert done.returncode == 2
    assert "no font" in done.stderr.splitlines()[-1]
    assert "fonts-dejavu-core" in done.stderr
    assert not (tmp_path / "x.png").exists()


def test_that_a_machine_without_qts_libraries_is_told_what_to_install(monkeypatch, tmp_path, capsys):
    write_run(tmp_path / "demo.scope", 3)
    monkeypatch.setitem(sys.modules, "PySide6.QtGui", None)
    assert main([str(tmp_path / "demo.scope"), "--screenshot", str(tmp_path / "x.png")]) == 2
    assert "Qt cannot be loaded" in capsys.readouterr().err


_WINDOW = """
import sys
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
app = QApplication([])
def look():
    (window,) = [w for w in app.topLevelWidgets() if type(w).__name__ == "MainWindow"]
    if window.frame is None:
        return
    print(window.frame.info.path.name, window.frame.step, window.timeline.wish, flush=True)
    timer.stop()
    window.close()
timer = QTimer(interval=20, timeout=look)
timer.start()
from logitscope_app.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["a.scope", "--step", "2"], "a.scope"), (["."], "b.scope"), (["a.scope", "b.scope"], "a.scope")],
)
def test_that_the_window_opens_what_was_named_and_remembers_its_layout(tmp_path, arguments, shown):
    write_run(tmp_path / "a.scope", 3)
    write_run(tmp_path / "b.scope", 5)
    home = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "QT_QPA_PLATFORM": "offscreen",
    }
    done = _run(*arguments, cwd=tmp_path, program=["-c", _WINDOW], **home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == shown
    if sys.platform == "linux":
        assert "layout" in (tmp_path / "config" / "logitscope" / "dashboard.conf").read_text()
