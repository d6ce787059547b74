"""What a trained detector shows of itself beside its figures: curves to draw and intervals of the figures, from later
events that it was not trained on. How the figures themselves are measured is in metrics.py."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from models.calibration import ScoreKind
from models.curves import CalibrationBin, PrecisionRecall, calibration_bins, precision_recall, thinned
from models.intervals import Integers, intervals
from models.metrics import Floats, Positives


@dataclass(frozen=True, slots=True)
class Quality:
    """calibration: empty where scores are no probabilities. intervals: (low, high) of 95 % by the name of the figure;
    empty where too few accounts have a fraud. events, frauds: those that it rests on."""

    precision_recall: PrecisionRecall
    calibration: list[CalibrationBin]
    events: int
    frauds: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """What the registry keeps of it, fit for JSON."""
        curves = {
            "precision_recall": self.precision_recall.points(),
            "calibration": [asdict(each) for each in self.calibration],
            "source": "training",
            "events": self.events,
            "frauds": self.frauds,
        }
        return {"curves": curves, "intervals": {name: list(bounds) for name, bounds in self.intervals.items()}}


def quality_of(
    scores: Floats,
    fraud: Positives,
    account: Integers,
    threshold: float,
    kind: ScoreKind,
    generator: np.random.Generator,
) -> Quality:
    """Of n events with matured labels. account: numbers from 0. Raises ValueError without a fraud."""
    return Quality(
        thinned(precision_recall(scores, fraud)),
        calibration_bins(scores, fraud) if kind == "probability" else [],
        len(fraud),
        int(fraud.sum()),
        intervals(scores, fraud, account, threshold, generator),
    )
