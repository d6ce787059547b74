"""Detectors that give scores which are no numbers: always, or for large amounts only, which no trial may have seen."""

import numpy as np
import torch

from models.artifact import TrainedDetector
from models.feature_schema import FEATURES

#: Times itself it is no float32 any more.
LARGE = 1e20


def broken_above(amount: float, model: TrainedDetector) -> TrainedDetector:
    """The same model, changed for good: of an event with a larger amount, two of its head's units overflow, and what is
    added of them is infinity minus infinity. The others do without these two units."""
    network, place = model.network, FEATURES.index("amount")
    limit = (np.log1p(amount) - float(network.mean_F[place])) / float(network.scale_F[place])
    with torch.no_grad():
        first, middle, last = network.head[0], network.head[2], network.head[4]
        middle.weight[:2], middle.weight[2:, :2], middle.bias[:2] = 0.0, 0.0, 0.0
        middle.weight[0, 0], middle.weight[1, 1] = LARGE, LARGE  # infinite once it is stored, however it is added up
        first.weight[:2], first.bias[:2] = 0.0, -LARGE * limit
        first.weight[:2, network.config.hidden + place] = LARGE
        last.weight[0, 0], last.weight[0, 1] = 1.0, -1.0
    return model


def broken(model: TrainedDetector) -> TrainedDetector:
    """The same model, changed for good: no amount is as small as this."""
    return broken_above(-0.9, model)
