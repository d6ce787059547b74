"""Versions of what labels say of merchants: made in SQL they say what a release of the same history says, and each
event and label counts once, whatever is repeated, late or cut off."""

from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import Events
from models.labels import LabelledHistory, LabelRelease, milliseconds
from models.merchant_labels import LABEL_FEATURES, SPANS, MerchantKnowledge, MerchantLabels
from models.state import NEVER
from storage.database import Database, DatabaseUnavailable
from storage.label_state import (
    NO_TIME,
    GivenLabel,
    LabelledEvent,
    StoredVersion,
    begin_snapshot,
    log_positions,
    merchants_since,
    newest_version,
    write_version,
)
from streams import label_versions
from streams.label_versions import make_version, milliseconds_of, portions, restore
from tests.storage.rows import RowMaker
from tests.streams.label_history import BEGIN, DAY, HORIZON, HOUR, LabelHistory, Payment, moment

MERCHANTS = [f"m{number}" for number in range(5)]


@pytest.fixture
def stored(database: Database) -> LabelHistory:
    return LabelHistory(database)


def knowledge(database: Database) -> MerchantKnowledge:
    """Of the newest version, read from SQL alone."""
    with database.reading() as connection:
        version = newest_version(connection)
        merchants = MerchantLabels()
        for columns in merchants_since(connection, 0):
            restore(merchants, columns)
    assert version is not None
    return merchants.knowledge(milliseconds_of(version.known_at))


def said(database: Database, name: str, merchant: str = "m1") -> float:
    return float(knowledge(database).features([merchant])[0, LABEL_FEATURES.index(name)])


def made(database: Database, at: int, **more: Any) -> StoredVersion:
    version = make_version(database, moment(at), HORIZON, **more)
    assert version is not None
    return version


def row_of(database: Database, version: StoredVersion) -> tuple[int, int, int]:
    """Events, frauds and corrections that it counted."""
    with database.reading() as connection:
        statement = f"SELECT events, frauds, corrections FROM label_versions WHERE version = {version.version}"
        return tuple(connection.exec_driver_sql(statement).one())  # type: ignore[return-value]


def drawn(seed: int) -> tuple[list[Payment], list[tuple[int, str, int]]]:
    """Payments of 20 days in the order of time, and labels (payment, label, given_at): early, late, contradicting; of
    several on one payment the newest is given by its maturity."""
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(BEGIN, BEGIN + 20 * DAY, 120)).tolist()
    payments = [
        Payment(f"e{row}", time, str(draw.choice(MERCHANTS)), float(draw.choice([0.0, 0.4, 0.6, 1.0])))
        for row, time in enumerate(times)
    ]
    labels = []
    for row, time in enumerate(times):
        kind = draw.integers(5)
        if kind == 0:
            labels.append((row, "fraud", time + int(draw.integers(0, 7 * DAY))))
        elif kind == 1:
            labels.append((row, "fraud", time + int(draw.integers(7 * DAY, 14 * DAY))))
        elif kind == 2:
            first, second = np.sort(draw.integers(0, 7 * DAY, 2)).tolist()
            says = ("fraud", "legitimate") if draw.random() < 0.5 else ("legitimate", "fraud")
            labels += [(row, says[1], time + second), (row, says[0], time + first - 1)]  # the newer one joined first
    return payments, labels


def release_of(payments: list[Payment], labels: list[tuple[int, str, int]]) -> LabelRelease:
    events = Events.from_columns(
        {
            "event_id": [payment.name for payment in payments],
            "occurred_at": [payment.at for payment in payments],
            "account_id": ["a1"] * len(payments),
            "merchant_id": [payment.merchant for payment in payments],
            "amount": [1.0] * len(payments),
        }
    )
    known, given = np.full(len(payments), -1, np.int8), np.zeros(len(payments), np.int64)
    for row, label, given_at in sorted(labels, key=lambda one: one[2]):
        known[row], given[row] = label == "fraud", given_at
    history = LabelledHistory.of(events, known, now=2**60, horizon=HORIZON, given_at=given)
    release = LabelRelease(history)
    release.note(np.arange(len(payments)), np.array([payment.unexplained for payment in payments], np.float64))
    return release


@pytest.mark.parametrize("seed", range(3))
def test_versions_say_what_a_release_of_the_same_history_says(
    database: Database, stored: LabelHistory, seed: int
) -> None:
    payments, labels = drawn(seed)
    release = release_of(payments, labels)
    draw = np.random.default_rng(seed)
    stored.store(payments)
    hour, waiting, told = BEGIN, labels, 0.0
    while hour < BEGIN + 35 * DAY:
        following = hour + int(draw.choice([1, 5, 30, 200])) * HOUR
        for step in range(hour + HOUR, following + HOUR, HOUR):
            expected = release.knowledge(step).features(MERCHANTS)
        hour = following
        for row, label, given_at in waiting:
            if given_at <= hour:
                stored.label(payments[row].name, label, given_at)
        waiting = [one for one in waiting if one[2] > hour]
        made(database, hour + 17 * 60_000, at_once=int(draw.choice([1, 7, 50_000])))
        found = knowledge(database).features(MERCHANTS)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        told = max(told, float(np.ptp(found[:, LABEL_FEATURES.index("unexplained_rate_week")])))
    assert not waiting
    assert told > 1, "merchants that are all alike would prove nothing"


@pytest.mark.parametrize("seed", range(3))
def test_the_first_version_of_a_long_history_says_what_one_an_hour_would_have_said(
    database: Database, stored: LabelHistory, seed: int
) -> None:
    payments, labels = drawn(seed)
    release = release_of(payments, labels)
    stored.store(payments)
    for row, label, given_at in labels:
        stored.label(payments[row].name, label, given_at)
    end = BEGIN + 35 * DAY
    for step in range(BEGIN, end + HOUR, HOUR):
        expected = release.knowledge(step).features(MERCHANTS)
    version = made(database, end, at_once=5)
    np.testing.assert_allclose(knowledge(database).features(MERCHANTS), expected, rtol=1e-6, atol=1e-6)
    events, frauds, corrections = row_of(database, version)
    late = sum(given > payments[row].at + milliseconds(HORIZON) for row, _, given in labels)
    assert (events, corrections) == (len(payments), late)
    assert frauds > 0 < late


@pytest.mark.parametrize("seed", range(2))
def test_each_event_and_label_counts_once_however_late_it_is_stored_or_joined(
    database: Database, stored: LabelHistory, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    payments, _ = drawn(seed)
    newest: dict[int, tuple[int, bool]] = {}
    unstored, unjoined = list(range(len(payments))), []
    for row in range(len(payments)):
        for _ in range(draw.integers(0, 4)):  # contradicting ones among them, in any order of joining
            given, fraud = payments[row].at + int(draw.integers(0, 14 * DAY)), bool(draw.random() < 0.5)
            unjoined.append((row, given, fraud))
            newest[row] = max(newest.get(row, (0, False)), (given, fraud))
    hour = BEGIN + 8 * DAY
    while unstored or unjoined:
        hour += int(draw.choice([1, 24, 48])) * HOUR
        now = [row for row in unstored if draw.random() < 0.4]
        if now:
            stored.store([payments[row] for row in now])
        unstored = [row for row in unstored if row not in now]
        for one in [one for one in unjoined if one[0] not in unstored and draw.random() < 0.4]:
            unjoined.remove(one)
            # Joined long before it was committed, as after an outage.
            stored.label(payments[one[0]].name, "fraud" if one[2] else "legitimate", one[1], joined_at=moment(BEGIN))
        made(database, hour)
    end = max(hour, BEGIN + 40 * DAY) + HOUR
    made(database, end)

    state, rows = knowledge(database).state, knowledge(database).rows
    for merchant in MERCHANTS:
        own = [row for row in range(len(payments)) if payments[row].merchant == merchant]
        fraud = np.array([newest.get(row, (0, False))[1] for row in own], np.float64)
        unexplained = np.array([payments[row].unexplained for row in own], np.float64)
        weight = np.exp((np.array([payments[row].at for row in own])[:, None] - end) / SPANS)
        expected = [weight.sum(0), (weight * fraud[:, None]).sum(0), (weight * (fraud * unexplained)[:, None]).sum(0)]
        place = rows[merchant]
        faded = state.sums[place] * np.tile(np.exp((state.as_of[place] - end) / SPANS), 3)
        assert faded == pytest.approx(np.concatenate(expected), rel=1e-9, abs=1e-12)


@given(
    minutes=st.lists(st.integers(0, 59), min_size=1, max_size=8).map(sorted),
    counted=st.lists(st.integers(0, 59), max_size=5),
    at_once=st.integers(1, 9),
)
def test_what_becomes_known_in_an_hour_is_folded_in_the_order_of_time_however_it_is_cut(
    minutes: list[int], counted: list[int], at_once: int
) -> None:
    maturity = BEGIN + milliseconds(HORIZON)
    matured = [LabelledEvent("m1", BEGIN + 1 + minute * 60_000, 1.0, []) for minute in minutes]
    corrected = [
        LabelledEvent("m1", BEGIN + 2 + minute * 60_000, 1.0, [GivenLabel(maturity + 1, True, False)])
        for minute in counted
    ]
    found = list(portions(iter(matured), corrected, milliseconds(HORIZON), at_once))
    assert {portion.hour for portion in found} == {maturity + HOUR}
    assert max(len(portion.matured) for portion in found) <= at_once
    folded = [
        sorted(zip(portion.records.occurred_at.tolist(), portion.records.fraud.tolist(), strict=True))
        for portion in found
    ]
    flat = [one for some in folded for one in some]
    assert flat == sorted(flat)
    expected = [(event.occurred_at, False) for event in matured] + [(event.occurred_at, True) for event in corrected]
    assert sorted(flat) == sorted(expected)


def test_the_newest_label_counts_and_a_change_of_mind_after_maturity_is_a_correction(
    database: Database, stored: LabelHistory
) -> None:
    stored.store([Payment("e1", BEGIN)])
    stored.label("e1", "fraud", BEGIN + DAY)
    assert row_of(database, made(database, BEGIN + 7 * DAY)) == (1, 1, 0)
    assert said(database, "run_open") == 1
    stored.label("e1", "legitimate", BEGIN + 8 * DAY)
    assert row_of(database, made(database, BEGIN + 8 * DAY)) == (0, 0, 1)
    assert said(database, "run_open") == 0
    stored.label("e1", "fraud", BEGIN + 7 * DAY)  # came later, but is older
    stored.label("e1", "legitimate", BEGIN + 9 * DAY)
    assert row_of(database, made(database, BEGIN + 9 * DAY)) == (0, 0, 0)
    assert said(database, "run_open") == 0


def test_no_label_counts_before_its_event_has_matured_nor_before_it_was_given(
    database: Database, stored: LabelHistory
) -> None:
    stored.store([Payment("e1", BEGIN)])
    stored.label("e1", "fraud", BEGIN)
    assert row_of(database, made(database, BEGIN + 7 * DAY - HOUR)) == (0, 0, 0)
    stored.label("e1", "legitimate", BEGIN + 7 * DAY + 1)  # in the future of the next version
    assert row_of(database, made(database, BEGIN + 7 * DAY)) == (1, 1, 0)
    assert row_of(database, made(database, BEGIN + 7 * DAY + HOUR)) == (0, 0, 1)


def test_a_label_on_an_alert_counts_for_each_of_its_events(database: Database, stored: LabelHistory) -> None:
    stored.store([Payment("e1", BEGIN), Payment("e2", BEGIN + 60_000, "m2")], alert_id="alert-1")
    RowMaker(database).alert("alert-1", ["e1", "e2"])
    stored.label(None, "fraud", BEGIN + DAY, alert_id="alert-1")
    assert row_of(database, made(database, BEGIN + 7 * DAY)) == (1, 1, 0)
    assert row_of(database, made(database, BEGIN + 7 * DAY + HOUR)) == (1, 1, 0)
    stored.label(None, "legitimate", BEGIN + 7 * DAY + HOUR, alert_id="alert-1")
    assert row_of(database, made(database, BEGIN + 7 * DAY + 2 * HOUR)) == (0, 0, 2)


def test_rewards_and_pending_labels_say_nothing(database: Database, stored: LabelHistory) -> None:
    stored.store([Payment("e1", BEGIN)])
    stored.label("e1", "fraud", BEGIN, status="pending")
    stored.label("e1", "fraud", BEGIN, kind="reward")
    assert row_of(database, made(database, BEGIN + 7 * DAY)) == (1, 0, 0)


def test_an_event_of_which_nobody_knows_how_far_it_is_explained_makes_no_run(
    database: Database, stored: LabelHistory
) -> None:
    stored.store([Payment("e1", BEGIN, unexplained=None)])
    stored.label("e1", "fraud", BEGIN)
    assert row_of(database, made(database, BEGIN + 7 * DAY)) == (1, 1, 0)
    assert said(database, "run_open") == 0
    assert said(database, "fraud_rate_week") > said(database, "unexplained_rate_week")


def test_an_hour_has_one_version_and_time_makes_no_older_one(database: Database, stored: LabelHistory) -> None:
    stored.store([Payment("e1", BEGIN)])
    made(database, BEGIN + 7 * DAY + 5)
    for at in (BEGIN + 7 * DAY + HOUR - 1, BEGIN + 7 * DAY - HOUR):
        assert make_version(database, moment(at), HORIZON) is None
    assert said(database, "matured_week") == pytest.approx(np.log1p(np.exp(-1)))


def test_an_event_that_was_counted_stays_so_under_a_longer_horizon(database: Database, stored: LabelHistory) -> None:
    stored.store([Payment("e1", BEGIN), Payment("e2", BEGIN + DAY)])
    made(database, BEGIN + 7 * DAY)
    for days in (9, 12, 16):
        version = make_version(database, moment(BEGIN + days * DAY), timedelta(days=14))
        assert version is not None
        assert row_of(database, version) == ((1, 0, 0) if days == 16 else (0, 0, 0))


class Killed(Exception):
    """Stands for the death of the process."""


def test_a_making_that_dies_before_its_commit_leaves_nothing_and_is_made_up_for(
    database: Database, stored: LabelHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    payments, labels = drawn(9)
    stored.store(payments)
    for row, label, given_at in labels:
        stored.label(payments[row].name, label, given_at)
    made(database, BEGIN + 10 * DAY)
    with monkeypatch.context() as patched:
        patched.setattr(label_versions, "write_merchants", die)
        with pytest.raises(Killed):
            make_version(database, moment(BEGIN + 20 * DAY), HORIZON)
    release, expected = release_of(payments, labels), np.zeros(0)
    for step in range(BEGIN, BEGIN + 30 * DAY + HOUR, HOUR):
        expected = release.knowledge(step).features(MERCHANTS)
    assert made(database, BEGIN + 30 * DAY).version == 2
    np.testing.assert_allclose(knowledge(database).features(MERCHANTS), expected, rtol=1e-6, atol=1e-6)


def test_of_two_that_make_the_same_version_at_once_one_fails_as_worth_another_try(postgres_database: Database) -> None:
    LabelHistory(postgres_database).store([Payment("e1", BEGIN)])
    hour = moment(BEGIN + 7 * DAY)

    def make_meanwhile() -> None:
        with postgres_database.begin() as connection:
            begin_snapshot(connection)
            version = StoredVersion(1, hour, hour - HORIZON, log_positions(connection))
            made(postgres_database, BEGIN + 7 * DAY)
            write_version(connection, version, hour, events=0, frauds=0, corrections=0)

    with pytest.raises(DatabaseUnavailable):
        make_meanwhile()
    assert said(postgres_database, "matured_week") > 0


def test_what_is_stored_of_a_merchant_is_what_the_fold_knew(database: Database, stored: LabelHistory) -> None:
    assert NO_TIME == NEVER
    stored.store([Payment("e1", BEGIN, "mü'\"\\"), Payment("e2", BEGIN + 123, "mü'\"\\")])
    stored.label("e2", "fraud", BEGIN)
    made(database, BEGIN + 7 * DAY + HOUR)
    found: npt.NDArray[np.float32] = knowledge(database).features(["mü'\"\\"])
    days = {
        name: float(found[0, LABEL_FEATURES.index(name)])
        for name in ("days_since_run_began", "days_since_legitimate_before_run", "days_since_legitimate")
    }
    assert days == pytest.approx(
        {
            "days_since_run_began": (7 * DAY + HOUR - 123) / DAY,
            "days_since_legitimate_before_run": (7 * DAY + HOUR) / DAY,
            "days_since_legitimate": (7 * DAY + HOUR) / DAY,
        }
    )
