"""A second model over the same features: it scores as it would alone, and changes nothing of the first one's scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import Events
from models.scoring import IncompatibleModel, ScoredBatch, Scorer
from tests.models.logs import busy_log, cut, log_of, logs, untrained
from tests.models.test_warming import first_and_rest, other_model, scores


def shadow_scores(scored: list[ScoredBatch]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(batch.shadow.score for batch in scored if batch.shadow is not None)])


def assert_alike(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.slow
@given(logs(most=80), st.floats(0, 1), st.lists(st.integers(0, 80), max_size=4))
def test_a_shadow_scores_as_the_model_would_that_takes_over_at_its_start(
    events: Events, share: float, places: list[int]
) -> None:
    before, after = first_and_rest(events, share)
    shadowed, replaced, alone = (Scorer(untrained(), initial_capacity=2) for _ in range(3))
    for scorer in (shadowed, replaced, alone):
        scorer.score(before)
    shadowed.start_shadow(other_model())
    replaced.replace_model(other_model())
    batches = [shadowed.score(batch) for batch in cut(after, places)]
    assert_alike(shadow_scores(batches), scores(replaced, [after]))
    expected = [alone.score(batch) for batch in cut(after, places)]
    for batch, undisturbed in zip(batches, expected, strict=True):
        assert np.array_equal(batch.score, undisturbed.score, equal_nan=True)
        assert np.array_equal(batch.flagged, undisturbed.flagged)


def test_a_shadow_is_judged_by_its_own_threshold_and_kind() -> None:
    scorer = Scorer(untrained(threshold=1.1))
    scorer.start_shadow(untrained(hidden=12, threshold=1e-9))
    scored = scorer.score(log_of([{"number": 1}, {"number": 1}, {"number": 2}]))
    assert scored.shadow is not None
    assert (scored.flagged.tolist(), scored.shadow.flagged.tolist()) == ([False] * 3, [True, False, True])
    assert scored.shadow.threshold == 1e-9


def test_a_shadow_ends_and_another_begins_between_two_batches() -> None:
    first, second = first_and_rest(busy_log(), 0.5)
    scorer = Scorer(untrained())
    assert scorer.score(first).shadow is None
    scorer.start_shadow(other_model())
    scorer.start_shadow(untrained(hidden=6))
    scored = scorer.score(second)
    assert scored.shadow is not None
    alone = Scorer(untrained())
    alone.score(first)
    alone.replace_model(untrained(hidden=6))
    assert_alike(scored.shadow.score, alone.score(second).score)
    scorer.stop_shadow()
    assert scorer.score(log_of([{"number": 9_999}])).shadow is None


def test_a_shadow_lives_through_a_replacement_of_the_model_in_use() -> None:
    first, second = first_and_rest(busy_log(), 0.5)
    scorer, alone = Scorer(untrained()), Scorer(other_model())
    scorer.start_shadow(other_model())
    scorer.score(first)
    alone.score(first)
    scorer.replace_model(untrained(hidden=6))
    scored = scorer.score(second)
    assert scored.shadow is not None
    assert_alike(scored.shadow.score, alone.score(second).score)


def test_a_shadow_begins_with_the_rings_where_the_state_was_restored() -> None:
    """Silent replay moves the model in use alone."""
    first, second = first_and_rest(busy_log(), 0.5)
    restored, expected = Scorer(untrained()), Scorer(untrained())
    restored.start_shadow(other_model())
    restored.fold(first)
    expected.fold(first)
    expected.replace_model(other_model())
    scored = restored.score(second)
    assert scored.shadow is not None
    assert_alike(scored.shadow.score, expected.score(second).score)


def test_a_slot_that_is_used_again_holds_nothing_of_the_shadow_state_before() -> None:
    scorer, fresh = Scorer(untrained(), initial_capacity=2), Scorer(other_model())
    scorer.start_shadow(other_model())
    scorer.score(busy_log())
    scorer.drop_partition(0)
    again = log_of([{"account": 500 + k % 3, "minute": k} for k in range(8)])
    scored = scorer.score(again)
    assert scored.shadow is not None
    assert_alike(scored.shadow.score, fresh.score(again).score)


def test_a_shadow_with_another_reporting_limit_is_refused_and_the_one_before_goes_on() -> None:
    scorer = Scorer(untrained())
    scorer.start_shadow(other_model())
    with pytest.raises(IncompatibleModel, match="reporting limit is 5000"):
        scorer.start_shadow(untrained(reporting_limit=5_000.0))
    assert scorer.score(log_of([{"number": 1}])).shadow is not None
