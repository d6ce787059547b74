"""A checkpoint that somebody without the signing key puts in the place of a training's own: the training would go on
from weights of his choice, and what comes of it would be signed."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from models.sequences import TrainingConfig
from models.tensor_file import read_tensor_file
from models.train_detector import train
from storage.checkpoints import TAG_BYTES, CheckpointFile
from storage.model_trust import checkpoint_key, new_signing_key, signing_key_of
from tests.models.synthetic import History, history

CONFIG = TrainingConfig(hidden=8, epochs=2, patience=9)
KEY = checkpoint_key(signing_key_of(new_signing_key()))


class Killed(Exception):
    pass


class CutOff(CheckpointFile):
    """Ends the training once it has saved a checkpoint."""

    def save(self, data: bytes) -> None:
        super().save(data)
        raise Killed


@pytest.fixture(scope="module")
def past() -> History:
    return history(2_000, accounts=60, days=20, seed=6, frauds=0.03)


@pytest.fixture(scope="module")
def honest(past: History, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return trained(past, CheckpointFile(str(tmp_path_factory.mktemp("honest")), "run", KEY))


def trained(past: History, checkpoints: CheckpointFile) -> bytes:
    return train(past.labelled, CONFIG, lambda stage, share: None, checkpoints=checkpoints).model.to_bytes()


def plant_a_checkpoint(past: History, folder: Path) -> None:
    """All of the training's own but its weights, which know nothing and are said to be the best."""
    with pytest.raises(Killed):
        trained(past, CutOff(str(folder), "run", KEY))
    path = folder / "checkpoints" / "run.safetensors"
    text, tensors = read_tensor_file(path.read_bytes()[:-TAG_BYTES])
    blind = {name: torch.zeros_like(value) if "weight" in name else value for name, value in tensors.items()}
    told = text.replace('"best_quality":', '"best_quality":1e9,"was":')
    CheckpointFile(str(folder), "run", b"").save(safetensors.torch.save(blind, {"headgate": told}))


@pytest.mark.slow
def test_a_planted_checkpoint_is_refused_and_the_training_begins_anew(
    past: History, honest: bytes, tmp_path: Path
) -> None:
    plant_a_checkpoint(past, tmp_path)
    assert trained(past, CheckpointFile(str(tmp_path), "run", KEY)) == honest


@pytest.mark.slow
def test_without_the_hmac_a_planted_checkpoint_decides_what_is_trained(
    past: History, honest: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointFile, "_checked", lambda self, found: found[:-TAG_BYTES])
    plant_a_checkpoint(past, tmp_path)
    assert trained(past, CheckpointFile(str(tmp_path), "run", KEY)) != honest


@pytest.mark.slow
def test_its_own_checkpoint_leads_to_the_same_model(past: History, honest: bytes, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(past, CutOff(str(tmp_path), "run", KEY))
    assert trained(past, CheckpointFile(str(tmp_path), "run", KEY)) == honest
