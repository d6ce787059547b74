"""Counts and samples of a stream: the same however it was cut, and what they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import roc_auc
from models.samples import MOST_HASHES, RepeatSample, RowSample, mixed
from models.separation import by_size, by_value, fraud_only_values, grouped_auc
from models.value_counts import FRAUD, OTHERS, SLICES, UNLABELLED, Slicing, ValueCounts

CUTS = st.lists(st.integers(1, 400), min_size=1, max_size=12)


def counted(texts: list[str | None], knowledge: np.ndarray, sizes: list[int], most: int = 100) -> ValueCounts:
    """Batches of these sizes, again and again."""
    slicing, counts, first = Slicing(), ValueCounts(most), 0
    while first < len(texts):
        size = sizes[0]
        sizes = sizes[1:] + sizes[:1]
        part = slice(first, first + size)
        slices, halvings = slicing.take(len(texts[part]))
        for _ in range(halvings):
            counts.halve()
        counts.add(slices * 4 + knowledge[part], counts.bins_of(texts[part]))
        first += size
    return counts


@given(CUTS, st.integers(1, 3_000))
def test_what_is_counted_does_not_depend_on_how_the_stream_was_cut(sizes: list[int], length: int) -> None:
    draw = np.random.default_rng(length)
    texts = [None if number == 0 else f"v{number}" for number in draw.integers(0, 90, length).tolist()]
    knowledge = draw.integers(0, 4, length)
    one, cut = counted(texts, knowledge, [length]), counted(texts, knowledge, sizes)
    assert one.names == cut.names
    assert np.array_equal(one.counts, cut.counts)
    assert one.counts.sum() == length
    for place in range(4):
        assert one.counts[:, place].sum() == (knowledge == place).sum()


@given(st.integers(1, 20_000))
def test_slices_hold_equally_many_events_and_fill_at_least_half_of_the_room_of_a_long_stream(length: int) -> None:
    slicing = Slicing()
    slices, _ = slicing.take(length)
    assert slices.max() < SLICES
    assert (np.bincount(slices)[:-1] == slicing.width).all()
    assert slicing.used == slices.max() + 1
    assert length <= 64 * SLICES or slicing.used > SLICES // 2


def test_values_beyond_the_room_are_counted_together() -> None:
    counts = counted(["a", "b", "c", "d", None, "a"], np.full(6, UNLABELLED), [6], most=2)
    assert counts.names[2:] == ["a", "b"]
    assert counts.counts.sum((0, 1))[:4].tolist() == [1, 2, 2, 1]
    assert counts.overflowed


@given(st.lists(st.integers(0, 500), min_size=1, max_size=600), CUTS)
def test_repeats_are_counted_exactly_as_long_as_there_is_room(numbers: list[int], sizes: list[int]) -> None:
    hashes = mixed(np.array(numbers))
    sample = RepeatSample()
    for part in np.array_split(hashes, len(sizes)):
        sample.add(part)
    assert sample.exact
    assert sample.repeated == pytest.approx(1 - len(set(numbers)) / len(numbers))


def test_beyond_the_room_repeats_are_estimated_from_some_of_the_ids_in_bounded_memory() -> None:
    draw = np.random.default_rng(0)
    numbers = draw.permutation(np.concatenate([np.arange(60_000), np.arange(20_000)]))
    sample = RepeatSample(most=8_000)
    for part in np.array_split(mixed(numbers), 40):
        sample.add(part)
    assert not sample.exact
    assert sample.kept <= 8_000
    assert sample.repeated == pytest.approx(0.25, abs=0.02)
    assert MOST_HASHES >= 1_000_000


@given(st.integers(1, 300), st.integers(1, 40), CUTS)
def test_a_sample_of_rows_does_not_depend_on_order_or_cuts(count: int, most: int, sizes: list[int]) -> None:
    hashes, rows = mixed(np.arange(count)), np.arange(count, dtype=np.float64)[:, None]
    order = np.random.default_rng(count).permutation(count)
    whole, parts = RowSample(("n",), most), RowSample(("n",), most)
    whole.add(hashes, rows)
    for part in np.array_split(order, len(sizes)):
        parts.add(hashes[part], rows[part])
    assert len(whole) == min(most, count)
    assert whole.column("n").tolist() == parts.column("n").tolist()


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=200))
def test_the_area_of_counted_values_is_that_of_their_events(events: list[tuple[int, bool]]) -> None:
    value, fraud = np.array([value for value, _ in events]), np.array([fraud for _, fraud in events])
    if fraud.all() or not fraud.any():
        return
    score = np.array([0.3, 0.1, 0.9, 0.1, 0.5, 0.0, 0.7])
    counts = [np.bincount(value[chosen], minlength=7)[None] for chosen in (fraud, ~fraud)]
    assert grouped_auc(score, *counts) == pytest.approx(roc_auc(score[value], fraud))


def test_a_value_that_never_recurs_tells_nothing_and_one_that_marks_frauds_tells_all() -> None:
    fraud = np.arange(4_000) % 10 == 0
    knowledge = np.where(fraud, FRAUD, UNLABELLED)
    unique = counted([f"memo {number}" for number in range(4_000)], knowledge, [500], most=5_000)
    marked = counted(["chargeback" if each else None for each in fraud], knowledge, [500])
    assert by_value("memo", "field", unique.counts).auc == pytest.approx(0.5, abs=0.01)
    assert by_value("memo", "field", marked.counts).auc == 1.0
    (found,) = fraud_only_values("memo", marked.names, marked.counts, 30)
    assert (found.value, found.frauds, found.share, found.slices) == ("chargeback", 400, 1.0, 1.0)


def test_values_that_share_a_bin_are_no_value_of_frauds_alone() -> None:
    counts = counted(["a", "b", "c"] * 40, np.full(120, FRAUD), [120], most=1)
    assert counts.counts[:, FRAUD, OTHERS].sum() == 80
    assert [found.value for found in fraud_only_values("memo", counts.names, counts.counts, 30)] == ["a"]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_size_separates_in_either_direction(frauds: list[float], others: list[float]) -> None:
    def separation(one: list[float], other: list[float]) -> float:
        samples = []
        for values in (one, other):
            samples.append(RowSample(("x",), 100))
            samples[-1].add(mixed(np.arange(len(values))), np.array(values)[:, None])
        return by_size("x", "amount", *samples).auc

    assert separation(frauds, others) == pytest.approx(separation(others, frauds))
    assert 0.5 <= separation(frauds, others) <= 1 + 1e-9
    assert separation([value + 2e6 for value in frauds], others) == pytest.approx(1)
