"""A new model takes over between two batches: states are rebuilt from rings, at each account's first touch."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from models.artifact import TrainedDetector
from models.events import Events
from models.features import FeatureBuilder
from models.scoring import IncompatibleModel, Scorer
from models.state import FEATURE_ROWS
from models.warming import recent_rows, recent_rows_before
from tests.models.logs import busy_log, cut, log_of, logs, untrained


def scores(scorer: Scorer, batches: list[Events]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(scorer.score(batch).score for batch in batches)])


def first_and_rest(events: Events, share: float) -> tuple[Events, Events]:
    place = int(share * len(events))
    return events.take(np.arange(place)), events.take(np.arange(place, len(events)))


def other_model() -> TrainedDetector:
    return untrained(hidden=12, seed=5)


@given(logs(most=80))
def test_recent_rows_are_the_newest_of_each_account_oldest_first(events: Events) -> None:
    builder, expected = FeatureBuilder(10_000.0, 4), dict[int, list[np.ndarray]]()
    for place in range(len(events)):
        built = builder.build(events.take(np.array([place])))
        for row, slot in enumerate(built.runs.slot.tolist()):
            expected.setdefault(slot, []).append(built.features[row].astype(np.float16).astype(np.float32))
    slots = builder.accounts_with_history
    assert sorted(expected) == slots.tolist()
    if not len(slots):
        return
    rows = recent_rows(builder.accounts, slots[::-1])
    for first, last in zip(rows.runs.first, rows.runs.last, strict=True):
        wanted = expected[int(rows.runs.slot[first])][-FEATURE_ROWS:]
        assert np.array_equal(rows.features[first : last + 1], np.array(wanted))


@given(logs(most=80), st.floats(0, 1))
def test_what_the_rings_held_before_a_batch_can_be_read_after_it(events: Events, share: float) -> None:
    before, batch = first_and_rest(events, share)
    builder = FeatureBuilder(10_000.0, 2)
    builder.build(before)
    touched = builder.slots_with_history(batch)
    expected = recent_rows(builder.accounts, touched)
    built = builder.build(batch)
    if built.duplicate.any():  # an account whose events are all repeats is not among the batch's accounts
        assume(set(built.runs.slot.tolist()) >= set(touched.tolist()))
    found = recent_rows_before(builder.accounts, built)
    assert np.array_equal(found.runs.slot, expected.runs.slot)
    assert np.array_equal(found.features, expected.features)
    assert np.array_equal(found.categories, expected.categories)


@pytest.mark.slow
@given(logs(most=80), st.floats(0, 1), st.floats(0, 1))
def test_a_batch_scored_again_is_scored_as_if_the_model_had_been_replaced_before_it(
    events: Events, share: float, of_rest: float
) -> None:
    before, rest = first_and_rest(events, share)
    batch, after = first_and_rest(rest, of_rest)
    again, replaced = Scorer(untrained(), initial_capacity=2), Scorer(untrained(), initial_capacity=2)
    for scorer in (again, replaced):
        scorer.score(before)
    replaced.replace_model(other_model())
    found = again.score_again(again.score(batch), other_model())
    expected = replaced.score(batch)
    np.testing.assert_allclose(found.score, expected.score, rtol=0, atol=1e-5)
    assert (found.threshold, found.flagged.tolist()) == (expected.threshold, expected.flagged.tolist())
    if not found.duplicate.any():  # an account of which there are repeats only is left for the next touch
        assert again.outdated_accounts == replaced.outdated_accounts
    assert np.array_equal(found.duplicate, expected.duplicate)
    np.testing.assert_allclose(again.score(after).score, replaced.score(after).score, rtol=0, atol=1e-5)


@pytest.mark.slow
@given(logs(most=80), st.floats(0, 1), st.lists(st.integers(0, 80), max_size=4))
def test_what_a_replacement_scores_does_not_depend_on_who_scored_before_nor_on_the_cut(
    events: Events, share: float, places: list[int]
) -> None:
    """A worker that was killed after the activation comes to the states of one that lived through it."""
    before, after = first_and_rest(events, share)
    lived = Scorer(untrained(), initial_capacity=2)
    scores(lived, cut(before, places))
    lived.replace_model(other_model())
    restored = Scorer(other_model(), initial_capacity=2)
    restored.remember(before)
    one, other = scores(lived, cut(after, places)), scores(restored, [after])
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_folding_after_the_activation_is_scoring_without_scores() -> None:
    before, after = first_and_rest(busy_log(), 0.4)
    middle, end = first_and_rest(after, 0.5)
    scored, folded = Scorer(other_model()), Scorer(other_model())
    for scorer in (scored, folded):
        scorer.remember(before)
    scored.score(middle)
    folded.fold(middle)
    np.testing.assert_allclose(scored.score(end).score, folded.score(end).score, rtol=0, atol=1e-6)


def test_rebuilt_states_are_those_of_a_network_that_saw_the_events_where_the_ring_holds_them_all() -> None:
    """Apart from the ring's half precision; without memos, which it does not hold."""
    rows = [{"account": k % 9, "merchant": k % 4, "minute": 30 * k, "amount": 5.0 + k % 13} for k in range(9 * 12)]
    saw, rebuilt = Scorer(other_model()), Scorer(untrained())
    saw.score(log_of(rows))
    rebuilt.score(log_of(rows))
    rebuilt.replace_model(other_model())
    following = log_of([{"account": k, "number": 1_000 + k, "minute": 40_000, "amount": 9.0} for k in range(9)])
    np.testing.assert_allclose(rebuilt.score(following).score, saw.score(following).score, rtol=0, atol=2e-3)


def test_accounts_are_rebuilt_when_they_are_touched_and_not_before() -> None:
    scorer = Scorer(untrained(), initial_capacity=2)
    scorer.score(log_of([{"account": k, "minute": k} for k in range(6)]))
    assert scorer.outdated_accounts == 0
    scorer.replace_model(other_model())
    assert scorer.outdated_accounts == 6
    scorer.score(log_of([{"account": k, "number": 10 + k, "minute": 9} for k in (1, 4, 7)]))
    assert scorer.outdated_accounts == 4  # account 7 is new
    scorer.drop_partition(0)
    assert scorer.outdated_accounts == 0


def test_a_new_account_in_a_slot_that_was_used_before_begins_with_an_empty_state() -> None:
    scorer = Scorer(untrained(), initial_capacity=2)
    scorer.score(busy_log())
    scorer.replace_model(other_model())
    scorer.drop_partition(0)
    fresh = Scorer(other_model())
    again = log_of([{"account": 500 + k % 3, "minute": k} for k in range(8)])
    np.testing.assert_allclose(scorer.score(again).score, fresh.score(again).score, rtol=0, atol=1e-6)


def test_a_trial_scores_the_latest_events_and_changes_nothing() -> None:
    before, after = first_and_rest(busy_log(), 0.6)
    tried, left_alone = Scorer(untrained()), Scorer(untrained())
    for scorer in (tried, left_alone):
        scorer.score(before)
    trial = tried.trial(other_model())
    assert len(trial.score) == tried.resident_accounts
    assert ((trial.score >= 0) & (trial.score <= 1)).all()
    assert np.array_equal(tried.score(after).score, left_alone.score(after).score)


def test_a_trial_is_what_the_model_will_say_once_it_has_taken_over() -> None:
    rows = [{"account": k % 5, "minute": 50 * k, "amount": 3.0 + k % 7} for k in range(5 * FEATURE_ROWS)]
    events = log_of(rows)
    scorer = Scorer(untrained())
    scorer.score(events)
    saw_all = Scorer(other_model()).score(events).score[-5:]
    np.testing.assert_allclose(np.sort(scorer.trial(other_model()).score), np.sort(saw_all), rtol=0, atol=2e-3)


def test_a_trial_shows_weights_that_are_no_numbers() -> None:
    scorer, broken = Scorer(untrained()), other_model()
    scorer.score(busy_log())
    with torch.no_grad():
        broken.network.head[0].weight[0, 0] = torch.nan
    assert np.isnan(scorer.trial(broken).score).all()


def test_a_trial_without_any_account_says_nothing() -> None:
    trial = Scorer(untrained()).trial(other_model())
    assert len(trial.score) == 0
    assert trial.flagged_share == 0.0


def test_a_model_with_another_reporting_limit_is_refused_and_the_one_before_goes_on() -> None:
    before, after = first_and_rest(busy_log(), 0.5)
    scorer, untouched = Scorer(untrained()), Scorer(untrained())
    for each in (scorer, untouched):
        each.score(before)
    with pytest.raises(IncompatibleModel, match=r"reporting limit is 5000, that of the model in use 10000"):
        scorer.replace_model(untrained(reporting_limit=5_000.0))
    assert np.array_equal(scorer.score(after).score, untouched.score(after).score)
