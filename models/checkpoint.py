"""Where a training stands between two epochs, as bytes, so that it can go on after a kill as if nothing had been.

Weights, the best weights so far and the optimizer's moments are safetensors; the rest is JSON beside them. No pickle.
A checkpoint is of one training only, which its fingerprint tells: the same data, configuration and code of torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import msgspec
import numpy as np
import torch
from torch import Tensor

from models.detector import Detector
from models.tensor_file import UNREADABLE, read_tensor_file, tensor_file

FORMAT = "headgate-training-1"


class UnusableCheckpoint(ValueError):
    """These bytes are no checkpoint of this training; the message says why."""


class CheckpointStore(Protocol):
    """Keeps the newest checkpoint of a training."""

    def load(self) -> bytes | None: ...
    def save(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class NoCheckpoints:
    """For a training that starts anew when it is killed."""

    def load(self) -> bytes | None:
        return None

    def save(self, data: bytes) -> None:
        pass


class Standing(msgspec.Struct, frozen=True):
    """What a checkpoint says beside its tensors. best_quality: None before anything was judged; generator: of NumPy,
    as JSON, since its numbers are longer than JSON libraries like."""

    format: str
    fingerprint: str
    epoch: int
    best_quality: float | None
    since_best: int
    events: int
    seconds: float
    generator: str


@dataclass(slots=True)
class TrainingState:
    """All that changes from epoch to epoch. events and seconds: spent on epochs so far."""

    detector: Detector
    optimizer: torch.optim.Optimizer
    generator: np.random.Generator
    epoch: int = 0
    best_quality: float = -math.inf
    since_best: int = 0
    events: int = 0
    seconds: float = 0.0
    best: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.best = copy_of(self.detector)

    def judged(self, quality: float) -> None:
        """Keeps the weights where they are the best so far."""
        if quality > self.best_quality:
            self.best, self.best_quality, self.since_best = copy_of(self.detector), quality, 0
        else:
            self.since_best += 1

    def to_bytes(self, fingerprint: str) -> bytes:
        standing = Standing(
            format=FORMAT,
            fingerprint=fingerprint,
            epoch=self.epoch,
            best_quality=self.best_quality if math.isfinite(self.best_quality) else None,
            since_best=self.since_best,
            events=self.events,
            seconds=self.seconds,
            generator=json.dumps(self.generator.bit_generator.state),
        )
        tensors = {f"weights.{name}": value for name, value in copy_of(self.detector).items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        on_cpu = {name: value.cpu().contiguous() for name, value in tensors.items()}
        return tensor_file(on_cpu, standing)

    def restore(self, data: bytes, fingerprint: str) -> None:
        """Raises UnusableCheckpoint, and has then changed nothing."""
        try:
            standing, tensors = _read(data)
            if standing.format != FORMAT or standing.fingerprint != fingerprint:
                raise UnusableCheckpoint("it is of another training")
            kept = self._put(standing.generator, tensors)
        except UNREADABLE as error:
            raise UnusableCheckpoint(str(error)) from error
        self.best = kept
        self.epoch, self.since_best, self.events = standing.epoch, standing.since_best, standing.events
        self.best_quality = -math.inf if standing.best_quality is None else standing.best_quality
        self.seconds = standing.seconds

    def _put(self, generator: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sets what has a state of its own; gives the best weights. Raises one of UNREADABLE."""
        weights, best = _under("weights.", tensors), _under("best.", tensors)
        for found in (weights, best):
            _check_shapes(found, self.detector.state_dict())
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimizer.", tensors).items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        _check_moments(moments, list(self.detector.parameters()))
        generator_state = json.loads(generator)
        groups = self.optimizer.state_dict()["param_groups"]
        self.generator.bit_generator.state = generator_state
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.detector.load_state_dict(weights)
        device = self.detector.device
        return {name: value.to(device) for name, value in best.items()}


def fingerprint_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor], processes: int) -> str:
    """Of all that decides how a training goes."""
    found = sha256(json.dumps([FORMAT, torch.__version__, processes, dict(config)], sort_keys=True).encode())
    for name, value in tensors.items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def copy_of(detector: Detector) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in detector.state_dict().items()}


def _read(data: bytes) -> tuple[Standing, dict[str, Tensor]]:
    text, tensors = read_tensor_file(data)
    return msgspec.json.decode(text, type=Standing), tensors


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_moments(moments: Mapping[int, Mapping[str, Tensor]], parameters: Sequence[Tensor]) -> None:
    """The optimizer takes any shape, and fails at the first step."""
    for number, values in moments.items():
        if not 0 <= number < len(parameters):
            raise UnusableCheckpoint("it is of another network")
        if any(value.dim() and value.shape != parameters[number].shape for value in values.values()):
            raise UnusableCheckpoint("its optimizer is of another network")


def _check_shapes(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in wanted.items()}:
        raise UnusableCheckpoint("it is of another network")
