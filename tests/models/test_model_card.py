"""A detector's card against the same counted by hand, from the real trainer; what it admits not to know."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest

from models.data_figures import figures_of
from models.data_profile import DataProfile, Observed
from models.data_quality import DataQuality, quality_of
from models.feature_schema import CATEGORY_BUCKETS
from models.hashing import BucketMemory
from models.labels import LabelledHistory
from models.metrics import average_precision, calibration_error
from models.model_card import DetectorFacts, ModelCard, detector_card, span_of
from models.segments import AMOUNT_BOUNDS, KNOWN_FROM, LEAST_FRAUDS, JudgedSlice, segments_of
from models.sequences import TrainingConfig
from models.train_detector import TrainingResult, train
from tests.models.synthetic import DAY, history

PAST = history(6_000, accounts=200, days=40, seed=2, frauds=0.06)
NOW = int(PAST.events.occurred_at[-1]) + 1
CONFIG = TrainingConfig(hidden=8, epochs=1, alerts_per_day=10, seed=1)
KNOWN = np.where(PAST.labels == 1, 1, -1).astype(np.int8)
HISTORY = LabelledHistory.of(PAST.events, KNOWN, now=NOW, horizon=timedelta(days=5))


@pytest.fixture(scope="module")
def result() -> TrainingResult:
    return train(HISTORY, CONFIG, lambda stage, share: None)


def looked_at(history: LabelledHistory = HISTORY) -> DataQuality:
    profile = DataProfile(NOW - 5 * DAY)
    profile.add(Observed(history.events, KNOWN, np.zeros(len(KNOWN), np.int64), ["EUR"] * len(KNOWN)))
    return quality_of(figures_of(profile))


def card(result: TrainingResult, data: DataQuality | None = None) -> ModelCard:
    kind = result.model.calibration.kind
    return detector_card(DetectorFacts(HISTORY, result.judged, kind, {"hidden": 8}, "0.1.0", data))


def test_the_judged_slice_is_what_the_figures_of_the_training_rest_on(result: TrainingResult) -> None:
    judged = result.judged
    assert judged is not None
    assert result.quality is not None
    assert (len(judged.fraud), judged.fraud.sum()) == (result.quality.events, result.quality.frauds)
    assert average_precision(judged.scores, judged.fraud) == result.metrics["average_precision"]
    rows = np.flatnonzero((HISTORY.occurred_at >= judged.begin) & (HISTORY.labels >= 0))
    assert len(rows) == len(judged.fraud)
    assert (judged.begin, judged.end) == (HISTORY.occurred_at[rows[0]], HISTORY.occurred_at[rows[-1]])
    assert np.sort(judged.amount) == pytest.approx(np.sort(PAST.events.amount[rows]), rel=1e-4)


def test_the_window_says_when_and_how_much_of_what(result: TrainingResult) -> None:
    found = card(result, looked_at()).data
    labels = HISTORY.labels
    assert (found["events"], found["matured"], found["frauds"]) == (
        len(labels),
        (labels >= 0).sum(),
        (labels == 1).sum(),
    )
    assert found["accounts"] == len(set(PAST.events.account_id))
    assert found["merchants"] == len(set(PAST.events.merchant_id))
    assert (found["horizon_days"], found["labels"]) == (5.0, found["frauds"])
    assert found["from"] < found["matured_until"] < found["until"]


def test_segments_of_a_kind_hold_every_judged_event_once_and_agree_with_the_whole(result: TrainingResult) -> None:
    quality = card(result, looked_at()).quality
    whole = quality[0]
    assert whole["measures"]["average_precision"] == pytest.approx(result.metrics["average_precision"])
    low, high = whole["intervals"]["average_precision"]
    assert low < whole["measures"]["average_precision"] < high
    for kind in ("amount", "account", "channel", "category"):
        parts = [part for part in quality if part["kind"] == kind]
        for count in ("events", "frauds", "flagged"):
            assert sum(part[count] for part in parts) == whole[count], (kind, count)
    assert {part["name"] for part in quality if part["kind"] == "channel"} == {"online", "shop"}


def test_each_segment_is_measured_on_its_own_events(result: TrainingResult) -> None:
    judged = result.judged
    assert judged is not None
    bounds = (0.0, *AMOUNT_BOUNDS, np.inf)
    found = {part.name: part for part in segments_of(judged, {}, np.random.default_rng(0)) if part.kind == "amount"}
    for least, below in pairwise(bounds):
        rows = (judged.amount >= least) & (judged.amount < below)
        (part,) = [each for name, each in found.items() if name.startswith(f"{least:,.0f} ")] or [None]
        assert (0 if part is None else part.events) == rows.sum()
        if part is None:
            continue
        enough = judged.fraud[rows].sum() >= LEAST_FRAUDS
        assert bool(part.measures) == enough
        if enough:
            assert part.measures["average_precision"] == average_precision(judged.scores[rows], judged.fraud[rows])
            flagged = judged.scores[rows] >= judged.threshold
            assert part.measures["recall"] == flagged[judged.fraud[rows]].mean()
        if "average_precision" in part.intervals:
            low, high = part.intervals["average_precision"]
            assert low - 1e-9 <= part.measures["average_precision"] <= high + 1e-9


def test_an_account_is_new_until_it_has_had_some_events(result: TrainingResult) -> None:
    judged = result.judged
    assert judged is not None
    young = replace(judged, earlier=np.arange(len(judged.fraud), dtype=np.float32) % 8)
    parts = {part.name: part for part in segments_of(young, {}, np.random.default_rng(0)) if part.kind == "account"}
    assert parts["known"].events == (young.earlier >= KNOWN_FROM).sum()
    assert sum(part.events for part in parts.values()) == len(judged.fraud)


def test_calibration_is_there_where_scores_are_probabilities(result: TrainingResult) -> None:
    judged = result.judged
    assert judged is not None
    facts = DetectorFacts(HISTORY, judged, "probability", {}, "0.1.0")
    found = detector_card(facts).calibration
    assert found["expected_error"] == pytest.approx(calibration_error(judged.scores, judged.fraud))
    assert sum(each["events"] for each in found["bins"]) == len(judged.fraud)
    assert detector_card(replace(facts, score_kind="surprise")).calibration == {}


def limits(found: ModelCard) -> str:
    return "\n".join(found.limits)


def test_a_span_is_told_in_a_unit_that_a_person_would_use() -> None:
    told = [span_of(days) for days in (39.97, 2.5, 1.5, 0.0417, 20 / 86_400, 0.0)]
    assert told == ["40 days", "2.5 days", "36 hours", "60 minutes", "20 seconds", "0 seconds"]


def test_limits_follow_from_the_data(result: TrainingResult) -> None:
    said = limits(card(result, looked_at()))
    matured, frauds = (HISTORY.labels >= 0).sum(), (HISTORY.labels == 1).sum()
    assert f"{1 - frauds / matured:.1%} of the matured events have no label and count as legitimate" in said
    assert f"{len(KNOWN) - matured:,} of {len(KNOWN):,} events are younger than 5 days" in said
    assert "Measured on " in said
    assert "The history is 40 days long" in said
    few = [part for part in card(result).quality if part["frauds"] < LEAST_FRAUDS]
    assert few
    assert all(f"{part['kind']} {part['name']} ({part['frauds']})" in said for part in few)
    assert "Not measured by channel or category" not in said


def test_what_nobody_looked_at_and_what_a_look_found_are_limits(result: TrainingResult) -> None:
    assert "Not measured by channel or category" in limits(card(result))
    events = replace(PAST.events, amount=np.where(PAST.labels == 1, 1e7, PAST.events.amount))
    marked = looked_at(replace(HISTORY, events=events))
    assert "The data was found to have a fault: amount alone tells frauds" in limits(card(result, marked))


@pytest.mark.slow
def test_without_a_known_fraud_the_card_says_that_nothing_was_measured() -> None:
    unknown = LabelledHistory.matured(PAST.events, np.full(len(KNOWN), -1, np.int8))
    found = train(unknown, CONFIG, lambda stage, share: None)
    assert found.judged is None
    made = detector_card(DetectorFacts(unknown, None, "surprise", {}, "0.1.0"))
    assert (made.quality, made.calibration, made.data["matured_until"]) == ([], {}, None)
    assert "No fraud is known among the events that judged it" in limits(made)
    assert "they are no probabilities" in limits(made)


def test_few_frauds_and_few_accounts_are_said(result: TrainingResult) -> None:
    judged = result.judged
    assert judged is not None
    few = np.zeros(len(judged.fraud), np.bool_)
    few[np.flatnonzero(judged.fraud)[:5]] = True
    made = detector_card(DetectorFacts(HISTORY, replace(judged, fraud=few), "surprise", {}, "0.1.0"))
    assert "5 frauds are too few for figures that mean something" in limits(made)
    one = replace(judged, account=np.zeros(len(few), np.int64))
    assert "Frauds lie in fewer than 20 accounts" in limits(
        detector_card(DetectorFacts(HISTORY, one, "surprise", {}, "0.1.0"))
    )


def test_a_card_is_json_with_finite_numbers_alone(result: TrainingResult) -> None:
    made = card(result, looked_at()).as_json()
    assert json.loads(json.dumps(made, allow_nan=False))["settings"] == {"hidden": 8}


def test_values_that_the_network_cannot_tell_apart_are_one_segment() -> None:
    count = 400
    buckets = np.zeros((count, 4), np.int16)
    judged = JudgedSlice(
        np.linspace(0, 1, count),
        np.arange(count) % 5 == 0,
        np.arange(count) % 40,
        np.full(count, 20.0, np.float32),
        np.zeros(count, np.float32),
        buckets,
        0.9,
        0,
        1,
    )
    memory = BucketMemory(CATEGORY_BUCKETS[2])
    names = [f"c{number}" for number in range(200)]
    same = [name for name in names if memory[name] == memory["c0"]][:2]
    assert len(same) == 2
    buckets[:, 2] = memory["c0"]
    parts = segments_of(judged, {"channel": same}, np.random.default_rng(0))
    assert [(part.name, part.events) for part in parts if part.kind == "channel"] == [(" or ".join(same), count)]
