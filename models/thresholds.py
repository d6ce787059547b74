"""Which score is high enough to alert, given how many alerts a day people can handle."""

import numpy as np
import numpy.typing as npt


def threshold_for_budget(scores: npt.NDArray[np.float64], alerts_per_day: float, events_per_day: float) -> float:
    """The lowest score at which no more than the budget's share of recent events is flagged (score >= threshold).

    Ties that do not fit into the budget stay below. Never 0, so that an event about which nothing speaks does not
    alert even where the budget is larger than the traffic.
    """
    share = min(alerts_per_day / max(events_per_day, 1e-9), 1.0)
    allowed = int(share * len(scores))
    ordered = np.sort(scores)[::-1]
    if allowed == len(ordered):
        lowest = ordered[-1]
    elif allowed and ordered[allowed] < ordered[allowed - 1]:
        lowest = ordered[allowed - 1]
    else:
        lowest = np.nextafter(ordered[allowed], np.inf)
    return max(float(lowest), 1e-6)
