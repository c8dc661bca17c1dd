import pytest
from PySide6.QtCore import QByteArray, QSettings

from logitscope_app.settings import KEYS, Settings


@pytest.fixture
def store(tmp_path):
    return QSettings(str(tmp_path / "settings.ini"), QSettings.Format.IniFormat)


def test_that_nothing_stored_gives_defaults_that_pass_their_own_check(store):
    settings = Settings(store)
    for name, key in KEYS.items():
        assert settings[name] == key.default
        assert key.check(key.cast(key.default))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("theme", "purple"),
        ("theme", 7),
        ("speed", "fast"),
        ("speed", 3.0),
        ("geometry", "text"),
        ("layout", QByteArray(b"x" * (2 << 20))),
        ("hidden", "x" * 10_000),
    ],
)
def test_that_bad_stored_values_fall_back(store, name, bad):
    store.setValue(name, bad)
    assert Settings(store)[name] == KEYS[name].default


def test_that_values_come_back_from_disk(store):
    settings = Settings(store)
    settings["theme"], settings["speed"], settings["layout"] = "light", 0.5, b"\x00\xff"
    settings.save()
    again = Settings(QSettings(store.fileName(), QSettings.Format.IniFormat))
    assert (again["theme"], again["speed"], again["layout"]) == ("light", 0.5, b"\x00\xff")
    again.clear("theme")
    assert again["theme"] == "system"


def test_that_a_bad_value_is_not_stored(store):
    with pytest.raises(ValueError, match="theme cannot be 'purple'"):
        Settings(store)["theme"] = "purple"
    with pytest.raises(KeyError):
        Settings(store)["colour"]
