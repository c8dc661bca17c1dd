"""Several processes that train together: a file each, read as one."""

import numpy as np
import pytest

from logitscope import record
from logitscope.record.ranks import Rank, rank_of, this_rank


@pytest.fixture
def as_rank(monkeypatch, tmp_path):
    """Start a run as a rank of a job would."""

    def start(rank, size=3, restart=0, **options):
        for name, value in (("RANK", rank), ("WORLD_SIZE", size), ("TORCHELASTIC_RESTART_COUNT", restart)):
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
        return record.start("together", path=tmp_path / "run.scope", **options)

    return start


def test_that_the_launcher_is_understood():
    assert this_rank({"SLURM_PROCID": "2", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "77"}) == Rank(2, 8, "77")
    assert this_rank({}) is None
    assert this_rank({"RANK": "x", "WORLD_SIZE": "4"}) is None
    assert this_rank({"RANK": "4", "WORLD_SIZE": "4"}) is None
    assert rank_of({"rank": "1", "world_size": "99999999"}) is None
    assert rank_of(Rank(1, 4, "job", 2).meta()) == Rank(1, 4, "job", 2)


@pytest.mark.parametrize("storage", ["database", "log"])
def test_that_ranks_are_merged_and_a_missing_one_is_told(as_rank, storage):
    scopes = [as_rank(rank, storage=storage) for rank in (0, 2)]
    assert [scope.path.name for scope in scopes] == ["run-rank0.scope", "run-rank2.scope"]
    for step in range(4):
        for factor, scope in zip((1.0, 3.0), scopes, strict=True):
            scope.scalar("loss/train", factor * (step + 1), step)
    scopes[1].array("map", np.ones(3), 0)
    scopes[0].array("map", np.zeros(3), 0)
    scopes[1].event("hot", step=3, level="warning")
    with record.open_run(scopes[1].path) as run:
        assert run.scalars("loss/train").values.tolist() == [2, 4, 6, 8]
        figures = {
            name: run.scalars(f"ranks/loss/train/{name}").values.tolist()
            for name in ("min", "max", "spread", "rank_of_max")
        }
        assert figures == {
            "min": [1, 2, 3, 4],
            "max": [3, 6, 9, 12],
            "spread": [1, 2, 3, 4],
            "rank_of_max": [2, 2, 2, 2],
        }
        assert run.info.meta["missing ranks"] == "1"
        assert [(panel.title, len(panel.tags)) for panel in run.panels()] == [
            ("loss/train", 4),
            ("loss/train: rank of the largest", 1),
        ]
        assert [event.message for event in run.events()] == [
            "no run file of rank 1: it has not begun, or writes elsewhere",
            "rank 2: hot",
        ]
        assert run.array("map").array.tolist() == [0, 0, 0]
        scopes[0].scalar("loss/train", 5.0, 4)
        run.poll()
        assert len(run.scalars("loss/train").steps) == 4  # rank 2 has not come so far
        scopes[1].scalar("loss/train", float("nan"), 4)
        run.poll()
        new = run.scalars("loss/train", after_row=4)
        assert (new.steps.tolist(), np.isnan(new.values).tolist(), new.last_row) == ([4], [True], 5)
        assert run.scalars("ranks/loss/train/rank_of_max", after_row=4).values.tolist() == [2]
        scopes[0].finish()
        run.poll()
        assert run.info.status == "running"
        scopes[1].fail("out of memory")
        run.poll()
        assert (run.info.status, run.info.message) == ("failed", "rank 2: out of memory")


def test_that_a_restart_is_another_segment_whose_values_count(as_rank, tmp_path):
    with as_rank(0, size=2) as first:
        for step in range(6):
            first.scalar("a", 0.0, step)
    with as_rank(0, size=2, restart=1) as second, as_rank(1, size=2, restart=1) as other:
        for step in range(4, 8):
            second.scalar("a", 1.0, step)
            other.scalar("a", 3.0, step)
    assert second.path.name == "run-rank0-2.scope"
    with record.open_run(first.path) as run:
        assert run.scalars("a").steps.tolist() == list(range(8))
        assert run.scalars("a").values.tolist() == [0, 0, 0, 0, 2, 2, 2, 2]
        assert run.info.meta["missing ranks"] == "none"
    assert [info.path.name for info in record.list_runs(tmp_path)] == ["run-rank0.scope"]


def test_that_a_rank_that_begins_later_is_found(as_rank, monkeypatch):
    monkeypatch.setattr("logitscope.record.merged._LOOK_EVERY", 0.0)
    with as_rank(0, size=2) as first, record.open_run(first.path) as run:
        assert run.missing == [1]
        with as_rank(1, size=2):
            assert run.poll()
            assert run.missing == []


def test_that_a_rank_alone_and_other_jobs_are_left_apart(as_rank, monkeypatch, tmp_path):
    with as_rank(0, size=2) as scope:
        scope.scalar("a", 1.0, 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "other")
    monkeypatch.setenv("RANK", "1")
    with record.start("together", path=tmp_path / "other.scope") as other:
        other.scalar("a", 3.0, 0)
    with record.open_run(scope.path) as run:
        assert run.scalars("a").values.tolist() == [1.0]
    assert len(record.list_runs(tmp_path)) == 2
