from fake_run import write_run

from logitscope import record
from logitscope_app.services.run_watcher import RunList, RunWatcher


def test_that_directories_and_files_are_listed_newest_first(tmp_path):
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "a.scope", 2)
    write_run(tmp_path / "b.scope", 3)
    (tmp_path / "runs" / "noise.scope").write_bytes(b"no run")
    found = RunList()([tmp_path / "runs", tmp_path / "b.scope", tmp_path / "gone.scope"])
    assert [(info.path.name, info.last_step) for info in found] == [("b.scope", 2), ("a.scope", 1)]


def test_that_only_changes_are_told(qtbot, tmp_path):
    watcher, lists = RunWatcher([tmp_path], seconds=0.01), []
    watcher.listed.connect(lists.append)
    watcher.start()
    qtbot.waitUntil(lambda: lists == [()])
    write_run(tmp_path / "a.scope", 2)
    qtbot.waitUntil(lambda: bool(lists[-1]) and lists[-1][0].status == "finished")
    told = len(lists)
    qtbot.wait(60)
    watcher.close()
    assert len(lists) == told


def test_that_a_directory_that_is_away_keeps_the_list(qtbot, tmp_path):
    answers = [[1], OSError("away"), [2]]

    def look(places):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    watcher, lists = RunWatcher([tmp_path], look=look, seconds=0.001), []
    watcher.listed.connect(lists.append)
    watcher.start()
    qtbot.waitUntil(lambda: len(lists) == 2)
    watcher.close()
    assert lists == [(1,), (2,)]


def test_that_only_files_that_have_changed_are_opened_again(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_run(tmp_path / f"{name}.scope", 2)
    going_on = write_run(tmp_path / "c.scope", 2, finish=False)
    (tmp_path / "noise.scope").write_bytes(b"no run")
    opened = []

    def counting(path):
        opened.append(path.name)
        return record.RunReader(path)

    monkeypatch.setattr("logitscope_app.services.run_watcher.RunReader", counting)
    runs = RunList()
    assert len(runs([tmp_path])) == 3
    opened.clear()
    assert [info.path.name for info in runs([tmp_path])] == ["c.scope", "b.scope", "a.scope"]
    assert opened == ["c.scope"]  # a writer may die without touching its file
    going_on.finish()
    assert runs([tmp_path])[0].status == "finished"
    opened.clear()
    runs([tmp_path])
    assert opened == []


def test_that_many_runs_are_told_as_they_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("logitscope_app.services.run_watcher.TELL_SECONDS", 0.0)
    for name in ("a", "b", "c"):
        write_run(tmp_path / f"{name}.scope", 2)
    told = []
    runs = RunList(lambda found: told.append([info.path.name for info in found]))
    assert len(runs([tmp_path])) == 3
    assert told == [["a.scope"], ["b.scope", "a.scope"], ["c.scope", "b.scope", "a.scope"]]
    told.clear()
    runs([tmp_path])
    assert told == []
