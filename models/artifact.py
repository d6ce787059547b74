"""A trained detector as one file: safetensors for weights, JSON for everything else. No pickle.

Foreign, damaged or outdated files are refused with BadModel; nothing in them is executed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from models.calibration import LEVELS, Calibration
from models.detector import Detector, DetectorConfig
from models.eight_bit import packed, unpacked
from models.feature_schema import FEATURE_SCHEMA
from models.tensor_file import UNREADABLE, read_tensor_file, tensor_file

FORMAT = "headgate-detector-2"
#: No network has more units in a layer; far beyond what is of use, far below what torch cannot even describe.
MOST_UNITS = 65_536

Network = TypeVar("Network", bound=nn.Module)


class BadModel(ValueError):
    """This file is no model that this version can use; the message says why."""


class Description(msgspec.Struct, frozen=True):
    """What the file says beside the weights. Decoding refuses what is missing, of another type or not finite."""

    format: str
    feature_schema: int
    config: DetectorConfig
    calibration: Calibration
    threshold: float
    surprise_weight: float
    surprise_mean: float
    surprise_scale: float
    notes: dict[str, Any]


class _Kind(msgspec.Struct):
    """Read before the rest, which may differ between formats."""

    format: str
    feature_schema: int


@dataclass(frozen=True, slots=True)
class TrainedDetector:
    """Everything that scoring needs. surprise_weight: share of the surprise in the raw output, 1 without labels;
    surprise_mean and surprise_scale bring it to the logit's order of size."""

    network: Detector
    calibration: Calibration
    threshold: float
    surprise_weight: float
    surprise_mean: float
    surprise_scale: float
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def feature_schema(self) -> int:
        return FEATURE_SCHEMA

    def raw(self, logits: torch.Tensor, unusualness: torch.Tensor) -> torch.Tensor:
        """Fusion before calibration, in the space of logits."""
        surprise = (unusualness - self.surprise_mean) / self.surprise_scale
        return self.surprise_weight * surprise + (1 - self.surprise_weight) * logits

    def to_bytes(self) -> bytes:
        description = Description(
            format=FORMAT,
            feature_schema=FEATURE_SCHEMA,
            config=self.network.config,
            calibration=self.calibration,
            threshold=self.threshold,
            surprise_weight=self.surprise_weight,
            surprise_mean=self.surprise_mean,
            surprise_scale=self.surprise_scale,
            notes=dict(self.notes),
        )
        weights = self.network.state_dict()
        kept = packed(weights) if self.network.config.eight_bit else weights
        tensors = {name: value.detach().cpu().contiguous() for name, value in kept.items()}
        return tensor_file(tensors, description)

    @staticmethod
    def from_bytes(data: bytes) -> "TrainedDetector":
        """Raises BadModel."""
        description, tensors = _read(data)
        network = _network(description.config, unpacked(tensors) if description.config.eight_bit else tensors)
        knots = description.calibration.knots
        if description.calibration.kind == "surprise" and len(knots) != len(LEVELS):
            raise BadModel(f"a calibration by {len(LEVELS)} knots has {len(knots)}")
        if any(higher < lower for lower, higher in pairwise(knots)):
            raise BadModel("the knots of the calibration do not rise")
        if description.surprise_scale <= 0:
            raise BadModel("the scale of the surprise is not above 0")
        return TrainedDetector(
            network,
            description.calibration,
            description.threshold,
            description.surprise_weight,
            description.surprise_mean,
            description.surprise_scale,
            description.notes,
        )


def _read(data: bytes) -> tuple[Description, dict[str, torch.Tensor]]:
    text, tensors = described_weights(data, "detector")
    try:
        kind = msgspec.json.decode(text, type=_Kind)
    except msgspec.MsgspecError as error:
        raise BadModel("not a detector in safetensors format, or damaged") from error
    if kind.format != FORMAT:
        raise BadModel(f"format {kind.format!r} is unknown, this version reads {FORMAT!r}; train anew")
    if kind.feature_schema != FEATURE_SCHEMA:
        raise BadModel(f"made for feature schema {kind.feature_schema}, not {FEATURE_SCHEMA}; train anew")
    try:
        return msgspec.json.decode(text, type=Description), tensors
    except msgspec.MsgspecError as error:
        raise BadModel(f"the detector's description is wrong: {error}") from error


def described_weights(data: bytes, what: str) -> tuple[str, dict[str, torch.Tensor]]:
    """The description of a model file, still as text, and its weights. Raises BadModel."""
    try:
        text, tensors = read_tensor_file(data)
        msgspec.json.decode(text)
        return text, tensors
    except UNREADABLE as error:
        raise BadModel(f"not a {what} in safetensors format, or damaged") from error


class Unfilled(TorchFunctionMode):
    """Modules are built without filling their weights: to fill them on the meta device, torch would first import its
    compiler, for seconds and for nothing."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))


def _network(config: DetectorConfig, tensors: dict[str, torch.Tensor]) -> Detector:
    """Shapes are compared before anything is built: a description must not claim memory that the file lacks."""
    for layer, units, least in (("hidden", config.hidden, 1), ("head", config.head, 2)):
        if not least <= units <= MOST_UNITS:
            raise BadModel(f"{units} {layer} units are not between {least} and {MOST_UNITS}")
    return with_weights(lambda: Detector(config), tensors)


def with_weights(build: Callable[[], Network], tensors: dict[str, torch.Tensor]) -> Network:
    """The built network with these weights; nothing is built before their shapes are known to fit. Raises BadModel."""
    with torch.device("meta"), Unfilled():
        expected = {name: value.shape for name, value in build().state_dict().items()}
    found = {name: value.shape for name, value in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise BadModel(f"{name} has shape {found.get(name)}, expected {expected.get(name)}")
        if tensors[name].dtype != torch.float32 or not bool(torch.isfinite(tensors[name]).all()):
            raise BadModel(f"{name} holds weights that are not finite 32-bit numbers")
    network = build()
    network.load_state_dict(tensors)
    return network.eval()
