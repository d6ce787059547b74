"""Calibration: between 0 and 1, never against the order of the raw output, a probability only on evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import LEAST_POSITIVES, LEVELS, Calibration, calibrate, fit_platt
from models.metrics import calibration_error

raws = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=50)


def labelled(frauds: int, legitimate: int, unknown: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs that are higher for frauds, in an order of their own."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.array([1, 0, -1], np.int8), [frauds, legitimate, unknown])
    raw = draw.normal(size=len(labels)) + 2.0 * (labels == 1)
    order = draw.permutation(len(labels))
    return raw[order], labels[order]


def assert_rises_within_0_and_1(calibration: Calibration, raw: np.ndarray) -> None:
    score = calibration.score(np.sort(raw))
    assert ((score >= 0) & (score <= 1)).all()
    assert (np.diff(score) >= 0).all()


@given(raws, raws)
def test_a_surprise_rises_with_the_raw_output_and_stays_within_0_and_1(seen: list[float], later: list[float]) -> None:
    calibration = calibrate(np.array(seen), np.full(len(seen), -1, np.int8))
    assert calibration.kind == "surprise"
    assert_rises_within_0_and_1(calibration, np.array(later))


@given(raws, st.floats(0.01, 100), st.floats(-100, 100))
def test_a_probability_rises_with_the_raw_output_and_stays_within_0_and_1(
    raw: list[float], slope: float, intercept: float
) -> None:
    assert_rises_within_0_and_1(Calibration("probability", slope, intercept, ()), np.array(raw))


def test_a_surprise_is_the_share_of_events_that_are_less_unusual() -> None:
    raw = np.random.default_rng(0).normal(size=50_000)
    score = calibrate(raw, np.full(len(raw), -1, np.int8)).score(np.quantile(raw, [0.0, 0.3, 0.9, 0.99, 0.999]))
    assert score == pytest.approx([0.0, 0.3, 0.9, 0.99, 0.999], abs=2e-3)


def test_what_is_more_unusual_than_ever_still_differs() -> None:
    raw = np.random.default_rng(0).normal(size=20_000)
    highest = float(raw.max())
    score = calibrate(raw, np.full(len(raw), -1, np.int8)).score(highest + np.array([0.0, 1.0, 2.0]))
    assert score[0] < score[1] < score[2] < 1


def test_a_probability_needs_200_known_frauds() -> None:
    assert LEAST_POSITIVES == 200
    assert calibrate(*labelled(199, 3_000, unknown=500)).kind == "surprise"
    assert calibrate(*labelled(200, 3_000)).kind == "probability"


def test_a_probability_needs_legitimate_events_too() -> None:
    assert calibrate(*labelled(300, 0, unknown=3_000)).kind == "surprise"


def test_a_raw_output_that_falls_with_fraud_is_no_probability() -> None:
    raw, labels = labelled(400, 3_000)
    assert calibrate(-raw, labels).kind == "surprise"


def test_a_probability_is_the_share_of_frauds() -> None:
    raw, labels = labelled(2_000, 20_000)
    score = calibrate(raw, labels).score(raw)
    assert score.mean() == pytest.approx((labels == 1).mean(), rel=1e-3)
    assert calibration_error(score, labels == 1) < 0.01


def test_unknown_labels_do_not_move_a_probability() -> None:
    raw, labels = labelled(300, 3_000)
    more = np.concatenate([raw, np.full(5_000, 9.0)]), np.concatenate([labels, np.full(5_000, -1, np.int8)])
    assert calibrate(*more) == calibrate(raw, labels)


def likelihood_slope(raw: np.ndarray, positive: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    error = 1 / (1 + np.exp(-(slope * raw + intercept))) - positive
    return np.array([(error * (raw - raw.mean()) / raw.std()).sum(), error.sum()])


@given(st.integers(0, 10_000), st.integers(5, 300), st.integers(5, 3_000), st.floats(-2, 2), st.floats(0.001, 1_000))
def test_platt_scaling_finds_the_maximum_of_the_likelihood(
    seed: int, frauds: int, legitimate: int, apart: float, unit: float
) -> None:
    draw = np.random.default_rng(seed)
    positive = np.repeat([True, False], [frauds, legitimate])
    raw = unit * (draw.standard_t(3, len(positive)) + apart * positive)
    # Close to 0; the slope is pulled towards 0 by 1e-3 of itself, which keeps it finite where classes are apart.
    assert np.abs(likelihood_slope(raw, positive, *fit_platt(raw, positive))).max() < 0.05


def test_platt_scaling_stays_finite_where_the_classes_do_not_overlap() -> None:
    raw, positive = np.arange(600.0), np.arange(600) >= 300
    slope, intercept = fit_platt(raw, positive)
    assert np.isfinite([slope, intercept]).all()
    assert slope > 0


def test_one_raw_output_for_all_events_still_calibrates() -> None:
    raw, labels = np.full(1_000, 2.5), np.repeat(np.array([1, 0], np.int8), [300, 700])
    score = calibrate(raw, labels).score(raw)
    assert np.isfinite(score).all()
    assert len(LEVELS) == len(calibrate(raw, np.full(1_000, -1, np.int8)).knots)
