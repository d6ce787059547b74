"""What a profile says in numbers, against the same counted by hand, and however the history was read."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data_figures import LabelFile, figures_of
from models.data_profile import DataProfile
from tests.models.histories_to_check import BEGIN, COUNT, DAY, HORIZON, columns, figures, frauds, observed, profile

HONEST = columns()
FIGURES = figures(HONEST)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(100, 2_000), min_size=1, max_size=5))
def test_figures_do_not_depend_on_how_the_history_was_read(sizes: list[int]) -> None:
    assert figures_of(profile(HONEST, sizes=tuple(sizes))) == FIGURES


def test_days_are_counted_as_by_hand() -> None:
    days = (HONEST["occurred_at"] - BEGIN) // DAY
    assert FIGURES.empty_days == 0
    for place, day in enumerate(FIGURES.days):
        rows = np.flatnonzero(days == place)
        assert day.day == BEGIN // DAY + place
        assert (day.events, day.accounts) == (len(rows), len({HONEST["account_id"][row] for row in rows}))
        assert day.merchants == len({HONEST["merchant_id"][row] for row in rows})
        matured = HONEST["occurred_at"][rows] <= FIGURES.matured_until
        assert (day.matured, day.frauds) == (matured.sum(), (frauds(HONEST)[rows] & matured).sum())


def test_a_day_without_events_is_counted() -> None:
    values = columns()
    values["occurred_at"] = np.where(
        (values["occurred_at"] - BEGIN) // DAY == 4, BEGIN + 4 * DAY - 1, values["occurred_at"]
    )
    assert figures(values).empty_days == 1


def test_entities_and_fields_are_counted_as_by_hand() -> None:
    events_of = Counter(HONEST["account_id"])
    assert (FIGURES.events, FIGURES.accounts) == (COUNT, len(events_of))
    assert FIGURES.merchants == len(set(HONEST["merchant_id"]))
    assert FIGURES.median_events_per_account == np.median(list(events_of.values()))
    by_name = {field.name: field for field in FIGURES.fields}
    assert by_name["memo"].missing == pytest.approx(0.8)
    assert by_name["memo"].values == COUNT / 5
    country = Counter(HONEST["country"])
    assert (by_name["country"].values, by_name["country"].frequent) == (3, ("DE", "FR", "PL"))
    assert by_name["country"].commonest == pytest.approx(country["DE"] / COUNT)
    assert by_name["country"].filled_young == 1.0


def test_labels_are_counted_by_maturity_with_their_delays() -> None:
    known = FIGURES.labels
    matured = HONEST["occurred_at"] <= HONEST["occurred_at"][-1] + 1 - HORIZON
    fraud = frauds(HONEST)
    assert (known.matured, known.frauds) == (matured.sum(), (matured & fraud).sum())
    assert (known.labelled, known.legitimate, known.early) == (known.frauds, 0, (~matured & fraud).sum())
    assert known.delay_days == pytest.approx({"10%": 3.0, "50%": 3.0, "90%": 3.0, "99%": 3.0})
    assert sum(band.labels for band in FIGURES.delays) == known.timed == fraud.sum()


def test_bands_of_amounts_hold_every_event_once() -> None:
    for band in FIGURES.amounts:
        inside = (HONEST["amount"] >= band.least * (1 - 1e-9)) & (HONEST["amount"] < band.below * (1 - 1e-9))
        assert band.frauds + band.others == pytest.approx(inside.sum(), abs=2)
    assert sum(band.frauds + band.others for band in FIGURES.amounts) == COUNT


def test_no_column_of_an_honest_history_tells_frauds_apart_but_amounts_a_little() -> None:
    assert FIGURES.separations[0].column == "amount"
    assert 0.65 < FIGURES.separations[0].auc < 0.85
    assert all(found.auc < 0.6 for found in FIGURES.separations[1:])
    assert FIGURES.fraud_only == ()


def test_drift_is_that_of_the_last_quarter_against_the_first_half() -> None:
    assert all(drift.index < 0.02 for drift in FIGURES.drifts)
    values = columns()
    late = np.arange(COUNT) > 0.7 * COUNT
    values["country"] = np.where(late, "BR", values["country"]).tolist()
    assert figures(values).drifts[0].subject == "country"
    assert figures(values).drifts[0].index > 1


def test_features_are_looked_at_beside_the_fields() -> None:
    seen = profile(HONEST)
    fraud = frauds(HONEST)
    found = DataProfile(seen.matured_until, ["known_to_the_model"])
    values = np.where(np.arange(COUNT) % 7 == 0, np.nan, fraud)[:, None].astype(np.float32)
    found.add(observed(HONEST), values)
    assert figures_of(found).separations[0].column == "feature known_to_the_model"
    assert figures_of(found).separations[0].auc == pytest.approx(1.0)


def test_a_history_of_nothing_has_figures() -> None:
    nothing = figures_of(DataProfile(0), LabelFile(3, 3, 0))
    assert (nothing.events, nothing.days, nothing.drifts, nothing.labels.unmatched) == (0, (), (), 3)
