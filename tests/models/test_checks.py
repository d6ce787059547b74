"""The checks before registration: a sound detector passes, each kind of unfit one is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.artifact import TrainedDetector
from models.calibration import Calibration
from models.checks import failed_checks, live_scores, sequence_scores
from models.detector import Detector
from models.events import Events
from models.feature_schema import FEATURES
from models.train_detector import TrainingResult
from tests.models.logs import ends_of_head, log_of, untrained
from tests.models.synthetic import history

PROBE = history(300, accounts=200, seed=9).events


def test_a_sound_detector_passes(trained: TrainingResult) -> None:
    assert failed_checks(trained.model, PROBE) == []
    assert failed_checks(untrained(), PROBE) == []


def test_repeats_in_the_probe_are_left_out_of_both_ways() -> None:
    twice = Events.concatenate([PROBE, PROBE])
    assert failed_checks(untrained(), twice) == []
    for scores in (live_scores(untrained(), twice), sequence_scores(untrained(), twice)):
        assert len(scores) == len(PROBE)
        assert np.isfinite(scores).all()


def test_weights_that_are_no_numbers_are_named() -> None:
    model = untrained()
    with torch.no_grad():
        model.network.gru.bias_hh_l0[3] = torch.nan
        model.network.mean_F[0] = torch.inf
    (failed,) = failed_checks(model, PROBE)
    assert failed.startswith("weights that are not finite")
    assert "gru.bias_hh_l0" in failed
    assert "mean_F" in failed


def test_the_same_score_for_every_event_is_refused() -> None:
    model = untrained(surprise_weight=0.0)
    with torch.no_grad():
        model.network.head[2].weight.zero_()
    (failed,) = failed_checks(model, PROBE)
    assert failed.startswith("the same score 0.")


def test_scores_that_are_no_numbers_for_some_events_are_refused() -> None:
    model = untrained(surprise_weight=0.0)
    first, last = ends_of_head(model.network)
    with (
        torch.no_grad()
    ):  # infinite in the first layer where that feature is well above its mean, less itself in the last
        for parameter in (first.weight, first.bias, last.weight):
            parameter.zero_()
        first.weight[:2, model.network.config.hidden + FEATURES.index("amount_to_median")] = 3e38
        first.bias[:2] = 3e38  # a product alone may be kept in more digits, however large
        first.weight[2, model.network.config.hidden + FEATURES.index("gap")] = 0.1
        last.weight[0, :3] = torch.tensor([3e38, -3e38, 1.0])
    assert failed_checks(model, PROBE) == ["scores that are no numbers"]


def test_a_probe_without_events_proves_nothing() -> None:
    assert failed_checks(untrained(), log_of([])) == ["scores that are no numbers"]


@pytest.mark.parametrize("threshold", [0.0, -0.5, float("nan"), float("inf")])
def test_a_threshold_that_flags_all_or_makes_no_sense_is_refused(threshold: float) -> None:
    assert failed_checks(untrained(threshold=threshold), PROBE) == [f"a threshold of {threshold}"]


def test_scores_outside_0_to_1_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Calibration, "score", lambda self, raw: raw - 10.0)
    assert failed_checks(untrained(), PROBE) == ["scores outside 0 to 1"]


def test_steps_that_differ_from_sequences_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Detector.steps
    monkeypatch.setattr(Detector, "steps", lambda self, x, sizes, h: steps(self, x, sizes, h) + 0.5)
    (failed,) = failed_checks(untrained(), PROBE)
    assert "between steps and sequences" in failed


def test_everything_that_is_wrong_is_named() -> None:
    model: TrainedDetector = replace(untrained(surprise_weight=0.0), threshold=0.0)
    with torch.no_grad():
        model.network.head[2].weight.zero_()
    assert len(failed_checks(model, PROBE)) == 2


def test_both_ways_score_in_the_order_of_the_log() -> None:
    live, in_sequence = live_scores(untrained(), PROBE), sequence_scores(untrained(), PROBE)
    assert len(live) == len(PROBE)
    np.testing.assert_allclose(live, in_sequence, rtol=0, atol=1e-5)
