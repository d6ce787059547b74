"""Maturity: what may be learned from verdicts that came, and from none."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.features import FeatureBuilder
from models.labels import VERSION_INTERVAL, LabelledHistory, LabelRelease, training_labels, version_batches
from models.merchant_labels import LABEL_FEATURES
from tests.models.synthetic import DAY, history

NOW = 1_760_000_000_000
WEEK = timedelta(days=7)
WEEK_MILLISECONDS = 7 * 86_400_000


def test_an_old_event_without_a_verdict_is_legitimate() -> None:
    old = NOW - WEEK_MILLISECONDS
    labels = training_labels(np.array([old, old, old]), np.array([-1, 0, 1], np.int8), now=NOW, horizon=WEEK)
    assert labels.tolist() == [0, 0, 1]


def test_a_young_event_is_unknown_whatever_its_verdict() -> None:
    young = NOW - WEEK_MILLISECONDS + 1
    labels = training_labels(np.array([young, young, young]), np.array([-1, 0, 1], np.int8), now=NOW, horizon=WEEK)
    assert labels.tolist() == [-1, -1, -1]


@given(st.lists(st.tuples(st.integers(-20, 2), st.sampled_from([-1, 0, 1]))), st.integers(0, 30))
def test_each_event_is_unknown_until_it_is_as_old_as_the_horizon(rows: list[tuple[int, int]], days: int) -> None:
    ages, known = [age for age, _ in rows], [label for _, label in rows]
    occurred_at = NOW + 86_400_000 * np.array(ages, np.int64)

    labels = training_labels(occurred_at, np.array(known, np.int8), now=NOW, horizon=timedelta(days=days))

    assert labels.dtype == np.int8
    assert labels.tolist() == [max(label, 0) if -age >= days else -1 for age, label in rows]


# The release of labels in the order of time.

LATER_DAYS = 40


def knowledge_along(past: LabelledHistory) -> list[npt.NDArray[np.float32]]:
    """What labels say of each event's merchant when it happens."""
    release, builder, found = LabelRelease(past), FeatureBuilder(10_000.0), []
    for rows in version_batches(past.events.occurred_at, 700):
        builder.use_labels(release.knowledge(int(past.events.occurred_at[rows[0]])))
        built = builder.build(past.events.take(rows))
        release.note(rows[built.rows], built.unexplained)
        said = np.full((len(rows), len(LABEL_FEATURES)), np.nan, np.float32)
        said[built.rows] = built.labels
        found.append(said)
    return found


def test_no_label_is_seen_before_it_is_known() -> None:
    past = history(4_000, merchants=20, days=LATER_DAYS, frauds=0.05, seed=3)
    as_is = LabelledHistory.of(past.events, past.labels, now=2**60, horizon=timedelta(days=7))
    moment = int(past.events.occurred_at[2_000])
    unknown_then = as_is.known_at > moment
    changed = replace(as_is, labels=np.where(unknown_then, 1 - as_is.labels, as_is.labels).astype(np.int8))
    before, after = (np.concatenate(knowledge_along(labelled)) for labelled in (as_is, changed))
    early = past.events.occurred_at <= moment
    np.testing.assert_array_equal(before[early], after[early])
    assert (before[~early] != after[~early]).any()


@pytest.mark.slow
def test_a_fraud_whose_label_comes_late_counts_as_legitimate_until_then() -> None:
    past = history(4_000, merchants=20, days=LATER_DAYS, frauds=0.05, seed=3)
    horizon = timedelta(days=7)
    late = past.events.occurred_at + 20 * DAY
    as_is = LabelledHistory.of(past.events, past.labels, now=2**60, horizon=horizon, given_at=late)
    honest = LabelledHistory.of(past.events, np.zeros_like(past.labels), now=2**60, horizon=horizon)
    told, never = (np.concatenate(knowledge_along(labelled)) for labelled in (as_is, honest))
    first = past.events.occurred_at < past.events.occurred_at[0] + 20 * DAY
    np.testing.assert_array_equal(told[first], never[first])
    assert (told[~first] != never[~first]).any()


def test_a_history_as_of_a_moment_holds_what_was_known_then() -> None:
    past = history(4_000, merchants=20, days=LATER_DAYS, frauds=0.05, seed=3)
    given_at = past.events.occurred_at + np.where(np.arange(len(past.events)) % 2, 3, 20) * DAY
    whole = LabelledHistory.of(past.events, past.labels, now=2**60, horizon=timedelta(days=7), given_at=given_at)
    moment = int(past.events.occurred_at[3_000])
    then = whole.as_of(moment)
    assert then.events.occurred_at[-1] <= moment
    matured = then.events.occurred_at <= moment - 7 * DAY
    in_time = whole.known_at[: len(then)] <= moment
    np.testing.assert_array_equal(then.labels == -1, ~matured)
    np.testing.assert_array_equal(then.labels == 1, matured & in_time & (whole.labels[: len(then)] == 1))


def test_batches_of_a_history_hold_every_row_once_and_never_two_versions() -> None:
    times = np.sort(np.random.default_rng(0).integers(0, 5 * VERSION_INTERVAL, 1_000))
    batches = list(version_batches(times, 70))
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(1_000))
    assert max(len(rows) for rows in batches) <= 70
    assert all(len(set((times[rows] // VERSION_INTERVAL).tolist())) == 1 for rows in batches)
