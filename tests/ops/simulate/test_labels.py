"""Labels: each follows its payment by the delay, and is the same however the events are cut into batches."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.simulate.cards import BadSimulation, SimulatedTransactions, SimulationConfig, simulate
from ops.simulate.labels import LabelDelay, Labels, PendingLabels, chance, labels_of

HISTORY = simulate(SimulationConfig(accounts=200, merchants=60, events=3_000, fraud_share=0.05))
DELAY = LabelDelay(5_000, 20_000_000)
spans = st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)).map(sorted)


def by_event(labels: Labels) -> dict[str, tuple[str, int]]:
    given = labels.given_at.tolist()
    return dict(zip(labels.event_ids(), zip(labels.label_names(), given, strict=True), strict=True))


def rows(labels: Labels) -> list[tuple[int, int]]:
    return list(zip(labels.number.tolist(), labels.given_at.tolist(), strict=True))


@settings(max_examples=30)
@given(spans)
def test_every_event_gets_its_label_within_the_delay(span: list[int]) -> None:
    labels = labels_of(HISTORY, LabelDelay(*span))

    after = labels.given_at - HISTORY.occurred_at[labels.number]
    assert sorted(labels.number.tolist()) == list(range(len(HISTORY)))
    assert ((after >= span[0]) & (after <= span[1])).all()
    assert np.all(np.diff(labels.given_at) >= 0)


def test_delays_fill_their_range_evenly() -> None:
    labels = labels_of(HISTORY, LabelDelay(0, 999))
    after = labels.given_at - HISTORY.occurred_at[labels.number]
    assert np.bincount(after // 250, minlength=4) / len(labels) == pytest.approx(np.full(4, 0.25), abs=0.04)


def test_labels_say_what_the_payments_are() -> None:
    labels = labels_of(HISTORY, DELAY)

    fraud = HISTORY.fraud[labels.number]
    assert [name == "fraud" for name in labels.label_names()] == fraud.tolist()
    assert [name is not None for name in labels.scenario_names()] == fraud.tolist()
    accounts = HISTORY.columns()["account_id"]
    assert labels.account_ids() == [accounts[number] for number in labels.number]


def test_frauds_alone_are_labelled_with_a_legitimate_share_of_zero() -> None:
    labels = labels_of(HISTORY, DELAY, legitimate_share=0.0)
    assert sorted(labels.number.tolist()) == np.flatnonzero(HISTORY.fraud).tolist()


def test_a_share_of_the_honest_payments_and_every_fraud_is_labelled() -> None:
    labels = labels_of(HISTORY, DELAY, legitimate_share=0.3)
    names = labels.label_names()

    assert names.count("fraud") == HISTORY.fraud.sum()
    assert names.count("legitimate") / (~HISTORY.fraud).sum() == pytest.approx(0.3, abs=0.05)


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(HISTORY)), max_size=8), st.sampled_from([0.0, 0.4, 1.0]))
def test_labels_do_not_depend_on_how_the_events_are_cut(cuts: list[int], share: float) -> None:
    edges = [0, *sorted(cuts), len(HISTORY)]
    parts = [HISTORY.rows(slice(first, stop)) for first, stop in pairwise(edges)]

    joined: dict[str, tuple[str, int]] = {}
    for part in parts:
        joined |= by_event(labels_of(part, DELAY, legitimate_share=share))
    assert joined == by_event(labels_of(HISTORY, DELAY, legitimate_share=share))


@settings(max_examples=60)
@given(st.lists(st.integers(0, 120), max_size=12), st.lists(st.integers(0, 10**8), max_size=12), spans)
def test_waiting_labels_come_once_in_order_and_when_they_are_due(
    sizes: list[int], waits: list[int], span: list[int]
) -> None:
    pending = PendingLabels(labels_of(part(0, 0), LabelDelay(*span)))
    given: list[tuple[int, int]] = []
    added, now = 0, int(HISTORY.occurred_at[0])
    for size, wait in zip(sizes, waits, strict=False):
        pending.add(labels_of(part(added, added + size), LabelDelay(*span)))
        added, now = added + size, now + wait
        due = pending.take_due(now)
        assert (due.given_at <= now).all()
        given += rows(due)

    everything = labels_of(part(0, added), LabelDelay(*span))
    assert sorted(given) == sorted(row for row in rows(everything) if row[1] <= now)
    assert len(pending) == added - len(given)


def part(first: int, stop: int) -> SimulatedTransactions:
    return HISTORY.rows(slice(first, stop))


def test_equal_times_come_in_the_order_of_their_events() -> None:
    pending = PendingLabels(labels_of(part(0, 0), DELAY))
    for number in range(100):
        pending.add(together(number))

    assert pending.take_due(5).number.tolist() == list(range(100))


def together(number: int) -> Labels:
    """The label of one event, given at time 5."""
    one = labels_of(part(number, number + 1), DELAY)
    return Labels(one.population, one.id_prefix, one.number, one.account, one.scenario, np.array([5], np.int64))


def test_a_million_small_batches_of_waiting_labels_would_stay_few_pieces() -> None:
    pending = PendingLabels(labels_of(part(0, 0), DELAY))
    for number in range(len(HISTORY)):
        pending.add(together(number))

    assert len(pending) == len(HISTORY)
    assert len(pending._pieces) <= 13


def test_chances_are_even_and_differ_by_purpose() -> None:
    number = np.arange(100_000)
    first, second = chance("a", number), chance("b", number)

    assert ((first >= 0) & (first < 1)).all()
    assert np.histogram(first, 10, (0, 1))[0] / len(first) == pytest.approx(np.full(10, 0.1), abs=0.005)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


def test_a_delay_must_be_a_span_of_time() -> None:
    with pytest.raises(BadSimulation, match="a label's delay must be a span of time, not 20 to 5 ms"):
        LabelDelay(20, 5)
    with pytest.raises(BadSimulation):
        LabelDelay(-1, 5)


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(BadSimulation, match=r"the share of legitimate labels must be between 0 and 1, not 1\.5"):
        labels_of(HISTORY, DELAY, legitimate_share=1.5)
