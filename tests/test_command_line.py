"""The command answers questions, passes the dashboard's options on, and never answers a user with a traceback."""

import importlib.util

import pytest

from logitscope import __main__ as command_line
from logitscope import __version__
from logitscope.__main__ import main


def leave(capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that may leave through ``SystemExit``."""
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def without(monkeypatch, missing: str) -> None:
    """Let a package be not installed."""

    def find(name: str):
        return None if name == missing else importlib.util.find_spec(name)

    monkeypatch.setattr(command_line, "find_spec", find)


def test_that_the_version_is_the_packages(capsys) -> None:
    assert leave(capsys, "--version") == (0, f"logitscope {__version__}\n", "")


def test_that_info_names_what_a_bug_report_needs(capsys) -> None:
    code, out, err = leave(capsys, "info")
    assert (code, err) == (0, "")
    for name in ("logitscope", "python", "isa", "threads", "numpy"):
        assert f"\n{name} " in "\n" + out
    assert __version__ in out


def test_that_help_shows_every_command_and_examples(capsys) -> None:
    code, out, _ = leave(capsys, "--help")
    assert code == 0
    for word in ("demo", "bench", "dashboard", "info", "examples:"):
        assert word in out
    code, out, _ = leave(capsys, "demo", "--help")
    assert code == 0
    assert "logitscope demo --compare" in out


def test_that_an_unknown_command_is_refused_in_a_line(capsys) -> None:
    code, out, err = leave(capsys, "fly")
    assert (code, out) == (2, "")
    assert "invalid choice: 'fly'" in err
    assert err.endswith("; see logitscope --help\n")
    assert err.count("\n") == 1


def test_that_the_dashboards_options_reach_it(capsys) -> None:
    pytest.importorskip("PySide6")
    code, out, _ = leave(capsys, "dashboard", "--help")
    assert code == 0
    assert "--screenshot" in out


def test_that_the_dashboard_refuses_what_is_no_run(capsys, tmp_path) -> None:
    pytest.importorskip("PySide6")
    path = tmp_path / "no.scope"
    path.write_text("no run")
    code, out, err = leave(capsys, "dashboard", str(path), "--screenshot", str(tmp_path / "a.png"))
    assert (code, out) == (2, "")
    assert err.startswith("logitscope dashboard: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "package", "line"),
    [
        ("demo", "torch", "logitscope demo: needs torch: pip install logitscope[torch]\n"),
        (
            "dashboard",
            "logitscope_app",
            "logitscope dashboard: needs the dashboard: pip install logitscope[app]\n",
        ),
    ],
)
def test_that_a_missing_package_is_named(capsys, monkeypatch, command: str, package: str, line: str) -> None:
    without(monkeypatch, package)
    assert leave(capsys, command) == (2, "", line)


def test_that_ctrl_c_is_no_traceback(capsys, monkeypatch) -> None:
    def interrupt() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "_info", interrupt)
    assert leave(capsys, "info") == (130, "", "")
