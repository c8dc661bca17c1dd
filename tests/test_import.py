"""``import logitscope`` costs NumPy and nothing more."""

import re
import subprocess
import sys


def imported(statement: str) -> set[str]:
    """Top-level packages that a statement imports in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
    )
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s*([\w.]+)$", done.stderr, re.MULTILINE)
    return {name.partition(".")[0] for name in names}


def test_that_the_import_brings_neither_torch_nor_qt() -> None:
    packages = imported("import logitscope")
    assert "logitscope" in packages
    assert packages.isdisjoint({"torch", "PySide6", "pyqtgraph", "logitscope_app", "rich", "sqlite3"})


def test_that_operations_on_arrays_and_the_recorder_need_no_torch() -> None:
    packages = imported(
        "import numpy as np, logitscope, logitscope.record, logitscope.data\n"
        "logitscope.softmax(np.zeros(3)); logitscope.loss.cross_entropy(np.zeros((1, 3)), np.array([0]))"
    )
    assert packages.isdisjoint({"torch", "PySide6"})


def test_that_the_command_brings_torch_only_where_it_trains() -> None:
    assert "torch" not in imported("from logitscope.__main__ import main; main(['info'])")


def test_that_what_is_public_is_there() -> None:
    import logitscope

    for name in ("softmax", "attention", "set_num_threads", "record", "nn", "loss"):
        assert getattr(logitscope, name) is not None
        assert name in dir(logitscope)
