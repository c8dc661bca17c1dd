"""Threads, instruction sets, forks and Ctrl-C."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import logitscope
from logitscope import _native
from logitscope.errors import ArgumentError


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_number_of_threads_is_set_and_restored():
    default = logitscope.get_num_threads()
    logitscope.set_num_threads(3)
    assert logitscope.get_num_threads() == 3
    logitscope.set_num_threads(None)
    assert logitscope.get_num_threads() == default


@pytest.mark.parametrize("count", [0, -1, 5000])
def test_impossible_numbers_of_threads_are_refused(count):
    with pytest.raises(ArgumentError, match=f"set_num_threads: threads is {count}; use 1..4096"):
        logitscope.set_num_threads(count)


def test_environment_variables_set_the_default_number_of_threads():
    code = "import logitscope; print(logitscope.get_num_threads())"
    assert run_python(code, LOGITSCOPE_NUM_THREADS="5", OMP_NUM_THREADS="2").stdout == "5\n"
    assert run_python(code, LOGITSCOPE_NUM_THREADS="", OMP_NUM_THREADS="2").stdout == "2\n"


@pytest.mark.parametrize("name", _native.available_isas())
def test_the_environment_forces_an_instruction_set(name):
    code = "from logitscope import _native; print(_native.isa())"
    assert run_python(code, LOGITSCOPE_ISA=name).stdout == f"{name}\n"


def test_an_instruction_set_that_is_not_there_is_an_error_that_names_those_that_are():
    missing = next(name for name in ("neon", "avx2") if name not in _native.available_isas())
    result = run_python("import logitscope; logitscope.get_num_threads()", LOGITSCOPE_ISA=missing)
    assert result.returncode == 1
    assert f"LOGITSCOPE_ISA: '{missing}' cannot be used here; this CPU runs scalar" in result.stderr


def test_amx_is_switched_off_by_the_environment_and_nothing_but_0_and_1_is_understood():
    code = "from logitscope import _native; print(_native.has_bf16_products(), _native.has_bf16_tiles())"
    has_products = run_python(code).stdout.split()[0]
    assert run_python(code, LOGITSCOPE_AMX="0").stdout == f"{has_products} False\n"
    assert run_python(code, LOGITSCOPE_AMX="1").stdout == run_python(code).stdout
    result = run_python(code, LOGITSCOPE_AMX="off")
    assert result.returncode == 1
    assert "LOGITSCOPE_AMX: 'off'; use 0 to leave out the tiles" in result.stderr


def test_info_names_what_a_bug_report_needs():
    info = logitscope.info()
    assert info["logitscope"] == logitscope.__version__
    assert info["isa"].startswith(_native.isa())
    assert info["numpy"] == np.__version__


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_what_its_parent_computes():
    result = run_python(
        """
        import os
        import numpy as np, logitscope
        logitscope.set_num_threads(4)
        x = np.random.default_rng(0).standard_normal((4, 8, 128, 32), dtype=np.float32)
        wanted = logitscope.attention(x, x, x).out
        for _ in range(3):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(logitscope.attention(x, x, x).out, wanted) else 1)
            assert os.waitpid(child, 0)[1] == 0
        assert np.array_equal(logitscope.attention(x, x, x).out, wanted)
        print("same")
        """
    )
    assert result.stdout == "same\n", result.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_stops_a_long_operation():
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import numpy as np, logitscope
                x = np.ones((1, 64, 16384, 64), np.float32)
                try:
                    print("started", flush=True)
                    logitscope.attention(x, x, x)
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "started\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    # Unhindered the operation would take minutes.
    assert process.communicate(timeout=30)[0] == "interrupted\n"


def test_other_python_threads_run_while_an_operation_does():
    result = run_python(
        """
        import threading, time
        import numpy as np, logitscope
        x = np.ones((1, 2, 4096, 64), np.float32)
        ticks = []
        done = threading.Event()
        def tick():
            while not done.is_set():
                ticks.append(1)
                time.sleep(0.001)
        thread = threading.Thread(target=tick)
        thread.start()
        before = len(ticks)
        logitscope.attention(x, x, x)
        print(len(ticks) - before > 5)
        done.set()
        thread.join()
        """
    )
    assert result.stdout == "True\n", result.stderr
