"""What may be learned from labels, and when: maturity."""

from datetime import timedelta

import numpy as np
import numpy.typing as npt


def training_labels(
    occurred_at: npt.NDArray[np.int64], known: npt.NDArray[np.int8], *, now: int, horizon: timedelta
) -> npt.NDArray[np.int8]:
    """known: 1 fraud, 0 legitimate, -1 no label. An event older than the horizon without a label is legitimate. A
    younger one is unknown, even where a verdict came early: early verdicts are mostly frauds, and would teach and
    calibrate a share of them that does not exist. Times in epoch milliseconds."""
    matured = occurred_at <= now - int(horizon.total_seconds() * 1000)
    return np.where(matured, np.maximum(known, 0), -1).astype(np.int8)
