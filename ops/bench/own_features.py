"""The detector's own features of a whole history as one matrix, for models that keep no state: boosted trees.

The same FeatureBuilder and the same release of labels as in training and live: each event sees what came before it,
and of labels what was known at its day's beginning.
"""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from models.events import Events
from models.feature_schema import FEATURES
from models.features import FeatureBuilder
from models.labels import LabelledHistory, LabelRelease, version_batches
from models.merchant_labels import LABEL_FEATURES
from models.sequences import FEATURE_CHUNK

REPORTING_LIMIT = 10_000.0
Progress = Callable[[str, float], None]


def own_features(
    events: Events, fraud: npt.NDArray[np.bool_], label_delay: timedelta, progress: Progress
) -> npt.NDArray[np.float32]:
    """float32 [n, 26 + 13]: FEATURES, then LABEL_FEATURES. events in the order of time, without repeats."""
    end = int(events.occurred_at[-1]) + int(label_delay.total_seconds() * 1000) + 1
    history = LabelledHistory.of(events, fraud.astype(np.int8), now=end, horizon=label_delay)
    builder, release = FeatureBuilder(REPORTING_LIMIT), LabelRelease(history)
    result = np.empty((len(events), len(FEATURES) + len(LABEL_FEATURES)), np.float32)
    for rows in version_batches(events.occurred_at, FEATURE_CHUNK):
        builder.use_labels(release.knowledge(int(events.occurred_at[rows[0]])))
        built = builder.build(events.take(rows))
        own = rows[built.rows]
        release.note(own, built.unexplained)
        result[own, : len(FEATURES)], result[own, len(FEATURES) :] = built.features, built.labels
        progress("features", (int(rows[-1]) + 1) / len(events))
    return result
