"""Why an item is recommended to a user, in words: which of his recent engagements speak for it, and what else does.

What an engagement is worth for an item is how far the policy's logit of the item falls without it. All engagements with
one item are left out together: of two likes of a song, neither alone would be missed. The gap before the engagement
that follows grows by what was left out, as if nothing had happened meanwhile.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.catalogue import Catalogue
from models.engagements import ACTIONS
from models.running_policy import RunningPolicy
from models.runs import find_runs
from models.users import RecentEngagements

Rows = npt.NDArray[np.int64]
MOST_REASONS = 5
#: What speaks for an item: an engagement, its bias under the policy or its popularity, chance.
ENGAGEMENT, POPULARITY, CHANCE = "engagement", "popularity", "chance"
EVERYONE, DRAWN = "popular with everyone", "drawn at random"
_DONE = {
    "impression": "were shown",
    "click": "clicked on",
    "like": "liked",
    "dislike": "disliked",
    "skip": "skipped",
    "dwell": "spent time with",
    "purchase": "bought",
}


@dataclass(frozen=True, slots=True)
class ItemReason:
    """feature: ENGAGEMENT, POPULARITY or CHANCE; item_id, action and seconds_ago: of the latest engagement with one
    item, None for other features; contribution in units of the logit (0.7 doubles the odds), 0 for chance."""

    feature: str
    contribution: float
    text: str
    item_id: str | None = None
    action: str | None = None
    seconds_ago: float | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Sequences of one user's engagements: all of them, then those without each of k items. events: `source` int64[m]
    says which of his engagements each row is; key int64[k]: the items; last int64[k]: his last engagement with each."""

    events: RecentEngagements
    source: Rows
    key: Rows
    last: Rows


def why_item(
    running: RunningPolicy, catalogue: Catalogue, recent: RecentEngagements, item: int, since_latest: float
) -> list[ItemReason]:
    """All that speaks for and against the item in a catalogue row. recent: one user's engagements, the latest of them
    since_latest seconds ago. Of long histories what came before the ring is not seen."""
    sequences = left_out(recent)
    logits = np.zeros(len(sequences.key) + 1)
    filled = sequences.events.runs.slot[sequences.events.runs.first]
    logits[filled] = running.logits_after(sequences.events, item)
    if len(filled) < len(logits):  # nothing is left without the only item
        logits[-1] = running.logit_of_nobody(item)
    ago, biases = seconds_ago(recent, since_latest), running.biases()
    ids = [catalogue.item_ids[row] if row >= 0 else None for row in catalogue.rows_of_keys(sequences.key).tolist()]
    reasons = [
        engagement_reason(item_id, int(recent.action[last]), float(ago[last]), float(logits[0] - without))
        for item_id, last, without in zip(ids, sequences.last.tolist(), logits[1:].tolist(), strict=True)
    ]
    usual = float(biases[torch.from_numpy(catalogue.available_rows).to(biases.device)].mean()) if len(ids) else 0.0
    return [*reasons, ItemReason(POPULARITY, float(biases[item]) - usual, EVERYONE)]


def left_out(recent: RecentEngagements) -> LeftOut:
    """recent: of one user, oldest first."""
    count, place = len(recent.key), np.arange(len(recent.key))
    key, position = np.unique(recent.key[::-1], return_index=True)
    kept = np.concatenate([np.ones((1, count), np.bool_), recent.key != key[:, None]])
    sequence, source = np.nonzero(kept)
    before = np.concatenate([[0.0], np.cumsum(np.nan_to_num(recent.gap, nan=0.0))])
    # A gap reaches back to the engagement before that is kept; where the first of all has none, no first one has.
    runs = find_runs(sequence)
    previous = np.where(runs.rank == 0, -1, np.roll(source, 1))
    gap = before[source + 1] - before[previous + 1]
    gap = np.where((runs.rank == 0) & bool(count and np.isnan(recent.gap[0])), np.nan, gap).astype(np.float32)
    events = RecentEngagements(runs, recent.key[source], recent.action[source], recent.value[source], gap)
    return LeftOut(events, source, key, place[::-1][position])


def seconds_ago(recent: RecentEngagements, since_latest: float) -> npt.NDArray[np.float64]:
    """float64[m]: of one user's engagements; since_latest: seconds since the latest of them."""
    later = np.append(recent.gap[1:], 0.0).astype(np.float64)
    return np.asarray(np.cumsum(later[::-1])[::-1] + since_latest, np.float64)


def engagement_reason(item_id: str | None, action: int, ago: float, contribution: float) -> ItemReason:
    """item_id: None where it is in no catalogue."""
    name = ACTIONS[action]
    text = f"because you {_DONE[name]} {item_id or 'an item that is no longer known'} {_ago(ago)}"
    return ItemReason(ENGAGEMENT, contribution, text, item_id, name, ago)


def strongest(reasons: list[ItemReason]) -> list[ItemReason]:
    """Those that speak for the item, the strongest first; chance where there are none."""
    chosen = sorted((one for one in reasons if one.contribution > 0), key=lambda one: -one.contribution)
    return chosen[:MOST_REASONS] or [ItemReason(CHANCE, 0.0, DRAWN)]


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if round(seconds / size) >= 1:
            number = round(seconds / size)
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return "just now"
