from hypothesis import given
from hypothesis import strategies as st

from logitscope_app.models.arrange import NARROWEST, Need, arrange

needs = st.lists(
    st.builds(Need, st.integers(80, 300), st.floats(0.5, 4), st.booleans(), st.sampled_from([0.0, 0.7])),
    min_size=1,
    max_size=9,
)


@given(needs, st.integers(100, 2000), st.integers(50, 1500))
def test_that_cards_lie_inside_apart_and_no_row_is_left_open(needs, width, height):
    placed = arrange(needs, width, height, 4)
    assert len(placed.boxes) == len(needs)
    for (left, top, wide, high), need in zip(placed.boxes, needs, strict=True):
        assert left >= 0
        assert left + wide <= width
        assert top + high <= max(placed.height, height)
        assert high >= need.height
    for index, (left, top, wide, high) in enumerate(placed.boxes):
        for other_left, other_top, other_wide, other_high in placed.boxes[index + 1 :]:
            assert (
                left + wide <= other_left
                or other_left + other_wide <= left
                or top + high <= other_top
                or other_top + other_high <= top
            )
    for top in {box[1] for box in placed.boxes}:
        row = [box for box in placed.boxes if box[1] == top]
        assert min(box[0] for box in row) == 0
        assert max(box[0] + box[2] for box in row) == width


def test_that_free_height_is_used_up():
    placed = arrange([Need(300, 3.0, True, 0.68), Need(118), Need(118)], 434, 574, 4)
    assert 574 - 3 <= placed.height <= 574


def test_that_a_capped_card_leaves_its_height_to_the_others():
    placed = arrange([Need(300, 3.0, True, 0.5), Need(118), Need(118)], 600, 1000, 4)
    assert placed.boxes[0][3] == 300
    assert placed.height >= 997


def test_that_the_first_cards_get_the_wider_row():
    placed = arrange([Need(100)] * 5, 600, 330, 0)
    assert [box[2] for box in placed.boxes] == [600, 300, 300, 300, 300]
    assert placed.boxes[0][3] > placed.boxes[1][3]


def test_that_what_cannot_fit_is_scrolled_in_readable_columns():
    placed = arrange([Need(100)] * 8, 2 * NARROWEST + 4, 100, 4)
    assert placed.height == 4 * 100 + 3 * 4
