"""A trained detector as one file: safetensors for weights, JSON for everything else. No pickle.

Foreign, damaged or outdated files are refused with BadModel; nothing in them is executed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch

from models.calibration import Calibration
from models.detector import Detector, DetectorConfig
from models.feature_schema import FEATURE_SCHEMA

FORMAT = "headgate-detector-1"


class BadModel(ValueError):
    """This file is no detector that this version can use; the message says why."""


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
        description = {
            "format": FORMAT,
            "feature_schema": FEATURE_SCHEMA,
            "config": asdict(self.network.config),
            "calibration": asdict(self.calibration),
            "threshold": self.threshold,
            "surprise_weight": self.surprise_weight,
            "surprise_mean": self.surprise_mean,
            "surprise_scale": self.surprise_scale,
            "notes": dict(self.notes),
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        return safetensors.torch.save(tensors, {"headgate": msgspec.json.encode(description).decode()})

    @staticmethod
    def from_bytes(data: bytes) -> "TrainedDetector":
        description, tensors = _read(data)
        try:
            network = Detector(DetectorConfig(**description["config"]))
            network.load_state_dict(tensors)
            calibration = Calibration(
                **{**description["calibration"], "knots": tuple(description["calibration"]["knots"])}
            )
            model = TrainedDetector(
                network.eval(),
                calibration,
                float(description["threshold"]),
                float(description["surprise_weight"]),
                float(description["surprise_mean"]),
                float(description["surprise_scale"]),
                description["notes"],
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadModel(f"the detector does not fit its description: {str(error).splitlines()[0]}") from error
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise BadModel("the detector holds weights that are not finite")
        return model


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        length = int.from_bytes(data[:8], "little")
        header = msgspec.json.decode(data[8 : 8 + length])
        description = msgspec.json.decode(header["__metadata__"]["headgate"])
        tensors = safetensors.torch.load(data)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise BadModel("not a detector in safetensors format") from error
    if description.get("format") != FORMAT:
        raise BadModel(f"format {description.get('format')!r} is unknown, this version reads {FORMAT!r}")
    if description.get("feature_schema") != FEATURE_SCHEMA:
        raise BadModel(f"made for feature schema {description.get('feature_schema')}, not {FEATURE_SCHEMA}; train anew")
    return description, tensors
