"""Which items there are over a span of time: those of the seed, and new ones that come along.

A history lets the last tenth of its items appear within it. Live traffic has all of them from the start, so it can
continue a history, and adds items of its own.
"""

import numpy as np

from ops.simulate.ids import stable_number
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers.catalogue import Catalogue, draw_items

LATE_SHARE = 0.1
#: Live: new items a day, and at most, as shares of those of the seed.
NEW_A_DAY, MOST_NEW = 0.02, 0.5


def history_catalogue(items: int, seed: int, start: int, end: int) -> Catalogue:
    """start, end: epoch milliseconds."""
    late = int(items * LATE_SHARE)
    appears_at = np.zeros(items, np.int64)
    appears_at[items - late :] = start + (np.arange(late) + 1) * ((end - start) // (late + 1))
    return draw_items(np.random.default_rng([seed, 5]), _ids("item-", items), appears_at)


def live_catalogue(items: int, seed: int, run: str, start: int, pace: float) -> Catalogue:
    """pace: days of life that pass in one day."""
    known = draw_items(np.random.default_rng([seed, 5]), _ids("item-", items), np.zeros(items, np.int64), pace)
    count = int(items * MOST_NEW)
    every = max(int(DAY / (NEW_A_DAY * items * pace)), 1)
    appears_at = start + (np.arange(count) + 1) * every
    generator = np.random.default_rng([seed, 5, stable_number(run)])
    new = draw_items(generator, _ids(f"item-{run}-", count), appears_at, pace)
    return Catalogue.concatenate([known, new])


def _ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:06d}" for number in range(count)]
