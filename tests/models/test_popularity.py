"""Popularity: a decayed sum of rewards, however the log is cut, at any time, and never a number that is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.popularity import MOST_HALF_LIVES, Popularity

HALF_LIFE = 1_000
ITEMS = 5
row = st.tuples(
    st.integers(0, 2),
    st.integers(-1, ITEMS - 1),
    st.integers(0, 200 * HALF_LIFE),
    st.sampled_from([-2.0, -0.1, 0.0, 1.0, 5.0]),
)
Rows = list[tuple[int, int, int, float]]


def add(popularity: Popularity, rows: Rows, items: int = ITEMS) -> None:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    partition, item, at = (np.array(column, np.int64) for column in columns[:3])
    popularity.add(partition.astype(np.int32), item, at, np.array(columns[3], np.float64), items)


def expected(rows: Rows, newest: int) -> list[float]:
    """The definition."""
    return [
        max(0.0, sum(worth * 2.0 ** ((at - newest) / HALF_LIFE) for _, own, at, worth in rows if own == item))
        for item in range(ITEMS)
    ]


@given(st.lists(row, max_size=30), st.integers(0, 30))
def test_sums_are_the_decayed_rewards_however_the_log_is_cut(rows: Rows, place: int) -> None:
    together, cut = Popularity(HALF_LIFE), Popularity(HALF_LIFE)
    add(together, rows)
    for part in (rows[:place], rows[place:]):
        add(cut, part)
    newest = max((at for _, _, at, _ in rows), default=0)
    np.testing.assert_allclose(together.of_all(ITEMS), expected(rows, newest), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(cut.of_all(ITEMS), together.of_all(ITEMS), rtol=1e-9, atol=1e-9)


@given(st.lists(row, min_size=1, max_size=30))
def test_a_dropped_partition_leaves_what_the_others_earned(rows: Rows) -> None:
    popularity = Popularity(HALF_LIFE)
    add(popularity, rows)
    popularity.drop_partition(1)
    popularity.drop_partition(9)
    newest = max(at for _, _, at, _ in rows)
    left = [one for one in rows if one[0] != 1]
    np.testing.assert_allclose(popularity.of_all(ITEMS), expected(left, newest), rtol=1e-9, atol=1e-9)


def test_an_engagement_from_long_ago_changes_nothing_that_counts() -> None:
    """Half a century in half-lives of a week is no number any more when it is turned round."""
    popularity, now = Popularity(7 * 86_400_000), 1_780_000_000_000
    add(popularity, [(0, 1, now, 5.0)])
    before = popularity.of_all(ITEMS)
    add(popularity, [(0, 2, 0, 5.0)])
    assert popularity.of_all(ITEMS).tolist() == before.tolist() == [0.0, 5.0, 0.0, 0.0, 0.0]


def test_sums_stay_finite_over_any_span_of_time() -> None:
    popularity, late = Popularity(HALF_LIFE), 253_402_300_799_999
    border = int(HALF_LIFE * MOST_HALF_LIVES)
    earlier: Rows = []
    for at in (0, border, border + 1, 3 * border, late):
        earlier.append((0, 0, at, 1.0))
        add(popularity, earlier[-1:])
        assert popularity.of_all(1)[0] == pytest.approx(expected(earlier, at)[0], rel=1e-9)


def test_items_that_came_after_the_rewards_have_earned_nothing_and_can_earn() -> None:
    popularity = Popularity(HALF_LIFE)
    add(popularity, [(0, 1, 0, 1.0)], items=2)
    assert popularity.of_all(4).tolist() == [0.0, 1.0, 0.0, 0.0]
    add(popularity, [(0, 3, 0, 2.0)], items=4)
    assert popularity.of_all(4).tolist() == [0.0, 1.0, 0.0, 2.0]


def test_engagements_with_unknown_items_count_for_nobody() -> None:
    popularity = Popularity(HALF_LIFE)
    add(popularity, [(0, -1, 5, 5.0), (0, 0, 5, 1.0)], items=1)
    add(popularity, [(1, -1, 5, 5.0)], items=0)
    assert popularity.of_all(1).tolist() == [1.0]
    assert popularity.of_all(0).tolist() == []


def test_what_is_disliked_more_than_liked_is_not_popular() -> None:
    popularity = Popularity(HALF_LIFE)
    add(popularity, [(0, 0, 0, 1.0), (0, 0, 0, -2.0), (1, 1, 0, -2.0), (2, 1, 0, 5.0)])
    assert popularity.of_all(2).tolist() == [0.0, 3.0]


@given(st.lists(row, max_size=30), st.lists(row, max_size=10))
def test_a_partition_put_in_elsewhere_has_earned_there_what_it_had(rows: Rows, others: Rows) -> None:
    """Whatever else is known there and however far apart the times are."""
    rows, others = [(0, *one[1:]) for one in rows], [(1, *one[1:]) for one in others]
    source, other, together = Popularity(HALF_LIFE), Popularity(HALF_LIFE), Popularity(HALF_LIFE)
    add(source, rows)
    add(other, others)
    add(together, others + rows)
    item, sums, newest = source.earned(0)
    other.put(0, item, sums, newest, ITEMS)
    np.testing.assert_allclose(other.of_all(ITEMS), together.of_all(ITEMS), rtol=1e-9, atol=1e-9)


def test_a_partition_that_is_long_behind_the_others_is_kept_without_overflow() -> None:
    popularity = Popularity(HALF_LIFE)
    add(popularity, [(0, 1, 0, 5.0), (1, 2, 3_000 * HALF_LIFE, 5.0)])
    _, sums, newest = popularity.earned(0)
    assert newest == 0
    assert np.isfinite(sums).all()
