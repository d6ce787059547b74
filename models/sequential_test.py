"""Bounds for a mean that is looked at again and again while data comes in, and for several challengers in turn.

An interval for one look promises too little where one may look until it looks good. An asymptotic confidence sequence
holds at all looks at once (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 2024). Pure numbers; knows nothing of what is measured.
"""

import math


def share_of_error(error: float, number: int) -> float:
    """What the `number`th challenger (from 1) may spend of the whole error: error / (number (number + 1)).

    The shares of all challengers, however many come, add up to `error`. Raises ValueError."""
    if number < 1:
        raise ValueError(f"challengers are numbered from 1, not {number}")
    return error / (number * (number + 1))


def one_sided_width(standard_error: float, count: int, error: float, tightest_at: int) -> float:
    """The distance of the bound on one side of a mean of `count` values with this standard error.

    With a chance of at most `error` (below 1/2) the mean's true value is ever beyond it, over all looks. Against an
    interval for one look it is narrowest where count is about `tightest_at`, which must be fixed before the first look.
    Raises ValueError."""
    if not 0 < error < 0.5 or count < 1 or tightest_at < 1:
        raise ValueError(f"no bound for an error of {error}, {count} values, tightest at {tightest_at}")
    spent = -2 * math.log(2 * error)
    spread = (spent + math.log1p(spent)) / tightest_at * count
    return standard_error * math.sqrt(2 * (spread + 1) / spread * math.log1p(math.sqrt(spread + 1) / (2 * error)))
