"""How a history is split, what a challenger is trained with, and the scores that judge it."""

from datetime import timedelta

import numpy as np
import pytest

from models.detector import Detector, DetectorConfig
from models.events import Events
from models.labels import LabelledHistory, LabelRelease
from models.scoring import Scorer
from models.sequences import TrainingConfig, validation_begin
from ops.jobs import challenge
from ops.jobs.challenge import (
    Incumbent,
    RetrainingRules,
    later_slice_begin,
    scores_of,
    split,
    training_config,
    with_validation,
)
from tests.models.logs import untrained
from tests.models.synthetic import DAY, history


def test_what_the_rules_leave_open_is_as_with_the_champion() -> None:
    network = Detector(DetectorConfig(hidden=24, reporting_limit=3_000.0))
    champion = Incumbent(untrained(network=network), trained_until=0, alerts_per_day=70.0)
    own = training_config(RetrainingRules(), champion)
    assert (own.hidden, own.alerts_per_day, own.reporting_limit) == (24, 70.0, 3_000.0)
    given = training_config(RetrainingRules(hidden=32, alerts_per_day=5, epochs=2, seed=9), champion)
    assert (given.hidden, given.alerts_per_day, given.reporting_limit) == (32, 5, 3_000.0)
    assert (given.epochs, given.seed) == (2, 9)
    first = training_config(RetrainingRules(), None)
    assert (first.hidden, first.alerts_per_day, first.reporting_limit) == (64, 100.0, 10_000.0)


@pytest.mark.parametrize(
    ("champion_until", "count", "judging"), [(-1, 8, [8, 9]), (6, 8, [8, 9]), (8, 9, [9]), (20, 12, [])]
)
def test_what_judges_is_matured_and_later_than_what_either_model_knew(
    champion_until: int, count: int, judging: list[int]
) -> None:
    times = np.arange(12)
    events = Events.from_columns(
        {
            **{"event_id": [f"e{n}" for n in times], "occurred_at": times, "amount": times},
            **{"account_id": ["a"] * 12, "merchant_id": ["m"] * 12},
        }
    )
    labels = np.array([0, 1, 0, 0, 0, 0, 0, 0, 1, 0, -1, -1], np.int8)
    taught, rows = split(LabelledHistory.matured(events, labels), champion_until, RetrainingRules(judged_share=0.2))
    assert (len(taught.events), rows.tolist()) == (count, judging)


@pytest.mark.slow
def test_scores_are_those_of_scorers_that_saw_the_whole_history_with_the_labels_of_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(challenge, "SCORED_AT_ONCE", 30)
    past = history(1_000, accounts=80, days=30, seed=4, frauds=0.1)
    rows = np.append(np.arange(1_000), [999])  # the last event comes twice
    labelled = LabelledHistory.matured(past.events.take(rows), past.labels[rows], timedelta(days=3))
    models = untrained(hidden=16), untrained(hidden=12, seed=4)
    found = scores_of(*models, labelled, lambda stage, done: None)
    times = labelled.events.occurred_at
    for model, scores in zip(models, found, strict=True):
        scorer, release = Scorer(model), LabelRelease(labelled)
        for row in range(1_000):
            scorer.use_labels(release.knowledge(int(times[row])))
            scored = scorer.score(labelled.events.take(np.array([row])))
            release.note(np.array([row]), scored.unexplained)
            assert scores[row] == pytest.approx(scored.score[0], abs=1e-5)
        assert np.isnan(scores[1_000])
    assert np.nanmax(np.abs(found[0] - found[1])) > 0.01


@pytest.mark.parametrize(
    ("share", "enough", "begin"),
    [
        (0.2, None, 80),  # the share of the matured
        (0.2, 30, 80),  # fewer frauds than are enough
        (0.5, 5, 89),  # after which the latest five follow
        (0.5, 1, 97),  # but never shorter than the least span
        (0.05, 5, 95),  # nor longer than the share
    ],
)
def test_what_judges_holds_no_more_frauds_than_are_enough(share: float, enough: int | None, begin: int) -> None:
    times = np.arange(101, dtype=np.int64) * DAY
    labels = (np.arange(101) % 2).astype(np.int8)
    times, labels = np.append(times, [101 * DAY, 102 * DAY]), np.append(labels, np.array([-1, -1], np.int8))
    assert later_slice_begin(times, labels, share, enough) == begin * DAY


def test_validation_takes_the_share_that_holds_enough_frauds() -> None:
    past = history(3_000, accounts=250, days=40, seed=4, frauds=0.1)
    labelled = past.labelled
    config = with_validation(TrainingConfig(), labelled, RetrainingRules(validation_share=0.25, enough_frauds=30))
    begin = validation_begin(past.events.occurred_at, past.labels, config.validation_share)
    latest, days = past.labels[past.events.occurred_at > begin], (past.events.occurred_at[-1] - begin) / DAY
    assert 3 <= days < 8
    assert 30 <= (latest == 1).sum() < 60
    whole = with_validation(TrainingConfig(), labelled, RetrainingRules(validation_share=0.25, enough_frauds=None))
    assert whole.validation_share == pytest.approx(0.25, abs=0.01)
