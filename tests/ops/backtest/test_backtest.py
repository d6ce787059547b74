"""A history replayed in event time: the scores are those of a worker, and nothing is known before its time."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import TrainedDetector
from models.calibration import Calibration
from models.events import Events
from models.features import FeatureBuilder
from models.gate import GateRules
from models.labels import LabelledHistory
from models.merchant_labels import LabelRecords, MerchantKnowledge, MerchantLabels
from models.scoring import Scorer
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import TrainingResult
from ops.jobs import backtest as module
from ops.jobs.backtest import (
    BacktestOptions,
    BacktestRefused,
    BacktestResult,
    backtest,
    batches,
    training_times,
)
from ops.jobs.challenge import RetrainingRules
from streams.alerts import MAX_EVENTS
from tests.models.logs import untrained
from tests.models.synthetic import DAY, REPORTING_LIMIT, history

PAST = history(1_500, accounts=80, days=40, seed=2, frauds=0.05)
FRAUD = PAST.labels == 1
TIMES = PAST.events.occurred_at
#: A gate that lets everything pass that can be compared at all.
OPEN_GATE = GateRules(margin=1.0, resamples=20, least_frauds=1, least_accounts=1)
RULES = RetrainingRules(label_horizon=timedelta(days=3), alerts_per_day=10, gate=OPEN_GATE)
OPTIONS = BacktestOptions(retrain_every=timedelta(days=5), retrain_from=timedelta(days=10), rules=RULES)
SELDOM = replace(OPTIONS, retrain_every=timedelta(days=9))


@dataclass
class LabelReader:
    """A trainer in no time, whose models differ with every label that they were shown."""

    seen: list[LabelledHistory] = field(default_factory=list)
    models: list[TrainedDetector] = field(default_factory=list)
    made: Callable[[int], TrainedDetector] | None = None
    events_per_day: float = 20.0

    def __call__(self, history: LabelledHistory, config: TrainingConfig, progress: Any) -> TrainingResult:
        labels = history.labels
        self.seen.append(history)
        if self.made is not None:
            model = self.made(len(self.models))
        else:
            weight = np.modf(np.arange(1, len(labels) + 1) * 0.618)[0]
            told = float((weight * (labels + 2)).sum()) / len(labels)
            model = untrained(calibration=Calibration("probability", 0.7, told, ()))
        self.models.append(model)
        metrics = {"alerts_per_day": config.alerts_per_day, "events_per_day": self.events_per_day}
        return TrainingResult(model, {**metrics, "frauds": int((labels == 1).sum())})


def replayed(
    fraud: npt.NDArray[np.bool_] | None = FRAUD,
    options: BacktestOptions = OPTIONS,
    trainer: LabelReader | None = None,
    events: Events = PAST.events,
) -> BacktestResult:
    return backtest(events, fraud, options, lambda stage, done: None, trainer or LabelReader())


def knowledge_by_hand() -> Callable[[int], MerchantKnowledge]:
    """moment -> what labels said: the version of its day, in one portion, from the whole history's truth."""
    built = FeatureBuilder(REPORTING_LIMIT).build(PAST.events)
    unexplained = np.zeros(len(TIMES))
    unexplained[built.rows] = built.unexplained

    @cache
    def version(moment: int) -> MerchantKnowledge:
        known = np.flatnonzero(moment - 3 * DAY >= TIMES)
        labels = MerchantLabels()
        names = [PAST.events.merchant_id[row] for row in known]
        counted = np.zeros(len(known), np.bool_)
        labels.fold(LabelRecords(names, TIMES[known], FRAUD[known], unexplained[known], counted), moment)
        return labels.knowledge(moment)

    return lambda moment: version(moment // DAY * DAY)


@pytest.mark.slow
def test_scores_are_those_of_a_worker_that_takes_each_model_over_at_its_time() -> None:
    trainer = LabelReader(made=lambda number: untrained(seed=number))
    result = replayed(trainer=trainer)

    moments = training_times(TIMES, OPTIONS)
    assert [one.at for one in result.passes if one.promoted] == moments
    begin = int(np.searchsorted(TIMES, moments[0]))
    worker = Scorer(trainer.models[0])
    worker.remember(PAST.events.take(np.arange(begin)))
    released = knowledge_by_hand()
    expected = np.full(len(TIMES), np.nan)
    ends = [*np.searchsorted(TIMES, moments[1:]).tolist(), len(TIMES)]
    for model, end in zip(trainer.models, ends, strict=True):
        if begin != int(np.searchsorted(TIMES, moments[0])):
            worker.replace_model(model)
        for row in range(begin, end):
            worker.use_labels(released(int(TIMES[row])))
            expected[row] = worker.score(PAST.events.take(np.array([row]))).score[0]
        begin = end
    np.testing.assert_allclose(result.score, expected, atol=1e-5)
    assert np.nanstd(result.score) > 0.01


@pytest.mark.slow
def test_a_model_is_trained_on_what_had_happened_and_matured_by_then() -> None:
    trainer = LabelReader()
    replayed(trainer=trainer)
    for place, (moment, taught) in enumerate(zip(training_times(TIMES, OPTIONS), trainer.seen, strict=True)):
        times = taught.events.occurred_at
        matured = times <= moment - 3 * DAY
        assert times[-1] < moment
        assert (taught.labels[~matured] == -1).all()
        np.testing.assert_array_equal(taught.labels[matured], FRAUD[: len(taught)][matured])
        np.testing.assert_array_equal(taught.known_at, times + 3 * DAY)
        if place == 0:  # a first model is not judged, so nothing is kept for that
            assert len(taught) == (moment > TIMES).sum()


@cache
def unchanged() -> BacktestResult:
    return replayed(options=SELDOM)


@pytest.mark.slow
@given(day=st.integers(9, 39), seed=st.integers(0, 3))
@settings(max_examples=7)
def test_a_label_changes_no_score_threshold_or_alert_before_it_is_known(day: int, seed: int) -> None:
    moment = int(TIMES[0]) // DAY * DAY + day * DAY
    unknown = moment - 3 * DAY < TIMES
    changed = np.where(unknown, np.random.default_rng(seed).random(len(FRAUD)) < 0.3, FRAUD)
    one, other = unchanged(), replayed(changed, SELDOM)
    before = moment >= TIMES
    for name in ("score", "threshold", "flagged", "alert", "model"):
        np.testing.assert_array_equal(getattr(one, name)[before], getattr(other, name)[before])


@pytest.mark.slow
def test_a_label_that_is_known_in_time_changes_what_is_scored_after_the_next_training() -> None:
    moment = training_times(TIMES, OPTIONS)[1]
    changed = FRAUD.copy()
    changed[int(np.searchsorted(TIMES, moment - 8 * DAY))] ^= True
    one, other = replayed(), replayed(changed)
    after = moment <= TIMES
    assert (one.score[after] != other.score[after]).all()
    assert one.passes[0] == other.passes[0]


@pytest.mark.slow
def test_events_before_the_first_model_have_no_score_and_raise_nothing() -> None:
    result = replayed()
    before = training_times(TIMES, OPTIONS)[0] > TIMES
    assert np.isnan(result.score[before]).all()
    assert np.isnan(result.threshold[before]).all()
    assert not result.flagged[before].any()
    assert set(result.model[before].tolist()) == {-1}
    assert result.model_names[0] is None
    assert np.isfinite(result.score[~before]).all()
    assert result.model_names[-1] == result.models[-1] == "fraud:7"


@pytest.mark.slow
def test_flagged_events_of_an_account_fold_into_the_alert_that_is_open() -> None:
    result = replayed(options=replace(OPTIONS, fold_within=DAY))
    assert result.flagged.sum() > result.opened.sum() > 0
    last: dict[str, tuple[int, int, int]] = {}
    for row in np.flatnonzero(result.flagged).tolist():
        account, time = PAST.events.account_id[row], int(TIMES[row])
        opener, latest, size = last.get(account, (row, time, 0))
        if time - latest > DAY or size >= MAX_EVENTS:
            opener, size = row, 0
        assert result.alert[row] == opener
        last[account] = opener, max(time, latest), size + 1
    assert (result.alert[~result.flagged] == -1).all()


def test_a_challenger_that_the_gate_refuses_is_listed_and_never_scores() -> None:
    strict = replace(OPTIONS, rules=replace(RULES, gate=replace(OPEN_GATE, margin=-1.0)))
    result = replayed(options=strict)
    first, *others = result.passes
    assert (first.decision, first.model) == ("first model", "fraud:1")
    assert {one.decision for one in others} == {"refuse"}
    assert [one.model for one in others] == [f"fraud:{number}" for number in range(2, 8)]
    assert result.models == ("fraud:1",)


def test_a_challenger_that_a_worker_would_not_take_over_never_scores() -> None:
    eager = LabelReader(made=lambda number: untrained(threshold=0.999 if number == 0 else 1e-6), events_per_day=5_000.0)
    result = replayed(trainer=eager)
    assert result.models == ("fraud:1",)
    assert "refused by the worker: it flags" in result.passes[1].reason


def test_without_labels_the_first_model_stays_and_says_so() -> None:
    trainer = LabelReader()
    result = replayed(None, trainer=trainer)
    (taught,) = trainer.seen
    assert not (taught.labels == 1).any()
    assert [one.decision for one in result.passes] == ["first model"] + 6 * ["refused"]
    assert result.passes[1].reason.startswith("no fraud is known among ")
    assert np.isfinite(result.score[result.passes[0].at <= TIMES]).all()


def test_a_training_that_is_refused_is_tried_again_at_the_next_turn() -> None:
    class Late(LabelReader):
        def __call__(self, history: LabelledHistory, *others: Any) -> TrainingResult:
            if history.events.occurred_at[-1] < training_times(TIMES, OPTIONS)[0]:
                raise TrainingRefused(f"{len(history)} events are too few")
            return super().__call__(history, *others)

    result = replayed(trainer=Late())
    assert [one.decision for one in result.passes[:2]] == ["refused", "first model"]
    assert result.passes[0].reason.endswith("events are too few")
    assert (np.isfinite(result.score) == (result.passes[1].at <= TIMES)).all()


@pytest.mark.slow
def test_labels_judge_a_first_model_that_was_shown_none_as_soon_as_they_come() -> None:
    early = replace(OPTIONS, retrain_from=timedelta(days=3))
    trainer = LabelReader()
    result = replayed(options=early, trainer=trainer)
    assert not (trainer.seen[0].labels == 1).any()
    assert [one.decision for one in result.passes[:3]] == ["first model", "promote", "promote"]


@pytest.mark.slow
def test_a_repeated_event_has_no_score_and_no_alert() -> None:
    rows = np.sort(np.append(np.arange(len(TIMES)), 1_500))
    result = replayed(FRAUD[rows], events=PAST.events.take(rows))
    assert np.isnan(result.score[1_501])
    assert not result.flagged[1_501]
    assert np.isfinite(result.score[1_500])


@pytest.mark.parametrize(
    ("events", "fraud", "options", "says"),
    [
        (PAST.events.take(np.arange(0)), None, OPTIONS, "there are no transactions"),
        (PAST.events, ~FRAUD & False, OPTIONS, "no transaction is labelled as fraud"),
        (PAST.events, FRAUD[1:], OPTIONS, f"{len(FRAUD) - 1} labels for {len(FRAUD)} events"),
        (PAST.events.take(np.arange(len(FRAUD))[::-1]), FRAUD, OPTIONS, "in the order of their time"),
        (PAST.events, FRAUD, replace(OPTIONS, retrain_from=timedelta(days=60)), "ends before the first training, 60 d"),
    ],
)
def test_a_history_that_cannot_be_replayed_is_refused_with_the_reason(
    events: Events, fraud: Any, options: BacktestOptions, says: str
) -> None:
    with pytest.raises(BacktestRefused, match=says):
        replayed(fraud, options, events=events)


def test_where_no_training_succeeds_the_reason_is_that_of_the_last() -> None:
    def never(*_: Any) -> TrainingResult:
        raise TrainingRefused("nothing to learn")

    with pytest.raises(BacktestRefused, match="no model could be trained; on 2025-11-18: nothing to learn"):
        backtest(PAST.events, FRAUD, OPTIONS, lambda stage, done: None, never)


@given(times=st.lists(st.integers(0, 50), min_size=1).map(sorted), cuts=st.lists(st.integers(-5, 60)))
def test_batches_hold_every_row_once_and_none_crosses_a_cut(times: list[int], cuts: list[int]) -> None:
    found = list(batches(np.array(times, np.int64), cuts))
    assert np.concatenate(found).tolist() == list(range(len(times)))
    for rows in found:
        assert 0 < len(rows) <= module.SCORED_AT_ONCE
        assert not any(times[rows[0]] < cut <= times[rows[-1]] for cut in cuts)
