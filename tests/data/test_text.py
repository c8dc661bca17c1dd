"""Texts come as numbers that stand for their characters, and what cannot be a text is refused in one line."""

import numpy as np
import pytest

from logitscope.data import TextData, text_file, topics
from logitscope.errors import ArgumentError

PHRASE = "Größe und Maß, 大小.\n"


@pytest.fixture
def text() -> TextData:
    return TextData.from_text(PHRASE * 300, name="sizes")


def test_that_decoding_undoes_encoding(text: TextData) -> None:
    assert text.decode(text.encode(PHRASE)) == PHRASE


def test_that_the_parts_together_are_the_text(text: TextData) -> None:
    assert len(text.train) + len(text.validation) == len(PHRASE * 300)
    assert 0.08 < len(text.validation) / len(text.train) < 0.13


def test_that_a_target_is_the_character_after_its_input(text: TextData) -> None:
    inputs, targets = next(text.batches(4, 16, np.random.default_rng(0)))
    assert inputs.shape == targets.shape == (4, 16)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    for row, target in zip(inputs, targets, strict=True):
        assert text.decode([*row, target[-1]]) in PHRASE * 300


def test_that_windows_reach_the_last_character_of_training() -> None:
    text = TextData.from_text("ab" * 1000, name="ab")
    context = len(text.train) - 1
    with pytest.raises(ArgumentError, match="validation"):
        text.require(context)
    short = TextData("short", text.vocabulary, text.train[:9], text.train[:9])
    inputs, targets = next(short.batches(64, 8, np.random.default_rng(0)))
    np.testing.assert_array_equal(inputs, np.tile(short.train[:8], (64, 1)))
    np.testing.assert_array_equal(targets, np.tile(short.train[1:9], (64, 1)))


def test_that_the_seed_fixes_the_batches(text: TextData) -> None:
    first, second = (next(text.batches(8, 16, np.random.default_rng(3)))[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_that_validation_windows_are_distinct_and_spread(text: TextData) -> None:
    inputs, targets = text.validation_windows(10, 32)
    assert inputs.shape == targets.shape == (10, 32)
    np.testing.assert_array_equal(targets[-1], text.validation[-32:])
    assert len(text.validation_windows(10**6, 32)[0]) == len(text.validation) - 32


def test_that_a_character_outside_the_vocabulary_is_named(text: TextData) -> None:
    with pytest.raises(ArgumentError, match="encode: sizes has no '!'; use characters of its vocabulary"):
        text.encode("!")


def test_that_the_topics_are_long_and_repeat_no_paragraph() -> None:
    text = topics()
    assert len(text.train) > 200_000
    assert text.train.dtype == np.int64
    assert text.train.max() < len(text.vocabulary) < 300
    paragraphs = [" ".join(part.split()) for part in text.decode(text.validation).split("\n\n")[1:-1]]
    trained = text.decode(text.train)
    flat = " ".join(trained.split())
    long = [part for part in paragraphs if len(part) > 200]
    assert long
    assert not [part for part in long if part in flat]


def test_that_a_file_is_read_without_its_byte_order_mark(tmp_path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + (PHRASE * 300).replace("\n", "\r\n").encode())
    text = text_file(path)
    assert set(text.vocabulary) == set(PHRASE)
    assert text.name == "text.txt"


def test_that_what_is_no_text_is_refused(tmp_path) -> None:
    short, binary, latin = (tmp_path / name for name in ("short.txt", "binary.txt", "latin.txt"))
    short.write_text("to be")
    binary.write_bytes(b"\0" * 4000)
    latin.write_bytes("é".encode("latin-1") * 4000)
    for path, problem in (
        (tmp_path / "none.txt", "there is no file .*none.txt; give a UTF-8 text file"),
        (tmp_path, "is a directory; give"),
        (short, "short.txt has 5 characters; give a text of 2000 characters or more"),
        (binary, "is binary"),
        (latin, r"is not UTF-8 text \(byte 0\)"),
    ):
        with pytest.raises(ArgumentError, match=problem):
            text_file(path)
