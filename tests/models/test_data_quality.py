"""What is refused, warned of and let pass, each with a fault planted in an honest history."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data_figures import LabelFile
from models.data_quality import DataQuality, quality_of
from tests.models.histories_to_check import BEGIN, COUNT, DAY, checked, columns, figures, frauds

Values = dict[str, Any]
Fault = Callable[[Values], None]


def test_an_honest_history_passes() -> None:
    found = checked(columns())
    assert (found.verdict, found.findings) == ("ok", ())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 10_000))
def test_no_honest_history_is_suspected_of_a_leak(seed: int) -> None:
    assert checked(columns(seed)).verdict == "ok"


def same_time(values: Values) -> None:
    values["occurred_at"] = np.full(COUNT, BEGIN)


def seconds_for_milliseconds(values: Values) -> None:
    values["occurred_at"] //= 1000


def constant_amounts(values: Values) -> None:
    values["amount"] = np.full(COUNT, 9.99)


def only_frauds(values: Values) -> None:
    values["known"][:] = 1


def only_legitimate(values: Values) -> None:
    values["known"][values["known"] == 1] = 0


def repeated_ids(values: Values) -> None:
    values["event_id"] = [f"pay-{number // 3:06d}" for number in range(COUNT)]


def repeated_payloads(values: Values) -> None:
    for name in ("occurred_at", "account_id", "merchant_id", "amount"):
        column = values[name]
        values[name] = [column[number // 3 * 3] for number in range(COUNT)]


def telling_field(values: Values) -> None:
    values["category"] = np.where(frauds(values), "chargeback", values["category"]).tolist()


def telling_ids(values: Values) -> None:
    values["event_id"] = [
        f"{'case' if fraud else 'pay'}-{number:06d}" for number, fraud in enumerate(frauds(values).tolist())
    ]


def numbered_after_the_others(values: Values) -> None:
    numbers = np.arange(COUNT) + 500_000 * frauds(values)
    values["event_id"] = [f"pay-{number:06d}" for number in numbers.tolist()]


def dated_by_the_case(values: Values) -> None:
    """Frauds have the day of their case for a time."""
    time = values["occurred_at"]
    order = np.argsort(np.where(frauds(values), time // DAY * DAY, time), kind="stable")
    times = np.where(frauds(values), time // DAY * DAY, time)
    for name, column in values.items():
        values[name] = times[order] if name == "occurred_at" else reordered(column, order)


def reordered(column: Any, order: np.ndarray) -> Any:
    return column[order] if isinstance(column, np.ndarray) else [column[row] for row in order.tolist()]


def filled_in_for_frauds(values: Values) -> None:
    values["memo"] = ["reported" if fraud else None for fraud in frauds(values).tolist()]


REFUSED: list[tuple[Fault, str]] = [
    (same_time, "all 6,000 events have the same time, 2026-01-01 00:00:00 UTC"),
    (seconds_for_milliseconds, "most events lie in 1970"),
    (constant_amounts, "all 6,000 amounts are 9.99"),
    (only_frauds, "matured events are frauds"),
    (repeated_ids, "66.7% of the events repeat an event_id of an earlier one"),
    (repeated_payloads, "66.7% of the events repeat account, merchant, time and amount of an earlier one"),
    (telling_field, "category alone tells frauds from other events (AUC 1.0000"),
    (telling_ids, "look of event_id alone tells frauds"),
    (numbered_after_the_others, "number at the end of event_id alone tells frauds"),
    (dated_by_the_case, "precision of occurred_at alone tells frauds"),
    (filled_in_for_frauds, "memo alone tells frauds"),
]


@pytest.mark.parametrize(("fault", "says"), REFUSED, ids=[fault.__name__ for fault, _ in REFUSED])
def test_what_is_plainly_broken_is_refused_with_the_reason(fault: Fault, says: str) -> None:
    values = columns()
    fault(values)
    found = checked(values)
    assert found.verdict == "refused"
    assert any(says in reason for reason in found.refusals), found.refusals
    assert found.findings[0].severity == "refused"


def test_labels_of_one_kind_are_refused_once_they_are_no_chance() -> None:
    values = columns()
    values["known"] = np.where(np.arange(COUNT) < 99, 0, -1).astype(np.int8)
    assert checked(values).verdict == "ok"
    values["known"][:100] = 0
    assert checked(values).refusals == ["all 100 labels of matured events say legitimate"]


def test_a_history_without_events_is_refused() -> None:
    nothing = {name: column[:0] for name, column in columns().items()}
    assert checked(nothing).refusals == ["there are no events"]


def test_labels_that_belong_to_no_event_are_refused_and_some_are_warned_of() -> None:
    unlabelled = columns()
    unlabelled["known"][:] = -1
    assert checked(unlabelled, LabelFile(80, 80, 0)).refusals == [
        "none of 80 labels is of a known event: do event_ids agree?"
    ]
    assert warnings(checked(columns(), LabelFile(80, 20, 2))) == [
        "20 of 80 labels belong to no event",
        "2 events have both labels; the last one counts",
    ]
    assert checked(columns(), LabelFile(80, 8, 0)).verdict == "ok"


def warnings(quality: DataQuality) -> list[str]:
    assert quality.verdict == "warnings", quality.findings
    return [finding.text for finding in quality.of("warning")]


def seldom_without_mistake(values: Values) -> None:
    """A field that marks most frauds and now and then another event."""
    draw = np.random.default_rng(5)
    marked = np.where(frauds(values), draw.random(COUNT) < 0.98, draw.random(COUNT) < 0.002)
    values["channel"] = np.where(marked, "review", values["channel"]).tolist()


def amounts_that_tell_all(values: Values) -> None:
    values["amount"] = np.where(frauds(values), values["amount"] + 1e6, values["amount"])


def some_ids_again(values: Values) -> None:
    values["event_id"][100:300] = values["event_id"][:200]


def a_lasting_value_of_frauds(values: Values) -> None:
    chosen = frauds(values) & (np.arange(COUNT) % 2 == 0)
    values["country"] = np.where(chosen, "XX", values["country"]).tolist()


def days_without_events(values: Values) -> None:
    day = (values["occurred_at"] - BEGIN) // DAY
    kept = np.flatnonzero((day < 10) | (day > 12))
    for name, column in values.items():
        values[name] = reordered(column, kept)


def a_thin_day(values: Values) -> None:
    day = (values["occurred_at"] - BEGIN) // DAY
    kept = np.flatnonzero((day != 10) | (np.arange(COUNT) % 20 == 0))
    for name, column in values.items():
        values[name] = reordered(column, kept)


def one_event_an_account(values: Values) -> None:
    values["account_id"] = [f"session-{number}" for number in range(COUNT)]


def labels_before_events(values: Values) -> None:
    values["given_at"] = np.where(frauds(values), values["occurred_at"] - 3_600_000, 0)


def filled_in_later(values: Values) -> None:
    young = values["occurred_at"] > values["occurred_at"][-1] + 1 - 7 * DAY
    values["category"] = [None if each else "c1" for each in young.tolist()]


def filled_in_with_the_label(values: Values) -> None:
    """For every judged event, whatever the verdict."""
    judged = np.arange(COUNT) % 3 == 0
    values["known"] = np.where(judged, np.maximum(values["known"], 0), -1).astype(np.int8)
    values["memo"] = ["case" if each else None for each in judged.tolist()]


def inverted_labels(values: Values) -> None:
    values["known"] = np.where(np.arange(COUNT) % 2 == 0, 1, -1).astype(np.int8)


def another_country(values: Values) -> None:
    late = np.arange(COUNT) > 0.7 * COUNT
    values["country"] = np.where(late, "BR", values["country"]).tolist()


def several_currencies(values: Values) -> None:
    values["currency"] = ["EUR", "JPY"] * (COUNT // 2)


def free_of_charge(values: Values) -> None:
    values["amount"] = np.where(np.arange(COUNT) % 4 == 0, values["amount"], 0.0)


WARNED: list[tuple[Fault, str]] = [
    (seldom_without_mistake, "channel alone tells frauds from other events (AUC 0.9"),
    (amounts_that_tell_all, "amount alone tells frauds from other events (AUC 1.0000"),
    (some_ids_again, "1.7% of the events repeat an event_id"),
    (a_lasting_value_of_frauds, "country: the value 'XX' occurs in frauds alone"),
    (days_without_events, "days without an event: 3 of 30"),
    (a_thin_day, "days with less than a tenth of the usual"),
    (one_event_an_account, "is account_id the id of something else?"),
    (labels_before_events, "labels came before their event"),
    (filled_in_later, "category is empty in events that have not matured"),
    (filled_in_with_the_label, "memo is filled in for events with a label alone"),
    (inverted_labels, "are the labels inverted?"),
    (another_country, "country differs between first half and last quarter"),
    (several_currencies, "there are several currencies and no rates"),
    (free_of_charge, "75% of the amounts are 0"),
]


@pytest.mark.parametrize(("fault", "says"), WARNED, ids=[fault.__name__ for fault, _ in WARNED])
def test_what_a_person_should_look_at_is_a_warning(fault: Fault, says: str) -> None:
    values = columns()
    fault(values)
    assert any(says in text for text in warnings(checked(values)))


def test_a_wave_of_frauds_may_bring_a_new_value_for_a_while() -> None:
    values = columns()
    values["known"][2_000:2_040], values["country"][2_000:2_040] = 1, ["XX"] * 40
    assert checked(values).verdict == "ok"


def test_currencies_with_rates_are_no_finding() -> None:
    values = columns()
    several_currencies(values)
    assert quality_of(figures(values), rated=["JPY"]).verdict == "ok"


def test_a_history_without_labels_or_optional_fields_passes_with_notes() -> None:
    values = columns()
    values["known"][:] = -1
    values["memo"] = [None] * COUNT
    values["channel"] = ["online"] * COUNT
    found = checked(values)
    assert found.verdict == "ok"
    assert [finding.text for finding in found.of("note")] == [
        "channel is always 'online'",
        "no event has memo",
        "no fraud is known: a model can only learn what is unusual",
    ]
