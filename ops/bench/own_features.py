"""The detector's own features of a whole history as one matrix, for models that keep no state: boosted trees.

The columns that training takes: each event sees what came before it, and of labels what was known at the last full
hour.
"""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from models.events import Events
from models.feature_schema import FEATURES
from models.labels import LabelledHistory, milliseconds
from models.merchant_labels import LABEL_FEATURES
from models.sequences import feature_columns

REPORTING_LIMIT = 10_000.0
Progress = Callable[[str, float], None]


def own_features(
    events: Events, fraud: npt.NDArray[np.bool_], label_delay: timedelta, progress: Progress
) -> npt.NDArray[np.float32]:
    """float32 [n, 26 + 13]: FEATURES, then LABEL_FEATURES. events in the order of time, without repeats."""
    end = int(events.occurred_at[-1]) + milliseconds(label_delay) + 1
    history = LabelledHistory.of(events, fraud.astype(np.int8), now=end, horizon=label_delay)
    columns = feature_columns(history, REPORTING_LIMIT, progress)
    result = np.empty((len(events), len(FEATURES) + len(LABEL_FEATURES)), np.float32)
    result[columns["rows"]] = np.concatenate([columns["features"], columns["known"]], axis=1)
    return result
