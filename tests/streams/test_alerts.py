"""Folding, raising and closing of alerts, as decided for one partition."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.alerts import MAX_EVENTS, AlertBook, AlertRevision, FlaggedEvent, deterministic_id, severity

MINUTE = 60_000
FOLD = 30 * MINUTE


def flagged(minute: float, account: str = "a", **changes: object) -> FlaggedEvent:
    event = FlaggedEvent(
        event_id=f"event-{account}-{minute}",
        account_id=account,
        offset=int(minute * 10),
        occurred_at=int(minute * MINUTE),
        scored_at=int(minute * MINUTE) + 5,
        amount=100.0,
        score=0.9,
        score_kind="probability",
        threshold=0.5,
        model="fraud:1",
    )
    return replace(event, **changes)


def apply(book: AlertBook, *events: FlaggedEvent) -> list[AlertRevision]:
    return [revision for event in events for revision in book.apply(event, f"alert-of-{event.event_id}")]


def test_events_within_thirty_minutes_of_the_last_one_raise_the_revision() -> None:
    revisions = apply(AlertBook(fold_within=FOLD), flagged(0), flagged(30), flagged(59, score=0.95))
    assert [r.revision for r in revisions] == [1, 2, 3]
    assert len({r.alert_id for r in revisions}) == 1
    assert revisions[-1].event_ids == ("event-a-0", "event-a-30", "event-a-59")
    assert (revisions[-1].score, revisions[-1].amount_at_risk) == (0.95, 300.0)


def test_a_later_event_closes_the_open_alert_and_opens_a_new_one() -> None:
    revisions = apply(AlertBook(fold_within=FOLD), flagged(0), flagged(31))
    assert [(r.revision, r.status, r.closed_by) for r in revisions] == [
        (1, "open", None),
        (2, "closed", "time"),
        (1, "open", None),
    ]
    assert revisions[0].alert_id == revisions[1].alert_id != revisions[2].alert_id


def test_an_event_out_of_order_does_not_move_the_alert_back_in_time() -> None:
    revisions = apply(AlertBook(fold_within=FOLD), flagged(20), flagged(5))
    assert revisions[-1].occurred_at == 20 * MINUTE


def test_alerts_of_different_accounts_stay_apart() -> None:
    revisions = apply(AlertBook(fold_within=FOLD), flagged(0, "a"), flagged(1, "b"))
    assert [r.revision for r in revisions] == [1, 1]


def test_time_closes_an_alert_and_an_early_look_does_not() -> None:
    book = AlertBook(fold_within=FOLD)
    apply(book, flagged(0))
    assert book.close_before(30 * MINUTE) == []
    (closed,) = book.close_before(31 * MINUTE)
    assert (closed.status, closed.closed_by, closed.revision, closed.offset) == ("closed", "time", 2, None)
    assert not book.open_alerts


def test_a_verdict_closes_only_the_alert_that_it_is_about() -> None:
    book = AlertBook(fold_within=FOLD)
    first, _ = apply(book, flagged(0, "a"), flagged(0, "b"))
    (closed,) = book.close_by_verdict({first.alert_id, "unknown"})
    assert (closed.account_id, closed.closed_by) == ("a", "verdict")
    assert set(book.open_alerts) == {"b"}


def test_a_verdict_on_one_of_its_events_closes_the_alert() -> None:
    book = AlertBook(fold_within=FOLD)
    apply(book, flagged(0), flagged(1))
    assert book.close_by_verdict(set(), {"some-other-event"}) == []
    (closed,) = book.close_by_verdict(set(), {"event-a-0"})
    assert closed.closed_by == "verdict"


def test_an_alert_with_too_many_events_closes_as_full() -> None:
    revisions = apply(AlertBook(fold_within=FOLD), *(flagged(minute) for minute in range(MAX_EVENTS + 1)))
    assert [r.closed_by for r in revisions].count("full") == 1
    assert len(revisions[-1].event_ids) == 1


def test_reasons_stay_those_of_the_highest_score() -> None:
    low, high = ("low",), ("high",)
    revisions = apply(
        AlertBook(fold_within=FOLD),
        flagged(0, score=0.9, reasons=high),
        flagged(1, score=0.6, reasons=low),
    )
    assert revisions[-1].reasons == high


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("abc")), max_size=60), st.integers(0, 60))
def test_a_book_restored_from_its_revisions_goes_on_as_if_nothing_had_happened(
    steps: list[tuple[int, str]], cut: int
) -> None:
    events = [flagged(minute, account) for minute, account in steps]
    undisturbed = AlertBook(fold_within=FOLD)
    expected = apply(undisturbed, *events)

    before = AlertBook(fold_within=FOLD)
    written = apply(before, *events[:cut])
    latest = {revision.alert_id: revision for revision in written}
    restored = AlertBook(
        fold_within=FOLD,
        next_sequence=len(written),
        open_alerts=[revision for revision in latest.values() if revision.status == "open"],
    )
    assert written + apply(restored, *events[cut:]) == expected
    assert [revision.sequence for revision in expected] == list(range(len(expected)))
    assert len({(r.alert_id, r.revision) for r in expected}) == len(expected) or len(set(events)) < len(events)


@pytest.mark.parametrize(
    ("score", "amount", "expected"),
    [(1.0, 49.0, "low"), (0.5, 100.0, "medium"), (0.5, 1_000.0, "high"), (0.5, 10_000.0, "critical")],
)
def test_severity_follows_the_expected_loss(score: float, amount: float, expected: str) -> None:
    assert severity(score, amount) == expected


def test_ids_differ_by_every_part_of_their_origin_and_repeat_for_the_same() -> None:
    origins = [
        ("t", "u", 0, 1, "d"),
        ("t", "u", 1, 1, "d"),
        ("t", "u", 0, 2, "d"),
        ("t", "v", 0, 1, "d"),
        ("s", "u", 0, 1, "d"),
    ]
    ids = [deterministic_id(*origin) for origin in origins]
    assert len(set(ids)) == len(ids)
    assert ids == [deterministic_id(*origin) for origin in origins]
