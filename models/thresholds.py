"""Which score is high enough to alert, given how many alerts a day people can handle."""

import numpy as np
import numpy.typing as npt


def threshold_for_budget(scores: npt.NDArray[np.float64], alerts_per_day: float, events_per_day: float) -> float:
    """The score that the budget's share of events reaches, read off recent scores. Never 0, so that an event
    about which nothing speaks does not alert even where the budget is larger than the traffic."""
    share = min(alerts_per_day / max(events_per_day, 1e-9), 1.0)
    return max(float(np.quantile(scores, 1 - share)), 1e-6)
