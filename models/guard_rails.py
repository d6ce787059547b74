"""What must not be shown to a user, whatever a policy thinks of it: each rule a pure mask over candidates.

Masks are made before a slate is drawn and do not change within it, so its propensities stay exact, given what is left
of the candidates. A rule that would
leave fewer candidates than a slate has places is lifted for that user as far as needed, but for the first three.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.catalogue import NO_CATEGORY
from models.hashing import hashes

Masks = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
HOLDOUT_SALT = "random holdout of headgate:"


@dataclass(frozen=True, slots=True)
class SlateRules:
    """size: of a slate; floor: of the probability, what is spread evenly over the allowed candidates; holdout: share
    of users who always get random slates; slate_max_age: milliseconds after which an impression gets a new one;
    most_impressions of an item within impression_window (milliseconds) before it rests; most_of_category: of a slate;
    least_told: engagements (no impressions) from which the policy decides; candidates, of which `random_candidates`
    are drawn from the whole catalogue; popularity halves every popularity_half_life milliseconds."""

    size: int = 6
    floor: float = 0.05
    holdout: float = 0.05
    slate_max_age: int = 5 * 60_000
    most_impressions: int = 3
    impression_window: int = 86_400_000
    most_of_category: int = 3
    least_told: int = 2
    candidates: int = 64
    random_candidates: int = 8
    popularity_half_life: int = 7 * 86_400_000


def in_holdout(user_ids: list[str], share: float) -> Masks:
    """bool[n]: the same users for ever, whatever else is changed."""
    place = hashes([HOLDOUT_SALT + user_id for user_id in user_ids]) / np.float64(2**64)
    return np.asarray(place < share, np.bool_)


def among(key: Rows, ring: Rows) -> Masks:
    """bool[n, C]: candidates' keys [n, C] that the users' rings [n, R] hold; key 0 stands for nothing."""
    held = (key[:, :, None] == ring[:, None, :]).any(2)
    return np.asarray(held & (key != 0), np.bool_)


def shown_too_often(key: Rows, shown: Rows, shown_at: Rows, now: Rows, rules: SlateRules) -> Masks:
    """bool[n, C]; shown [n, R] keys of impressions at shown_at; now int64[n]."""
    fresh = shown_at > now[:, None] - rules.impression_window
    times = ((key[:, :, None] == shown[:, None, :]) & fresh[:, None, :]).sum(2)
    return np.asarray((times >= rules.most_impressions) & (key != 0), np.bool_)


def too_many_alike(
    category: npt.NDArray[np.uint64], allowed: Masks, preference: npt.NDArray[np.float64], most: int
) -> Masks:
    """bool[n, C]: of each category all allowed candidates but the `most` with the highest preference float64[n, C];
    items without a category are like no other. With that no slate holds more of a category, however it is drawn.
    Preferences have to have chance in them, or some items would never be shown."""
    counted = allowed & (category != NO_CATEGORY)
    grouped = np.where(counted, category, NO_CATEGORY)
    first = np.argsort(-preference, axis=1, kind="stable")
    by_category = np.argsort(np.take_along_axis(grouped, first, 1), axis=1, kind="stable")
    order = np.take_along_axis(first, by_category, 1)
    own = np.take_along_axis(grouped, order, 1)
    place = np.broadcast_to(np.arange(own.shape[1]), own.shape)
    starts = np.ones(own.shape, np.bool_)
    np.not_equal(own[:, 1:], own[:, :-1], out=starts[:, 1:])
    rank = place - np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    result = np.zeros_like(allowed)
    np.put_along_axis(result, order, (rank >= most) & (own != NO_CATEGORY), 1)
    return result


def allowed_candidates(
    present: Masks,
    hard: Mapping[str, Masks],
    soft: Mapping[str, Callable[[Masks], Masks]],
    liking: npt.NDArray[np.float32],
    size: int,
) -> tuple[Masks, dict[str, int]]:
    """What may be shown of the candidates [n, C] that are present, and how many each rule took away. The soft rules,
    which see what the rules before them left, give back those that are liked best where fewer than `size` are left."""
    allowed, counts = present.copy(), {}
    for name, mask in hard.items():
        counts[name] = int((allowed & mask).sum())
        allowed &= ~mask
    may_return = allowed.copy()
    for name, rule in soft.items():
        mask = rule(allowed)
        counts[name] = int((allowed & mask).sum())
        allowed &= ~mask
    short = np.flatnonzero(allowed.sum(1) < np.minimum(size, may_return.sum(1)))
    for row in short.tolist():
        waiting = np.flatnonzero(may_return[row] & ~allowed[row])
        waiting = waiting[np.argsort(-liking[row, waiting], kind="stable")]
        allowed[row, waiting[: size - int(allowed[row].sum())]] = True
    counts["lifted"] = len(short)
    return allowed, counts
