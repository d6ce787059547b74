"""Maturity: what may be learned from verdicts that came, and from none."""

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.labels import training_labels

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
