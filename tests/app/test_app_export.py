import csv
import io

import numpy as np
import pytest
from fake_run import FakeReader

from logitscope_app.models.export import csv_bytes, rows, write_whole
from logitscope_app.models.run_data import RunData


def test_that_every_kind_of_panel_has_rows():
    data = RunData(FakeReader("demo.scope", 101))
    data.refresh()
    tables = {}
    for state in data.frame(None).panels:
        table = list(csv.reader(io.StringIO(csv_bytes(rows(state)).decode())))
        assert len({len(row) for row in table}) == 1
        tables[state.panel.title] = table
    assert tables["Attention maps"][0] == ["step", "layer", "head", "row", "column", "value"]
    assert len(tables["Attention maps"]) == 1 + 4 * 4 * 64 * 64
    assert tables["Loss"][1][:2] == ["loss/train", "0"]
    assert "\n" in tables["Sample"][1][2]


def test_that_a_file_is_replaced_whole(tmp_path):
    target = tmp_path / "values.csv"
    target.write_bytes(b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_that_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "values.csv"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_whole(target, np.float64)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
