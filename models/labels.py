"""What may be learned from labels, and when: maturity."""

from datetime import timedelta

import numpy as np
import numpy.typing as npt


def training_labels(
    occurred_at: npt.NDArray[np.int64], known: npt.NDArray[np.int8], *, now: int, horizon: timedelta
) -> npt.NDArray[np.int8]:
    """known: 1 fraud, 0 legitimate, -1 no label. An event older than the horizon without a label is legitimate; a
    younger one stays unknown: its fraud may not have been reported yet. Times in epoch milliseconds."""
    matured = occurred_at <= now - int(horizon.total_seconds() * 1000)
    return np.where((known < 0) & matured, 0, known).astype(np.int8)
