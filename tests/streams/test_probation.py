"""When a model may not stay in use: decisions from counts and scores alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scoring import Scorer, Trial
from streams.probation import (
    FEW_EVENTS,
    MOST_BESIDE,
    PROBATION_EVENTS,
    TALLY_EVENTS,
    Probation,
    Tally,
    failed_trial,
    jump,
    no_numbers,
)
from tests.models.logs import log_of, untrained

parts = st.lists(st.tuples(st.integers(0, 5_000), st.floats(0, 1)), max_size=30)


@pytest.mark.parametrize(
    ("scores", "share", "fails"),
    [
        (np.zeros(0), None, False),
        (np.full(1000, 0.1), None, False),
        (np.full(15, 0.9), 0.001, False),  # few events prove little
        (np.append(np.full(30, 0.9), np.full(970, 0.1)), 0.001, False),
        (np.append(np.full(31, 0.9), np.full(969, 0.1)), 0.001, True),
        (np.append(np.full(31, 0.9), np.full(969, 0.1)), 0.01, False),
        (np.array([0.1, np.nan]), 0.5, True),
        (np.array([0.1, np.inf]), 0.5, True),
    ],
)
def test_a_trial_fails_for_what_is_no_number_and_for_ten_times_the_budget(
    scores: Any, share: float | None, fails: bool
) -> None:
    quiet = Trial(np.zeros(len(scores)), threshold=0.5)
    assert (failed_trial(Trial(scores, threshold=0.5), quiet, share) is not None) is fails


def test_a_model_may_flag_what_the_one_in_use_flags() -> None:
    """A wave of frauds must keep nobody from rolling back."""
    wave = Trial(np.append(np.full(400, 0.9), np.full(600, 0.1)), threshold=0.5)
    assert failed_trial(wave, wave, 0.001) is None


@given(parts, st.floats(0, 1))
def test_within_ten_times_what_is_expected_nothing_is_a_jump(batches: list[tuple[int, float]], share: float) -> None:
    probation: Probation | None = Probation(share)
    for events, part in batches:
        if probation is None:
            break
        flagged = int(events * share * 10 * part) if share * 10 * part <= 1 else events
        if flagged <= events * share * 10:
            assert jump(probation, events, flagged) is None
            probation = probation.plus(events, flagged)


@given(st.integers(0, PROBATION_EVENTS - 1), st.floats(0, 0.09), st.integers(1, 500))
def test_more_than_ten_times_what_is_expected_and_some_beside_is_a_jump(events: int, share: float, more: int) -> None:
    before = Probation(share, events=events, flagged=int(MOST_BESIDE + 10 * share * events))
    why = jump(before, 0, more)
    assert why is not None
    assert f"{before.flagged + more} of its first {events} events" in why


def test_some_flagged_events_prove_nothing_however_few_were_expected() -> None:
    assert jump(Probation(0.0), 20, 20) is None
    assert jump(Probation(0.0), 21, 21) is not None


def test_probation_ends_after_its_events() -> None:
    probation = Probation(0.01).plus(PROBATION_EVENTS - 1, 7)
    assert probation == Probation(0.01, PROBATION_EVENTS - 1, 7)
    assert probation.plus(1, 0) is None


def test_a_share_is_known_after_enough_events_and_follows_what_changes() -> None:
    assert Tally().plus(FEW_EVENTS - 1, 500).share == 0
    tally = Tally().plus(TALLY_EVENTS, TALLY_EVENTS // 100)
    assert tally.share == pytest.approx(0.01)
    for _ in range(50):
        tally = tally.plus(TALLY_EVENTS // 10, TALLY_EVENTS // 10 // 20)
    assert tally.share == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_score_that_is_no_number_is_enough_and_a_repeat_needs_none(value: float) -> None:
    scored = Scorer(untrained()).score(log_of([{"number": 1}, {"number": 1}, {"number": 2}]))
    assert np.isnan(scored.score[1])
    assert no_numbers(scored) is None
    scored.score[2] = value
    assert no_numbers(scored) == "1 of 2 scores in a batch are no numbers"
