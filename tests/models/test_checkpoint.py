"""Training that goes on after a kill: with the result of one that was never stopped, and only from a checkpoint of its
own."""

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import safetensors.torch
import torch

from models.checkpoint import TrainingState, UnusableCheckpoint
from models.detector import Detector, DetectorConfig
from models.sequences import TrainingConfig
from models.tensor_file import read_tensor_file
from models.train_detector import TrainingResult, train
from tests.models.synthetic import History, history

CONFIG = TrainingConfig(hidden=8, epochs=4, patience=9)


class Killed(Exception):
    pass


@dataclass
class Kept:
    """Keeps checkpoints; ends the training as soon as it has kept so many."""

    until: int = 99
    all: list[bytes] = field(default_factory=list)

    def load(self) -> bytes | None:
        return self.all[-1] if self.all else None

    def save(self, data: bytes) -> None:
        self.all.append(data)
        if len(self.all) == self.until:
            raise Killed


@pytest.fixture(scope="module")
def past() -> History:
    return history(3_000, accounts=100, days=20, seed=6, frauds=0.03)


@pytest.fixture(scope="module")
def uninterrupted(past: History) -> bytes:
    return trained(past).model.to_bytes()


def trained(past: History, kept: Kept | None = None, config: TrainingConfig = CONFIG) -> TrainingResult:
    return train(past.labelled, config, lambda stage, share: None, checkpoints=kept)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_a_training_killed_after_an_epoch_goes_on_to_the_same_bytes(
    past: History, uninterrupted: bytes, epoch: int
) -> None:
    kept = Kept(until=epoch)
    with pytest.raises(Killed):
        trained(past, kept)
    again = Kept(all=kept.all)
    assert trained(past, again).model.to_bytes() == uninterrupted
    assert len(again.all) == CONFIG.epochs  # no epoch was made twice


@pytest.mark.slow
def test_a_torn_checkpoint_is_ignored_with_a_warning(
    past: History, uninterrupted: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(until=2)
    with pytest.raises(Killed):
        trained(past, kept)
    whole = kept.all[-1]
    for torn in (whole[: len(whole) // 2], whole[:5], b"", b"no checkpoint at all"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert trained(past, Kept(all=[torn])).model.to_bytes() == uninterrupted
        assert "cannot be used" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("config", [replace(CONFIG, seed=1), replace(CONFIG, hidden=16), replace(CONFIG, epochs=5)])
def test_a_checkpoint_of_another_configuration_is_ignored(
    past: History, config: TrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(until=1)
    with pytest.raises(Killed):
        trained(past, kept)
    assert trained(past, Kept(all=kept.all), config).model.to_bytes() == trained(past, config=config).model.to_bytes()
    assert "it is of another training" in caplog.text


@pytest.mark.slow
def test_a_checkpoint_of_another_history_is_ignored(past: History, caplog: pytest.LogCaptureFixture) -> None:
    other = history(3_000, accounts=100, days=20, seed=7, frauds=0.03)
    kept = Kept(until=1)
    with pytest.raises(Killed):
        trained(other, kept)
    trained(past, Kept(all=kept.all))
    assert "it is of another training" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimizer.0.exp_avg", torch.zeros(3)),
        ("optimizer.999.exp_avg", torch.zeros(3)),
        ("weights.mean_F", torch.zeros(3)),
    ],
)
def test_tensors_of_another_network_are_refused_before_anything_is_changed(name: str, value: torch.Tensor) -> None:
    """The optimizer itself takes any shape, and fails at its first step."""
    detector = Detector(DetectorConfig(hidden=8))
    state = TrainingState(detector, torch.optim.Adam(detector.parameters()), np.random.default_rng(0))
    sum((parameter.sum() for parameter in detector.parameters()), torch.zeros(())).backward()
    state.optimizer.step()
    text, tensors = read_tensor_file(state.to_bytes("this training"))
    state.restore(state.to_bytes("this training"), "this training")
    forged = safetensors.torch.save(tensors | {name: value}, {"headgate": text})
    before = state.to_bytes("this training")
    with pytest.raises(UnusableCheckpoint, match="another network"):
        state.restore(forged, "this training")
    assert state.to_bytes("this training") == before
