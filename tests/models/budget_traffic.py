"""Simulated scores with a daily and a weekly rhythm, in which levels shift and models change, run through a rule that
gives thresholds; what it alerts on is counted as live: events of an account fold into one alert."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.alert_budget import AlertBudget

DAY = 86_400_000
FIRST_DAY = 20_000
FOLD_WITHIN = 30 * 60_000


@dataclass(frozen=True)
class Traffic:
    """swing: by how much log-odds rise and fall over a day. shifts: from a day on (fractions are times of day) the
    log-odds lie so much higher than at first. starts: the time of the first day at which the stream begins."""

    days: int = 28
    events_per_day: int = 8_000
    swing: float = 0.0
    shifts: tuple[tuple[float, float], ...] = ()
    starts: float = 0.6
    seed: int = 0

    def events(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """occurred_at rising, score and account of each event."""
        random = np.random.default_rng(self.seed)
        rhythm = 1 + 0.8 * np.sin((np.arange(24) - 8) / 12 * np.pi)
        times = []
        for day in range(self.days):
            count = random.poisson(self.events_per_day * (0.6 if day % 7 >= 5 else 1.0))
            hours = random.choice(24, count, p=rhythm / rhythm.sum())
            times.append((FIRST_DAY + day) * DAY + hours * 3_600_000 + random.integers(0, 3_600_000, count))
        occurred_at = np.sort(np.concatenate(times))
        occurred_at = occurred_at[occurred_at >= (FIRST_DAY + self.starts) * DAY]
        odds = random.exponential(1.0, len(occurred_at)) + random.normal(-6, 0.3, len(occurred_at))
        odds += self.swing * np.sin(occurred_at / DAY * 2 * np.pi)
        for day, higher in self.shifts:
            odds[occurred_at >= (FIRST_DAY + day) * DAY] += higher
        return occurred_at, 1 / (1 + np.exp(-odds)), random.integers(0, self.events_per_day // 4, len(occurred_at))


def batches(occurred_at: npt.NDArray[np.int64], minutes: int) -> Iterator[slice]:
    """Slices that end with every so many minutes."""
    ends = np.flatnonzero(np.diff(occurred_at // (minutes * 60_000))) + 1
    edges = [0, *ends.tolist(), len(occurred_at)]
    yield from (slice(first, stop) for first, stop in pairwise(edges))


def alerts_by_day(
    traffic: Traffic, budget: AlertBudget, *, adaptive: bool = True, models: tuple[tuple[float, str, float], ...]
) -> npt.NDArray[np.int64]:
    """Alerts opened on each day. models: (day, name, own threshold), each in use from that day on. Without `adaptive`
    the own thresholds stay as they are."""
    occurred_at, scores, accounts = traffic.events()
    alerted_until = np.zeros(int(accounts.max()) + 1, np.int64)
    by_day = np.zeros(traffic.days, np.int64)
    waiting, own = list(models), 1.0
    for rows in batches(occurred_at, minutes=20):
        begin = int(occurred_at[rows.start])
        while waiting and begin >= (FIRST_DAY + waiting[0][0]) * DAY:
            _, name, own = waiting.pop(0)
            budget.use_model(name, own)
        flagged = scores[rows] >= (budget.threshold(begin) if adaptive else own)
        opened = np.zeros(len(flagged), np.bool_)
        for row in np.flatnonzero(flagged):
            account, moment = accounts[rows][row], occurred_at[rows][row]
            opened[row] = moment > alerted_until[account]
            alerted_until[account] = moment + FOLD_WITHIN
        budget.observe(occurred_at[rows], scores[rows], flagged, opened)
        np.add.at(by_day, occurred_at[rows][opened] // DAY - FIRST_DAY, 1)
    return by_day
