"""Boosted trees (LightGBM) as the benchmarks compare the detector with. They keep no state between events."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.bench.packages import package

TREES = 300
#: What sets a fraud apart may be a limit beyond which one event in a thousand lies: the usual 255 bins cannot cut there
#: (docs/detection-benchmark.md). Frauds are few, so leaves need many events.
#: One thread: on a machine that does anything else two take several times as long, since each waits for the other by
#: spinning.
SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "max_bin": 4095,
    "min_data_in_leaf": 200,
    "lambda_l2": 10.0,
    "seed": 0,
    "num_threads": 1,
    "verbose": -1,
}


def boosted_trees(
    features: npt.NDArray[Any], fraud: npt.NDArray[np.bool_], progress: Callable[[str, float], None]
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Trains on these rows; gives what scores others. Raises BenchmarkFailed where LightGBM is missing."""
    lightgbm = package("lightgbm")
    told = [lambda state: progress("trees", (state.iteration + 1) / TREES)]
    data = lightgbm.Dataset(features, label=fraud.astype(np.float64))
    model = lightgbm.train(SETTINGS, data, num_boost_round=TREES, callbacks=told)
    return lambda rows: np.asarray(model.predict(rows), np.float64)
