"""Training: what it refuses, what it reaches with and without labels, and that the same input gives the same bytes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models import train_detector
from models.artifact import TrainedDetector
from models.calibration import LEAST_POSITIVES
from models.events import Events
from models.labels import LabelledHistory
from models.metrics import average_precision
from models.scoring import Scorer
from models.sequences import (
    TrainingConfig,
    TrainingRefused,
    batch_events,
    padded_rows,
    prepare,
    training_batches,
    validation_begin,
)
from models.train_detector import TrainingResult, outputs, train, validation_quality
from tests.models.synthetic import History, history, scored_with_labels

QUICK = TrainingConfig(hidden=8, epochs=2)
Labels = npt.NDArray[np.int8]


def silent(stage: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def past() -> History:
    return history(3_000, accounts=100, days=20, seed=6, frauds=0.03)


def unlabelled(events: Events) -> Labels:
    return np.full(len(events), -1, np.int8)


def scores_of(model: TrainedDetector, events: Events) -> npt.NDArray[np.float64]:
    return Scorer(model).score(events).score


# What it refuses.


def refusal(events: Events, labels: Labels, config: TrainingConfig = QUICK) -> str:
    with pytest.raises(TrainingRefused) as refused:
        train(LabelledHistory.matured(events, labels), config, silent)
    return str(refused.value)


def test_too_few_events_are_refused(past: History) -> None:
    few = past.events.take(np.arange(999))
    assert refusal(few, past.labels[:999]) == "999 events are too few; at least 1000 are needed"


def test_no_events_are_refused(past: History) -> None:
    assert "too few" in refusal(past.events.take(np.arange(0)), past.labels[:0])


def test_another_number_of_labels_than_events_is_refused(past: History) -> None:
    assert "labels for" in refusal(past.events, past.labels[:-1])


def test_events_out_of_the_order_of_time_are_refused(past: History) -> None:
    backwards = past.events.take(np.arange(len(past.events))[::-1])
    assert refusal(backwards, past.labels) == "events must be in the order of their time"


def test_labels_of_frauds_only_are_refused(past: History) -> None:
    frauds_only = np.where(past.labels == 1, 1, -1).astype(np.int8)
    assert "legitimate ones are needed" in refusal(past.events, frauds_only)


def test_events_that_all_occurred_at_once_are_refused(past: History) -> None:
    at_once = replace(past.events, occurred_at=np.full(len(past.events), past.events.occurred_at[0]))
    assert "too close in time" in refusal(at_once, past.labels)


def test_a_detector_that_fails_the_checks_is_refused(past: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_detector, "failed_checks", lambda model, probe: ["it only ever says no"])
    assert "unfit for use: it only ever says no" in refusal(past.events, past.labels)


def test_labels_of_legitimate_events_only_teach_the_surprise(past: History) -> None:
    result = train(LabelledHistory.matured(past.events, np.zeros(len(past.events), np.int8)), QUICK, silent)
    assert result.model.surprise_weight == 1.0
    assert result.model.calibration.kind == "surprise"


# What it reaches.


def test_labels_teach_to_find_the_frauds_of_another_time(trained: TrainingResult) -> None:
    later = history(12_000, accounts=300, days=30, seed=77, frauds=0.03)
    found = average_precision(scores_of(trained.model, later.events), later.labels == 1)
    assert found > 0.8  # by chance: the share of frauds, 0.05


@pytest.mark.slow
def test_the_figures_are_those_of_the_slice_that_was_not_trained_on(trained: TrainingResult) -> None:
    past = history(12_000, accounts=300, days=30, seed=2, frauds=0.03)
    begin = validation_begin(past.events.occurred_at, past.labels, 0.25)
    later = past.events.occurred_at > begin
    scores = scored_with_labels(trained.model, past.labelled)[later]
    truth = past.labels[later] == 1
    assert trained.metrics["average_precision"] == pytest.approx(average_precision(scores, truth), abs=1e-4)
    assert trained.metrics["validation_frauds"] == truth.sum()
    assert trained.metrics["events"] == len(past.events)
    assert trained.metrics["frauds"] == (past.labels == 1).sum()
    assert trained.quality is not None
    curve, known = trained.quality.precision_recall, past.labels[later] >= 0
    assert (trained.quality.events, trained.quality.frauds) == (known.sum(), truth.sum())
    assert curve.precision[-1] == pytest.approx(truth.sum() / known.sum())
    low, high = trained.quality.intervals["average_precision"]
    assert low < trained.metrics["average_precision"] < high


@pytest.mark.slow
def test_the_threshold_keeps_to_the_alert_budget(trained: TrainingResult) -> None:
    past = history(12_000, accounts=300, days=30, seed=2, frauds=0.03)
    later = past.events.occurred_at > validation_begin(past.events.occurred_at, past.labels, 0.25)
    flagged = (scored_with_labels(trained.model, past.labelled)[later] >= trained.model.threshold).mean()
    budget = trained.metrics["alerts_per_day"] / trained.metrics["events_per_day"]
    assert 0 < flagged <= budget * 1.05  # scores of the sequence kernel differ by rounding
    assert trained.metrics["events_per_day"] == pytest.approx(len(past.events) / 30, rel=0.1)


@pytest.mark.slow
def test_more_expected_traffic_raises_the_threshold(past: History) -> None:
    busy = train(past.labelled, replace(QUICK, alerts_per_day=10, events_per_day=100), silent)
    quiet = train(
        past.labelled,
        replace(QUICK, alerts_per_day=10, events_per_day=10_000),
        silent,
    )
    assert busy.model.threshold < quiet.model.threshold


@pytest.mark.slow
def test_without_labels_large_amounts_rank_high() -> None:
    past = history(6_000, accounts=150, days=30, seed=3, frauds=0.02)
    result = train(LabelledHistory.matured(past.events, unlabelled(past.events)), replace(QUICK, hidden=16), silent)
    assert result.model.calibration.kind == "surprise"
    assert result.model.surprise_weight == 1.0
    assert "average_precision" not in result.metrics

    later = history(6_000, accounts=150, days=30, seed=78, frauds=0.02)
    scores = scores_of(result.model, later.events)
    large = later.events.amount > 1_500
    assert average_precision(scores, later.labels == 1) > 0.6
    assert np.median(scores[large]) > np.quantile(scores, 0.97)


@pytest.mark.parametrize("frauds", [0, 20, 100])
def test_the_weight_of_the_surprise_fades_as_known_frauds_become_many(past: History, frauds: int) -> None:
    labels, trainable = past.labels.copy(), int((past.labels == 1).sum())
    labels[np.flatnonzero(labels == 1)[: trainable - frauds]] = -1
    result = train(LabelledHistory.matured(past.events, labels), QUICK, silent)
    begin = validation_begin(past.events.occurred_at, labels, QUICK.validation_share)
    taught = int(((labels == 1) & (past.events.occurred_at <= begin)).sum())
    assert result.model.surprise_weight == pytest.approx(1 - taught / LEAST_POSITIVES)


def test_a_supervised_head_that_nothing_taught_has_no_say(past: History) -> None:
    labels = past.labels.copy()
    begin = validation_begin(past.events.occurred_at, labels, QUICK.validation_share)
    early = past.events.occurred_at <= begin
    labels[early & (labels == 0)] = -1
    # The share of the labelled events that keeps the later slice where it was.
    share = float((labels[~early] >= 0).sum() / (labels >= 0).sum())
    result = train(LabelledHistory.matured(past.events, labels), replace(QUICK, validation_share=share), silent)
    assert (labels[early] == 1).sum() > 50
    assert result.model.surprise_weight == 1.0


@pytest.mark.slow
def test_figures_can_be_stored_as_json_whatever_the_history(past: History) -> None:
    early_only = np.where(past.events.occurred_at < np.median(past.events.occurred_at), past.labels, -1)
    frauds_late = np.where(
        (past.labels == 0) & (past.events.occurred_at > past.events.occurred_at[-500]), -1, past.labels
    )
    for labels in (unlabelled(past.events), early_only.astype(np.int8), frauds_late.astype(np.int8)):
        for config in (QUICK, replace(QUICK, alerts_per_day=0.0), replace(QUICK, time_budget_seconds=0.0)):
            result = train(LabelledHistory.matured(past.events, labels), config, silent)
            json.dumps(result.metrics, allow_nan=False)
            assert (result.quality is None) == ("average_precision" not in result.metrics)
            if result.quality is not None:
                json.dumps(result.quality.figures(), allow_nan=False)


# Same input, same result; no more time than allowed.


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(past: History) -> None:
    first = train(past.labelled, QUICK, silent).model.to_bytes()
    torch.randn(7)  # whatever was drawn in between
    assert train(past.labelled, QUICK, silent).model.to_bytes() == first
    assert train(past.labelled, replace(QUICK, seed=1), silent).model.to_bytes() != first


def test_repeated_events_are_left_out(past: History) -> None:
    order = np.repeat(np.arange(len(past.events)), 2)
    twice = train(LabelledHistory.matured(past.events.take(order), past.labels[order]), QUICK, silent)
    assert twice.metrics["events"] == len(past.events)


def clock_of(step: float) -> Callable[[], float]:
    """Each look at it finds it `step` seconds later."""
    times: Iterator[float] = iter(np.arange(1e6) * step)
    return lambda: float(next(times))


def test_training_stops_when_its_time_is_up(past: History) -> None:
    budget = replace(QUICK, epochs=50, patience=50, time_budget_seconds=10.0)
    result = train(past.labelled, budget, silent, clock=clock_of(1.0))
    assert result.metrics["epochs"] <= 10
    assert result.metrics["seconds"] >= 10
    assert TrainedDetector.from_bytes(result.model.to_bytes())


def test_training_without_a_budget_never_looks_at_the_clock_to_stop(past: History) -> None:
    result = train(past.labelled, replace(QUICK, patience=9), silent, clock=clock_of(1e9))
    assert result.metrics["epochs"] == QUICK.epochs


@pytest.mark.slow
def test_the_speed_counts_the_events_and_seconds_of_the_epochs_alone(past: History) -> None:
    now = [0.0]

    def progress(stage: str, share: float) -> None:
        now[0] += 1_000.0 if stage == "features" else 5.0 if share == 1.0 else 0.0

    config = replace(QUICK, patience=9)
    metrics = train(past.labelled, config, progress, clock=lambda: now[0]).metrics
    trained = (~prepare(past.labelled, config, silent).validation).sum()
    assert metrics["training_events_per_second"] == pytest.approx(trained / 5.0)
    assert metrics["seconds"] >= 1_010.0


def test_progress_reaches_the_end_of_each_stage(past: History) -> None:
    told = list[tuple[str, float]]()
    train(
        past.labelled,
        replace(QUICK, patience=9),
        lambda stage, share: told.append((stage, share)),
    )
    last = dict(told)
    assert list(last) == ["features", "epoch 1", "epoch 2"]
    assert set(last.values()) == {1.0}
    assert all(0 <= share <= 1 for _, share in told)


# Windows.


def test_windows_hold_every_event_before_the_later_slice_once_and_never_two_accounts(past: History) -> None:
    config = replace(QUICK, window=7, events_per_batch=256)
    sequences = prepare(past.labelled, config, silent)
    batches = training_batches(sequences, config, np.random.default_rng(0))
    taken = torch.cat([rows[rows >= 0] for rows in batches]).numpy()
    assert sorted(taken.tolist()) == np.flatnonzero(~sequences.validation).tolist()
    account = np.repeat(np.arange(len(sequences.start)), sequences.stop - sequences.start)
    for rows in batches:
        assert rows.numel() <= 256
        for window in rows.numpy():
            own = window[window >= 0]
            assert 1 <= len(own) <= config.window
            assert (np.diff(own) == 1).all()
            assert (window[: len(own)] == own).all()
            assert len(set(account[own])) == 1


def test_windows_are_cut_elsewhere_in_the_next_epoch(past: History) -> None:
    config, generator = replace(QUICK, window=7), np.random.default_rng(0)
    sequences = prepare(past.labelled, config, silent)

    def firsts() -> set[int]:
        return {int(row) for rows in training_batches(sequences, config, generator) for row in rows[:, 0]}

    assert firsts() != firsts()


def test_the_later_slice_is_later_for_every_account(past: History) -> None:
    sequences = prepare(past.labelled, QUICK, silent)
    for start, held_out, stop in zip(sequences.start, sequences.held_out, sequences.stop, strict=True):
        assert not sequences.validation[start:held_out].any()
        assert sequences.validation[held_out:stop].all()


def test_a_sequence_longer_than_a_batch_is_a_batch_of_its_own() -> None:
    first, stop = np.array([0, 100, 110]), np.array([100, 110, 110])
    batches = [rows.tolist() for rows in padded_rows(first, stop, events_per_batch=32)]
    assert batches == [[list(range(100, 110))], [list(range(100))]]


def test_batches_suit_the_length_of_the_history_unless_told_otherwise(past: History) -> None:
    sequences = prepare(past.labelled, QUICK, silent)
    lengths = {trained: replace(sequences, validation=np.zeros(trained, bool)) for trained in (2_000, 400_000, 10**7)}
    assert [batch_events(longer, QUICK) for longer in lengths.values()] == [1_024, 4_000, 8_192]
    assert batch_events(lengths[400_000], replace(QUICK, events_per_batch=256)) == 256


def test_the_look_between_two_epochs_sees_what_the_whole_history_shows(trained: TrainingResult) -> None:
    past = history(12_000, accounts=300, days=30, seed=2, frauds=0.03)
    sequences, network = prepare(past.labelled, QUICK, silent), trained.model.network
    whole = outputs(network, sequences, sequences.start).logits[sequences.validation]
    exact = average_precision(whole, sequences.labels[sequences.validation] == 1)
    assert validation_quality(network, sequences) == pytest.approx(exact, abs=2e-4)
