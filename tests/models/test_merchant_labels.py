"""What matured labels say of merchants: against a fold event by event, and however it is cut into portions."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.merchant_labels import (
    LABEL_FEATURES,
    MOST_DAYS,
    SPANS,
    LabelRecords,
    MerchantKnowledge,
    MerchantLabels,
    MerchantState,
    nothing_known,
    unexplained_share,
)
from models.state import NEVER

DAY = 86_400_000


@dataclass(frozen=True)
class Told:
    """One thing that became known, days after the first day."""

    merchant: str
    day: float
    fraud: bool
    unexplained: float = 1.0
    correction: bool = False


def records(told: list[Told]) -> LabelRecords:
    return LabelRecords(
        [one.merchant for one in told],
        np.array([round(one.day * DAY) for one in told], np.int64),
        np.array([one.fraud for one in told], np.bool_),
        np.array([one.unexplained for one in told], np.float64),
        np.array([one.correction for one in told], np.bool_),
    )


def folded(*portions: tuple[list[Told], float]) -> MerchantLabels:
    labels = MerchantLabels()
    for told, known_at in portions:
        labels.fold(records(told), round(known_at * DAY))
    return labels


def feature(labels: MerchantLabels, merchant: str, name: str, day: float) -> float:
    found = labels.knowledge(round(day * DAY)).features([merchant])
    return float(found[0, LABEL_FEATURES.index(name)])


def one_by_one(told: list[Told], known_at: float) -> dict[str, float]:
    """The definition, event after event, for one merchant."""
    state: dict[str, float] = {"open": 0, "frauds": 0, "first": NEVER, "last": NEVER, "after": NEVER, "since": 0}
    state |= {"legitimate": NEVER, "events": 0.0, "fraud_sum": 0.0, "unexplained_sum": 0.0}
    for one in told:
        time, weight = round(one.day * DAY), np.exp(-(known_at * DAY - one.day * DAY) / SPANS[0])
        state["events"] += weight
        state["fraud_sum"] += weight * one.fraud
        state["unexplained_sum"] += weight * one.fraud * one.unexplained
        if one.fraud and one.unexplained > 0.5:
            if not state["open"]:
                state |= {"open": 1, "frauds": 0, "first": time, "after": state["legitimate"]}
            state |= {"frauds": state["frauds"] + 1, "last": time, "since": 0}
        elif not one.fraud:
            state |= {"open": 0, "since": state["since"] + 1, "legitimate": time}
    return state


histories = st.lists(
    st.tuples(st.floats(0, 30), st.booleans(), st.sampled_from([0.0, 0.4, 0.6, 1.0])).map(
        lambda drawn: Told("shop", *drawn)
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda one: round(one.day * DAY),
).map(lambda told: sorted(told, key=lambda one: one.day))


@given(told=histories, cuts=st.sets(st.integers(1, 19)))
def test_any_portions_give_what_one_event_after_the_other_gives(told: list[Told], cuts: set[int]) -> None:
    ends = [*sorted(cut for cut in cuts if cut < len(told)), len(told)]
    labels, start = MerchantLabels(), 0
    for end in ends:
        labels.fold(records(told[start:end]), round(31 * DAY) if end == len(told) else round(told[end - 1].day * DAY))
        start = end
    expected = one_by_one(told, 31)
    state = labels.state_of(labels.rows_of(["shop"]))
    assert [state.run_open[0], state.run_frauds[0], state.run_first[0], state.run_last[0], state.run_after[0]] == [
        expected[name] for name in ("open", "frauds", "first", "last", "after")
    ]
    assert state.latest_legitimate[0] == expected["legitimate"]
    assert state.legitimate_since_run[0] == expected["since"]
    assert state.sums[0, ::2] == pytest.approx([expected[n] for n in ("events", "fraud_sum", "unexplained_sum")])


@given(told=histories)
def test_merchants_do_not_touch_each_other(told: list[Told]) -> None:
    other = [Told("other", one.day, not one.fraud, one.unexplained) for one in told]
    mixed = folded(([one for pair in zip(told, other, strict=True) for one in pair], 31))
    alone = folded((told, 31))
    for f in fields(MerchantState):
        both, single = (getattr(labels.state_of(labels.rows_of(["shop"])), f.name) for labels in (mixed, alone))
        np.testing.assert_allclose(both, single)


def test_a_fraud_whose_amount_the_account_explains_makes_no_run_and_ends_none() -> None:
    labels = folded(([Told("shop", 1, True), Told("shop", 2, True, unexplained=0.1)], 3))
    assert feature(labels, "shop", "run_open", 3) == 1
    assert np.expm1(feature(labels, "shop", "run_frauds", 3)) == pytest.approx(1)
    assert feature(folded(([Told("shop", 2, True, unexplained=0.1)], 3)), "shop", "run_open", 3) == 0


def test_a_late_fraud_counts_once_as_an_event_and_opens_a_run() -> None:
    on_time = folded(([Told("shop", 1, True)], 8))
    late = folded(([Told("shop", 1, False)], 8), ([Told("shop", 1, True, correction=True)], 12))
    for name in ("matured_week", "fraud_rate_month", "unexplained_rate_week", "run_open", "days_since_run_fraud"):
        assert feature(late, "shop", name, 12) == pytest.approx(feature(on_time, "shop", name, 12), rel=1e-5)


def test_a_fraud_that_turns_out_legitimate_leaves_no_rate_and_ends_the_run() -> None:
    labels = folded(([Told("shop", 1, True)], 8), ([Told("shop", 1, False, correction=True)], 9))
    assert feature(labels, "shop", "run_open", 9) == 0
    once = folded(([Told("shop", 1, False)], 9))
    assert feature(labels, "shop", "fraud_rate_week", 9) == pytest.approx(feature(once, "shop", "fraud_rate_week", 9))


def test_what_is_known_fades_with_time() -> None:
    labels = folded(([Told("shop", day, True) for day in range(5)], 8))
    now, later = (feature(labels, "shop", "fraud_rate_week", day) for day in (8, 40))
    assert later < now
    assert feature(labels, "shop", "days_since_run_fraud", 40) == 36
    assert feature(labels, "shop", "days_since_run_fraud", 400) == MOST_DAYS


def test_of_an_unknown_merchant_labels_say_the_same_as_before_any_label() -> None:
    labels = folded(([Told("shop", 1, True)], 8))
    unknown = labels.knowledge(8 * DAY).features(["never seen"])
    np.testing.assert_array_equal(unknown, nothing_known(1))
    np.testing.assert_array_equal(MerchantKnowledge.none().features(["shop"]), nothing_known(1))


def test_a_restored_fold_goes_on_as_the_first_one() -> None:
    first = folded(([Told("shop", 1, True), Told("other", 2, False)], 8))
    second = MerchantLabels()
    second.restore(["other", "shop"], first.state_of(first.rows_of(["other", "shop"])))
    for labels in (first, second):
        labels.fold(records([Told("shop", 3, True)]), 10 * DAY)
    names = ["shop", "other"]
    np.testing.assert_allclose(
        first.knowledge(11 * DAY).features(names), second.knowledge(11 * DAY).features(names), rtol=1e-6
    )


def test_a_fold_takes_more_merchants_than_it_has_room_for() -> None:
    names = [f"shop {number}" for number in range(3_000)]
    first = folded(([Told(name, 1, True) for name in names], 8))
    second = MerchantLabels()
    second.restore(names, first.state_of(first.rows_of(names)))
    np.testing.assert_array_equal(first.knowledge(8 * DAY).features(names), second.knowledge(8 * DAY).features(names))


def test_amounts_are_explained_from_twice_to_four_times_the_usual() -> None:
    times = np.array([0.5, 1.0, 2.0, 2.83, 4.0, 9.0])
    shares = unexplained_share(np.log(times), np.ones(6, np.bool_))
    assert shares == pytest.approx([1, 1, 1, 0.5, 0, 0], abs=0.01)
    assert unexplained_share(np.log(times), np.zeros(6, np.bool_)).tolist() == [1.0] * 6
