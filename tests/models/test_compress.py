"""Detectors made smaller: what must not change when what is taken out says nothing of its own, and what comes of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.artifact import TrainedDetector
from models.compress import (
    CannotCompress,
    Pupils,
    distilled,
    in_eight_bits,
    pruned,
    quantised,
    readers_of,
    states_along,
    taught_by,
    units_to_keep,
    with_units,
)
from models.detector import Detector
from models.metrics import average_precision
from models.scoring import Scorer
from models.sequences import Sequences, TrainingConfig, prepare, training_batches
from models.train_detector import answers_of, batch_loss, outputs, train
from tests.models.logs import busy_log, untrained
from tests.models.synthetic import History, history, scored_with_labels

UNITS = 24
CONFIG = TrainingConfig(hidden=UNITS, epochs=6, alerts_per_day=10)
GATES = ("gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0", "gru.bias_hh_l0")


def quiet(stage: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def past() -> History:
    return history(4_000, accounts=250, days=40, seed=4, frauds=0.05)


@pytest.fixture(scope="module")
def sequences(past: History) -> Sequences:
    return prepare(past.labelled, CONFIG, quiet)


@pytest.fixture(scope="module")
def large(past: History) -> TrainedDetector:
    half = np.arange(len(past.events) // 2)
    return train(past.labelled.take(half), CONFIG, quiet).model


def widened(small: Detector, idle: Callable[[Tensor], Tensor]) -> Detector:
    """The same with a second copy of each unit: readers take the given part of it, and the rest of the first one."""
    units = small.config.hidden
    wide = Detector(replace(small.config, hidden=2 * units))
    weights = small.state_dict()
    for name in GATES:
        weights[name] = torch.cat([torch.cat([gate, gate]) for gate in weights[name].split(units)])
    for name in ("gru.weight_hh_l0", "expectation.weight", "head.0.weight"):
        own, rest = weights[name][:, :units], weights[name][:, units:]
        weights[name] = torch.cat([own - idle(own), idle(own), rest], dim=1)
    wide.load_state_dict(weights)
    return wide.eval()


def smaller(large: Detector, sequences: Sequences, units: int) -> Detector:
    return with_units(large, units_to_keep(states_along(large, sequences, CONFIG), readers_of(large), units)).eval()


def greatest_difference(one: Detector, other: Detector, sequences: Sequences) -> float:
    mine, its = (outputs(detector, sequences, sequences.start) for detector in (one, other))
    return max(float(np.abs(mine.logits - its.logits).max()), float(np.abs(mine.surprise - its.surprise).max()))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_units_that_tell_what_others_tell_can_go_without_a_trace(sequences: Sequences, share: float) -> None:
    small = untrained(hidden=10).network
    wide = widened(small, lambda weight: share * weight)
    assert greatest_difference(small, wide, sequences) < 1e-4
    kept = smaller(wide, sequences, 10)
    assert kept.config.hidden == 10
    assert greatest_difference(small, kept, sequences) < 2e-3


def test_keeping_all_units_changes_nothing(sequences: Sequences, large: TrainedDetector) -> None:
    states = states_along(large.network, sequences, CONFIG)
    kept = units_to_keep(states, readers_of(large.network), UNITS)
    assert kept.units.tolist() == list(range(UNITS))
    same = with_units(large.network, kept).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in large.network.state_dict().items())


def test_a_unit_goes_with_its_rows_of_all_three_gates(sequences: Sequences, large: TrainedDetector) -> None:
    kept = units_to_keep(states_along(large.network, sequences, CONFIG), readers_of(large.network), 5)
    small, before = with_units(large.network, kept).state_dict(), large.network.state_dict()
    for name in ("gru.weight_ih_l0", "gru.bias_ih_l0", "gru.bias_hh_l0"):
        for mine, its in zip(small[name].split(5), before[name].split(UNITS), strict=True):
            assert torch.equal(mine, its[kept.units])
    assert small["gru.weight_hh_l0"].shape == (15, 5)


def test_what_stays_tells_more_of_the_state_than_units_drawn_by_chance(
    sequences: Sequences, large: TrainedDetector
) -> None:
    states = states_along(large.network, sequences, CONFIG).double()

    def untold(units: Tensor) -> float:
        told = torch.linalg.lstsq(states[:, units], states).solution
        return float((states - states[:, units] @ told).square().sum())

    chosen = untold(units_to_keep(states, torch.ones(1, UNITS), 6).units)
    draws = torch.Generator().manual_seed(0)
    by_chance = [untold(torch.randperm(UNITS, generator=draws)[:6]) for _ in range(20)]
    assert chosen < min(by_chance)


def test_states_without_any_movement_can_be_pruned_as_well() -> None:
    kept = units_to_keep(torch.zeros(10, 4), torch.ones(3, 4), 2)
    assert len(set(kept.units.tolist())) == 2
    assert torch.isfinite(kept.told_KH).all()


def test_a_teacher_has_nothing_to_teach_itself_and_something_to_teach_others(
    sequences: Sequences, large: TrainedDetector
) -> None:
    # Windows as long as the longest history, so that the pupil meets each event with all that the teacher knew.
    whole = replace(CONFIG, window=10**6)
    rows = training_batches(sequences, whole, np.random.default_rng(0))[0]
    start = sequences.start[np.searchsorted(sequences.stop, int(rows[rows >= 0][0]), "right")]
    lesson = taught_by(large.network, sequences)

    def more_than_labels(pupil: Detector) -> float:
        with torch.no_grad():
            return float(lesson(pupil, sequences, rows, 2.0) - batch_loss(pupil, sequences, rows, 2.0))

    assert start in rows
    assert more_than_labels(large.network) == pytest.approx(0.0, abs=1e-5)
    stranger = untrained(hidden=UNITS, seed=9).network
    assert more_than_labels(stranger) > 0.01
    with torch.no_grad():
        assert float(lesson(stranger, sequences, rows, None)) > float(batch_loss(stranger, sequences, rows, None))


def later_precision(model: TrainedDetector, past: History) -> float:
    later = slice(len(past.events) // 2, None)
    return average_precision(scored_with_labels(model, past.labelled)[later], past.labels[later] == 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "units", "changes", "loss"),
    [
        (lambda large: pruned(large, 8), 8, {"hidden": 8, "epochs": 2, "learning_rate": 1e-3}, 0.1),
        (lambda large: distilled(large, 8), 8, {"hidden": 8}, 0.1),
        (quantised, UNITS, {"epochs": 0}, 0.01),
    ],
    ids=["prune", "distil", "quantise"],
)
def test_a_smaller_detector_finds_about_as_much_and_can_be_stored(
    past: History, large: TrainedDetector, way: Callable[[Detector], Pupils], units: int, changes: Any, loss: float
) -> None:
    before = {name: value.clone() for name, value in large.network.state_dict().items()}
    half = past.labelled.take(np.arange(len(past.events) // 2))
    model = train(half, replace(CONFIG, **changes), quiet, pupil=way(large.network)).model
    assert (model.network.config.hidden, model.network.config.eight_bit) == (units, True)
    read = TrainedDetector.from_bytes(model.to_bytes())
    assert read.to_bytes() == model.to_bytes()
    assert later_precision(read, past) > later_precision(large, past) - loss
    assert all(torch.equal(value, before[name]) for name, value in large.network.state_dict().items())


def test_a_running_scorer_goes_on_with_a_smaller_form_and_explains_what_it_says(large: TrainedDetector) -> None:
    small = replace(large, network=in_eight_bits(with_units(large.network, units_to_keep(
        torch.randn(50, UNITS), readers_of(large.network), 8
    ))))  # fmt: skip
    first, second = busy_log().take(np.arange(300)), busy_log().take(np.arange(300, 360))
    swapped, fresh = Scorer(large), Scorer(small)
    swapped.score(first)
    swapped.replace_model(small)
    fresh.remember(first)
    scored = swapped.score(second)
    np.testing.assert_allclose(scored.score, fresh.score(second).score, atol=1e-6)
    reasons = swapped.explain(scored, np.array([0, 1]))
    assert len(reasons) == 2
    assert all(reasons)


def test_what_cannot_be_made_smaller_is_refused_with_its_reason(large: TrainedDetector) -> None:
    for way in (pruned, distilled):
        for units in (0, UNITS, UNITS + 1):
            with pytest.raises(CannotCompress, match=f"it has {UNITS} hidden units; give fewer"):
                way(large.network, units)
    with pytest.raises(CannotCompress, match="eight bits already"):
        quantised(in_eight_bits(large.network))


def test_a_pruned_detector_in_eight_bits_can_be_pruned_again(sequences: Sequences, large: TrainedDetector) -> None:
    once = in_eight_bits(smaller(large.network, sequences, 12))
    twice = smaller(once, sequences, 6)
    assert (twice.config.hidden, twice.config.eight_bit) == (6, False)
    rows = training_batches(sequences, CONFIG, np.random.default_rng(0))[0]
    assert torch.isfinite(answers_of(twice, sequences, rows).logits_N).all()
