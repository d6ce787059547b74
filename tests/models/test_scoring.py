"""Scoring: one answer for every accepted event, whatever the batches, the partitions and the slots before it."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import TrainedDetector
from models.events import Events
from models.recurrence import NARROW_WAVE, wave_order
from models.runs import find_runs
from models.scoring import Scorer
from tests.models.logs import busy_log, cut, log_of, logs, of_partition, one_at_a_time, untrained
from tests.models.synthetic import history

MODEL = untrained()
cuts = st.lists(st.integers(0, 60), max_size=5)
Scores = npt.NDArray[np.float64]


def scores_of(scorer: Scorer, batches: list[Events]) -> Scores:
    """Of every event in log order; NaN for duplicates."""
    return np.concatenate([scorer.score(batch).score for batch in batches])


def assert_alike(found: Scores, expected: Scores, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)  # duplicates exactly: NaN equals NaN only


@settings(max_examples=25)
@given(logs(), cuts)
def test_scores_do_not_depend_on_how_the_log_is_cut(events: Events, places: list[int]) -> None:
    expected = scores_of(Scorer(MODEL), one_at_a_time(events))
    assert_alike(scores_of(Scorer(MODEL), [events]), expected)
    assert_alike(scores_of(Scorer(MODEL, initial_capacity=1), cut(events, places)), expected)


@pytest.mark.slow
def test_an_account_with_hundreds_of_events_in_a_batch_scores_as_one_at_a_time() -> None:
    events = busy_log()
    assert len(set(events.account_id)) >= NARROW_WAVE
    together, single = Scorer(MODEL), Scorer(MODEL)
    assert_alike(scores_of(together, [events]), scores_of(single, one_at_a_time(events)))
    assert_alike(scores_of(together, [later(events)]), scores_of(single, one_at_a_time(later(events))))


def later(events: Events) -> Events:
    """The same events once more, as new ones."""
    renamed = [f"later-{event_id}" for event_id in events.event_id]
    return Events.from_columns(
        {
            **{name: getattr(events, name) for name in events.__dataclass_fields__},
            "event_id": renamed,
            "occurred_at": events.occurred_at + 86_400_000,
        }
    )


@settings(max_examples=25)
@given(logs(partitions=3))
def test_several_partitions_in_one_batch_score_as_each_alone(events: Events) -> None:
    together = scores_of(Scorer(MODEL), [events])
    for partition in set(events.partition.tolist()):
        alone = scores_of(Scorer(MODEL), [of_partition(events, partition)])
        assert_alike(together[events.partition == partition], alone)


@settings(max_examples=25)
@given(logs(most=40, partitions=2), cuts)
def test_folding_moves_the_state_as_scoring_does(events: Events, places: list[int]) -> None:
    scored, folded = Scorer(MODEL), Scorer(MODEL)
    scored.score(events)
    for batch in cut(events, places):
        folded.fold(batch)
    assert scored.resident_accounts == folded.resident_accounts
    assert_alike(folded.score(later(events)).score, scored.score(later(events)).score)


@settings(max_examples=25)
@given(logs(most=40, partitions=2))
def test_dropping_a_partition_and_folding_its_log_again_changes_no_later_score(events: Events) -> None:
    undisturbed, restored = Scorer(MODEL), Scorer(MODEL, initial_capacity=1)
    undisturbed.score(events)
    restored.score(events)
    restored.drop_partition(0)
    own = of_partition(events, 0)
    assert restored.resident_accounts == undisturbed.resident_accounts - len(set(own.account_id))
    restored.fold(own)
    assert_alike(restored.score(later(events)).score, undisturbed.score(later(events)).score)


def test_a_slot_that_is_used_again_knows_nothing_of_its_last_owner() -> None:
    scorer = Scorer(MODEL, initial_capacity=1)
    scorer.score(busy_log())
    scorer.drop_partition(0)
    newcomers = log_of([{"account": 900 + place % 3, "partition": 4} for place in range(12)])
    assert_alike(scorer.score(newcomers).score, Scorer(MODEL).score(newcomers).score)


def test_a_partition_of_more_accounts_than_the_initial_capacity_can_be_dropped() -> None:
    scorer = Scorer(MODEL, initial_capacity=2)
    scorer.score(log_of([{"account": number} for number in range(9)]))
    scorer.drop_partition(0)
    assert scorer.resident_accounts == 0


def test_state_takes_at_most_2_kilobytes_an_account() -> None:
    assert Scorer(untrained(hidden=64)).state_bytes_per_account <= 2048


def test_state_bytes_count_the_state_of_the_network() -> None:
    larger, smaller = Scorer(untrained(hidden=64)), Scorer(untrained(hidden=8))
    assert larger.state_bytes_per_account - smaller.state_bytes_per_account == 56 * 4


def test_a_repeat_has_no_score_and_is_not_flagged() -> None:
    scored = Scorer(untrained(threshold=1e-9)).score(log_of([{"number": 1}, {"number": 1}]))
    assert scored.duplicate.tolist() == [False, True]
    assert np.isnan(scored.score).tolist() == [False, True]
    assert scored.flagged.tolist() == [True, False]


def test_a_score_at_the_threshold_is_flagged() -> None:
    events = busy_log()
    scores = Scorer(MODEL).score(events).score
    threshold = float(np.sort(scores)[-10])
    scored = Scorer(untrained(threshold=threshold)).score(events)
    assert scored.flagged.sum() == 10
    assert scored.threshold == threshold
    assert scored.score_kind == "probability"


def test_batches_of_nothing_and_of_repeats_only_are_answered() -> None:
    scorer = Scorer(MODEL)
    assert len(scorer.score(log_of([])).score) == 0
    scorer.score(log_of([{"number": 1}]))
    repeats = scorer.score(log_of([{"number": 1}, {"number": 1}]))
    assert repeats.duplicate.all()
    scorer.fold(log_of([{"number": 1}]))
    assert scorer.explain(repeats, np.zeros(0, np.intp)) == []


def test_recent_positions_reach_back_into_earlier_batches() -> None:
    scorer, events = Scorer(MODEL), log_of([{"account": place % 2} for place in range(60)])
    first, second = cut(events, [40])
    scorer.score(first)
    scored = scorer.score(second)
    for row in (0, 8, 18):  # of the same account as row 0 of the log
        own = [(int(events.day[place]), place) for place in range(0, 40 + row + 1, 2)]
        assert scorer.recent_positions(scored, row) == own[-12:]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_waves_hold_the_kth_events_of_the_busiest_accounts_first(slots: list[int]) -> None:
    runs = find_runs(np.array(slots))
    busiest_first = np.argsort(runs.first - runs.last, kind="stable")
    rows, sizes = wave_order(runs, busiest_first)
    at = 0
    for wave, size in enumerate(sizes):
        accounts = runs.slot[rows[at : at + size]].tolist()
        assert accounts == runs.slot[runs.first[busiest_first]].tolist()[:size]
        assert (runs.rank[rows[at : at + size]] == wave).all()
        at += size
    assert sorted(rows.tolist()) == list(range(len(slots)))


@pytest.mark.cuda
def test_scores_on_cuda_are_those_on_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    past = history(4_000, seed=4).events
    batches = [busy_log(), *cut(past, range(500, len(past), 500))]
    copy = TrainedDetector.from_bytes(MODEL.to_bytes())
    on_cuda = scores_of(Scorer(copy, device="cuda"), batches)
    assert_alike(on_cuda, scores_of(Scorer(MODEL), batches), tolerance=1e-4)


def test_a_threshold_of_its_own_is_in_force_from_the_next_batch_until_the_model_is_replaced() -> None:
    scorer = Scorer(untrained(threshold=2.0))
    batches = cut(busy_log(), [20, 40, 60])
    assert not scorer.score(batches[0]).flagged.any()
    scorer.use_threshold(1e-9)
    scored = scorer.score(batches[1])
    assert scored.threshold == 1e-9
    assert np.array_equal(scored.flagged, ~scored.duplicate)
    scorer.replace_model(untrained(threshold=0.6))
    assert scorer.score(batches[2]).threshold == 0.6
    scorer.use_threshold(0.3)
    scorer.use_threshold(None)
    assert scorer.score(batches[3]).threshold == 0.6
