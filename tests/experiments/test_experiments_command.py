"""``logitscope list`` and ``logitscope run``: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from logitscope import record
from logitscope.__main__ import main
from logitscope.experiments import PAPERS, Check, Verdict, paper

TOY = '''
"""A toy."""
import time
from logitscope.experiments import Check, Verdict
SMOKE = {"seeds": (5,), "steps": 2}
def run(scope, *, seeds=(0, 1, 2), progress=None, steps=4, pause=0.0, sizes=(1, 2)):
    scope.panel("Toy", "lines", ["toy"])
    progress.begin(steps * len(seeds))
    for seed in seeds:
        for step in range(steps):
            scope.scalar("toy", seed + step, step)
            progress.advance(1, f"seed {seed}")
            time.sleep(pause)
    return Verdict("Toys count.", {"steps": float(steps)}, {"none": 0.0}, (Check("steps", steps, "at least", 3),))
'''


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """An experiment of no time in place of that of LAMB, and a directory of one's own."""
    module = type(sys)("logitscope.experiments.lamb")
    exec(TOY, module.__dict__)
    monkeypatch.setitem(sys.modules, "logitscope.experiments.lamb", module)
    real = paper.Paper.built
    monkeypatch.setattr(paper.Paper, "built", property(lambda self: self.slug == "lamb" or real.fget(self)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOGITSCOPE_RUNS", raising=False)
    return tmp_path


def test_that_the_list_shows_all_and_says_what_is_built(capsys) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 50
    assert sum("  built  " in line for line in out) == sum(paper.built for paper in PAPERS)


def test_that_the_list_can_be_narrowed(capsys) -> None:
    main(["list", "--area", "attention", "svm"])
    assert capsys.readouterr().out.split()[0] == "attention-as-svm"
    main(["list", "--built"])
    assert "not built" not in capsys.readouterr().out
    main(["list", "no such paper"])
    assert capsys.readouterr() == ("", "no paper is like that; logitscope list shows all\n")


def test_that_a_program_can_read_the_list(capsys) -> None:
    main(["list", "--json"])
    facts = {entry["slug"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert facts["two-pass-softmax"]["command"] == [
        sys.executable,
        "-m",
        "logitscope",
        "run",
        "two-pass-softmax",
    ]
    assert facts["lamb"]["built"] is False
    assert facts["lamb"]["command"] is None
    assert facts["lamb"]["claim"]


def test_that_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from logitscope.__main__ import main; main(['list']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_that_a_run_says_what_it_found_and_keeps_it(toy, capsys) -> None:
    assert main(["run", "lamb", "--out", "found.json", "--run", "a.scope"]) == 0
    out, err = capsys.readouterr()
    assert "Toys count.\n  reproduced" in out
    assert "steps: 4, at least 3: yes" in out
    assert "run file a.scope" in err
    (found,) = json.loads((toy / "found.json").read_text())
    assert found["seeds"] == [0, 1, 2]
    assert found["verdict"]["reproduced"] is True
    with record.RunReader(toy / "a.scope") as run:
        assert run.info.meta["experiment"] == "lamb"
        assert json.loads(run.text("verdict_data").text) == found["verdict"]
        assert run.text("verdict").text.startswith("Toys count.\nreproduced")
        assert json.loads(run.text("progress").text)["share"] == 1.0


def test_that_a_smoke_run_decides_nothing_and_options_reach_the_experiment(toy, capsys) -> None:
    assert main(["run", "lamb", "--smoke", "--out", "s.json"]) == 0
    assert "decides nothing" in capsys.readouterr().out
    assert json.loads((toy / "s.json").read_text())[0]["seeds"] == [5]
    assert main(["run", "lamb", "--seed", "7", "--set", "steps=1", "--out", "s.json"]) == 0
    assert "NOT reproduced" in capsys.readouterr().out
    (found,) = json.loads((toy / "s.json").read_text())
    assert (found["seeds"], found["options"]) == ([7], {"steps": 1})


def test_that_numbers_of_ones_own_that_an_experiment_cannot_take_are_blamed(toy, capsys, monkeypatch) -> None:
    def fail(scope, *, seeds=(0,), progress=None, steps=4, sizes=(1, 2)):
        assert sizes == (3,)  # one number where there are several
        return 1 / (steps - 5)

    monkeypatch.setattr(sys.modules["logitscope.experiments.lamb"], "run", fail)
    assert main(["run", "lamb", "--set", "steps=5", "--set", "sizes=3"]) == 2
    wanted = "lamb cannot be run with steps=5, sizes=3 (ZeroDivisionError: division by zero); use others\n"
    assert capsys.readouterr().err.endswith(wanted)
    monkeypatch.setattr(sys.modules["logitscope.experiments.lamb"], "SMOKE", {"steps": 5, "sizes": (3,)})
    with pytest.raises(ZeroDivisionError):  # the experiment's own fault
        main(["run", "lamb", "--smoke"])


def test_that_the_document_of_verdicts_is_renewed_entry_by_entry(toy, capsys) -> None:
    assert main(["run", "lamb", "--verdicts", "docs/v.md"]) == 0
    page = (toy / "docs" / "v.md").read_text()
    assert "| [lamb](#lamb) | yes | +33 % | 0:00 | 0, 1, 2 |" in page
    assert "Toys count. **Reproduced.**" in page
    entries = json.loads((toy / "docs" / "v.json").read_text())
    (toy / "docs" / "v.json").write_text(json.dumps({**entries, "polycom": entries["lamb"]}))
    assert main(["run", "lamb", "--verdicts", "docs/v.md", "--seeds", "3,4"]) == 0
    page = (toy / "docs" / "v.md").read_text()
    assert "## polycom" in page
    assert "3, 4 |" in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lam"], "there is no paper 'lam'; use lamb"),
        (["hawq-v2"], "hawq-v2 is not built yet; use one of "),
        (["lamb", "--set", "size=3"], "lamb has no 'size' to set; use steps, pause, sizes"),
        (["lamb", "--set", "steps=many"], "lamb: steps is 'many'; use what is like 4"),
        (["lamb", "--set", "steps=1.5"], "lamb: steps is 1.5; use what is like 4"),
        (["lamb", "--set", "steps=-1"], "lamb: steps is -1; use what is like 4"),
        (["lamb", "--set", "pause=()"], "lamb: pause is (); use what is like 0.0"),
        (["lamb", "--set", "sizes=()"], "lamb: sizes is (); use what is like (1, 2)"),
        (
            ["grokking-stability", "--set", "perp=5,6,8,0.5"],
            "perp is (5, 6, 8, 0.5); use what is like (47, 0.5, 128, 300)",
        ),
        (["grokking-stability", "--set", "perp=5,0.6,8"], "perp is (5, 0.6, 8); use what is like (47, "),
        (["lamb", "--seed", "-1"], "argument --seed: invalid seed value: '-1'"),
        (["lamb", "--set", "steps"], "argument --set: 'steps' sets nothing; use NAME=VALUE"),
        (["lamb", "--seeds", "one"], "argument --seeds: invalid list of seeds value: 'one'"),
        (["lamb", "--smoke", "--verdicts", "v.md"], "--verdicts: the document is for full runs"),
        (["lamb", "--out", "no/such/place.json"], "--out: no/such/place.json cannot be written"),
        (["lamb", "two-pass-softmax", "--run", "a.scope"], "--run: 2 experiments make as many run files"),
    ],
)
def test_that_what_cannot_be_is_refused_in_a_line(toy, capsys, words, line) -> None:
    try:
        code = main(["run", *words])
    except SystemExit as error:
        code = error.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("logitscope run: ")
    assert line in err
    assert err.count("\n") == 1


def test_that_a_stopped_run_says_how_to_start_again(tmp_path) -> None:
    """Ctrl-C says it at once; after a kill the next run does."""
    (tmp_path / "toy.py").write_text(
        f"import sys\nmodule = type(sys)('logitscope.experiments.lamb')\nexec({TOY!r}, module.__dict__)\n"
        "sys.modules['logitscope.experiments.lamb'] = module\n"
        "from logitscope.experiments import paper\npaper.Paper.built = property(lambda self: self.slug == 'lamb')\n"
        "from logitscope.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "toy.py", "run", "lamb", "--seeds", "1,2", "--set"]
    for number in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            [*words, "pause=60"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LOGITSCOPE_RUNS": ""},
        )
        while not list(tmp_path.glob("runs/*.scope")) or not has_begun(tmp_path):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate()
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert "stopped; start it again with: logitscope run lamb --seeds 1,2 --set pause=60" in err
            for file in tmp_path.glob("runs/*"):
                file.unlink()
    done = subprocess.run(
        [*words, "pause=0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LOGITSCOPE_RUNS": ""},
    )
    assert "lamb: the last run was stopped (runs/lamb-" in done.stderr


def has_begun(directory) -> bool:
    try:
        return any(run.last_step is not None for run in record.list_runs(directory / "runs"))
    except OSError:
        return False


def test_that_the_rest_of_a_stopped_series_is_named(toy, capsys, monkeypatch) -> None:
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["logitscope.experiments.lamb"], "run", stop)
    sys.modules["logitscope.experiments.lamb"].run.__signature__ = __import__("inspect").Signature()
    assert main(["run", "lamb", "two-pass-softmax", "--seeds", "1,2", "--verdicts", "v.md"]) == 130
    assert (
        "the rest: logitscope run lamb two-pass-softmax --seeds 1,2 --verdicts v.md"
        in capsys.readouterr().err
    )


def test_that_a_verdict_that_fails_is_no_error(toy, monkeypatch) -> None:
    def fail(scope, **_options):
        return Verdict("No.", {"a": 1.0}, {"b": 2.0}, (Check("a over b", 0.5, "at least", 1.0),))

    monkeypatch.setattr(sys.modules["logitscope.experiments.lamb"], "run", fail)
    assert main(["run", "lamb"]) == 0
