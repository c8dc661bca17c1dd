"""The command ``logitscope-dashboard``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitscope.record import RunReader, list_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from logitscope.record import RunInfo

PROGRAM = "logitscope dashboard"
USAGE_ERROR = 2
_SYSTEM_PACKAGES = (
    "on Debian and Ubuntu: apt-get install libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 "
    "fontconfig fonts-dejavu-core"
)


class _UserError(Exception):
    """What the user can put right; its text is the one line that is printed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        _check_gallery(arguments)
        return _picture(arguments) if arguments.screenshot or arguments.film else _window(arguments)
    except _UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return USAGE_ERROR


def _check_gallery(arguments: argparse.Namespace) -> None:
    if arguments.gallery and (arguments.runs or arguments.film or not arguments.screenshot):
        message = "--gallery: it pictures an experiment; use it with --screenshot, without RUN and --film"
        raise _UserError(message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Show runs: live while they train, and afterwards."
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="run files, or a directory of them (default: runs/)"
    )
    parser.add_argument(
        "--screenshot", type=Path, metavar="PNG", help="write a picture and end; needs no display"
    )
    parser.add_argument(
        "--film",
        type=Path,
        metavar="APNG",
        help="write an animated PNG that goes through the run; no display needed",
    )
    parser.add_argument(
        "--frames", type=_frames, metavar="N", default=60, help="pictures of a film at most (default 60)"
    )
    parser.add_argument(
        "--theme", choices=("light", "dark", "system"), help="colours (default: as last time)"
    )
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="size of the window in pixels (default 1600x1000)"
    )
    parser.add_argument(
        "--gallery",
        metavar="SLUG",
        help="with --screenshot: let the gallery run an experiment in short, and picture that",
    )
    parser.add_argument("--step", type=int, metavar="N", help="show that step instead of the newest")
    return parser


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{3,5})[xX×](\d{3,5})", text)
    if not found or max(size := (int(found[1]), int(found[2]))) > 16384 or min(size) < 300:
        message = f"{text!r} is no size; use WIDTHxHEIGHT in pixels, 300 to 16384, such as 1600x1000"
        raise argparse.ArgumentTypeError(message)
    return size


def _frames(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 2 <= int(text) <= 1000:
        message = f"{text!r} is no number of pictures; use 2 to 1000"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _places(given: Sequence[Path]) -> list[Path]:
    """What to show: files and directories that are there and are what they should be."""
    for place in given:
        if place.is_dir():
            continue
        try:
            RunReader(place).close()
        except OSError as error:
            raise _UserError(_one_line(error)) from None
    return list(given)


def _default_directory() -> Path:
    return Path(os.environ.get("LOGITSCOPE_RUNS") or "runs")


def _runs_in(places: Sequence[Path]) -> list[RunInfo]:
    try:
        return [info for place in places if place.is_dir() for info in list_runs(place)]
    except OSError as error:
        raise _UserError(_one_line(error)) from None


def _picture(arguments: argparse.Namespace) -> int:
    target: Path = arguments.film or arguments.screenshot
    option = "--film" if arguments.film else "--screenshot"
    if not target.resolve().parent.is_dir():
        message = f"{option}: the directory {target.resolve().parent} does not exist"
        raise _UserError(message)
    run = None if arguments.gallery else _run_to_show(arguments.runs, option)
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    application = _application()

    from logitscope_app.main_window import DEFAULT_SIZE
    from logitscope_app.screenshot import ScreenshotError, save_film, save_screenshot
    from logitscope_app.theme.manager import ThemeManager

    theme = ThemeManager(application, arguments.theme or "dark")
    try:
        size = arguments.size or DEFAULT_SIZE
        if arguments.film and run is not None:
            save_film(run, target, theme, size=size, frames=arguments.frames)
        else:
            options = {"step": arguments.step, "experiment": arguments.gallery or ""}
            save_screenshot(run, target, theme, size=size, **options)
    except ScreenshotError as error:
        message = f"{option}: {_one_line(error)}"
        raise _UserError(message) from None
    except OSError as error:
        message = f"{option}: {target} cannot be written ({error.strerror or _one_line(error)})"
        raise _UserError(message) from None
    finally:
        theme.release()
    return 0


def _run_to_show(given: Sequence[Path], option: str) -> Path:
    places = _places(given) or [_default_directory()]
    files = [place for place in places if not place.is_dir()]
    if not given and not places[0].is_dir():
        message = f"{option}: no run was named and there is no directory {places[0]}; name a run file"
        raise _UserError(message)
    runs = files or [info.path for info in _runs_in(places)]
    if not runs:
        message = f"{option}: there is no run in {places[0]}; name a run file"
        raise _UserError(message)
    return runs[0]


def _window(arguments: argparse.Namespace) -> int:
    places = _places(arguments.runs)
    if not _has_display():
        message = "there is no display; write a picture instead with --screenshot FILE.png"
        raise _UserError(message)
    application = _application()

    from logitscope_app.main_window import MainWindow
    from logitscope_app.services.run_watcher import RunWatcher
    from logitscope_app.settings import Settings
    from logitscope_app.theme.manager import ThemeManager

    settings = Settings()
    theme = ThemeManager(application, arguments.theme or settings["theme"])
    alone = len(places) == 1 and not places[0].is_dir()
    shown = places or [_default_directory()]
    watcher = None if alone else RunWatcher(shown)
    empty = f"No runs in {shown[0]} yet."
    window = MainWindow(theme, watcher=watcher, settings=settings, empty=empty)
    if arguments.size:
        window.resize(*arguments.size)
    files = [place for place in places if not place.is_dir()]
    if files:
        window.open_run(files[0], arguments.step)
    window.show()
    code = int(application.exec())
    theme.release()
    return code


def _has_display() -> bool:
    """Whether Qt will find a screen; only Linux and its like can lack one."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))


def _application() -> Any:
    """The Qt application; Ctrl-C in the terminal ends it as it ends any program."""
    import signal

    try:
        from PySide6.QtGui import QFont, QFontMetricsF
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        message = f"Qt cannot be loaded ({_one_line(error)}); {_SYSTEM_PACKAGES}"
        raise _UserError(message) from None
    application = QApplication.instance() or QApplication([PROGRAM])
    application.setApplicationName("logitscope")
    if not QFontMetricsF(QFont()).inFont("a"):
        message = f"Qt finds no font, so no text could be read; {_SYSTEM_PACKAGES}"
        raise _UserError(message)
    if application.thread().isCurrentThread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return application


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
