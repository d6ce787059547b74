"""The card of a policy (model_card.py says what cards are): which slates and users taught it, what slates earned, and
what was not tested."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.logged_slates import LoggedSlates
from models.model_card import ModelCard, day, moment
from models.policy_history import PolicyHistory

#: A user with fewer earlier engagements is new.
KNOWN_FROM = 5
#: A part with fewer slates is counted and not measured.
LEAST_SLATES = 100
#: Standard errors to either side of a 95 % interval.
DEVIATIONS = 1.96
MEASURED = ("click_loss", "reward_logged", "reward_as_clicked", "reward_estimate")


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What a policy's card is made of. taught: what it was trained and validated on, all slates with complete rewards;
    metrics: of its training."""

    taught: PolicyHistory
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    reward_window_hours: float
    code: str


def policy_card(facts: PolicyFacts) -> ModelCard:
    quality = slate_parts(facts.taught)
    return ModelCard(
        kind="policy",
        data=data_window(facts),
        quality=[{"kind": "all", "name": "estimates", "measures": measures(facts.metrics), "intervals": {}}, *quality],
        calibration={},
        limits=list(limits(facts, quality)),
        settings=dict(facts.settings),
        code=facts.code,
    )


def measures(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: metrics[name] for name in MEASURED if name in metrics}


def data_window(facts: PolicyFacts) -> dict[str, Any]:
    history, slates = facts.taught, facts.taught.slates
    times = slates.made_at
    return {
        "from": moment(int(times.min())) if len(times) else None,
        "until": moment(int(times.max())) if len(times) else None,
        "reward_window_hours": facts.reward_window_hours,
        "slates": len(slates),
        "users": len(np.unique(slates.user)),
        "items": len(history.items),
        "items_shown": len(shown_items(slates)),
        "engagements": len(history.engagements),
        "reactions": int((slates.reward != 0).sum()),
    }


def shown_items(slates: LoggedSlates) -> set[int]:
    if not slates.candidates.size:
        return set()
    picked = np.take_along_axis(slates.candidates, np.maximum(slates.picks, 0).astype(np.int64), axis=1)
    return set(np.unique(picked[slates.picks >= 0]).tolist()) - {-1}


def slate_parts(history: PolicyHistory) -> list[dict[str, Any]]:
    """What logged slates earned: of all, of new and of known users, and of each policy that chose them."""
    slates = history.slates
    known = earlier_engagements(history) >= KNOWN_FROM
    policy = np.array(slates.policy)
    parts = [("logged", "all", np.ones(len(slates), np.bool_))]
    parts += [("user", f"new (fewer than {KNOWN_FROM} engagements before)", ~known), ("user", "known", known)]
    parts += [("chosen by", str(name), policy == name) for name in np.unique(policy).tolist()]
    return [earned(kind, name, slates, rows) for kind, name, rows in parts if rows.any()]


def earlier_engagements(history: PolicyHistory) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64[m]: of each slate, its user's engagements before the one it answers."""
    seen: dict[str, int] = {}
    place = np.empty(len(history.engagements), np.int64)
    for row, user in enumerate(history.engagements.user_id):
        place[row] = seen.get(user, 0)
        seen[user] = place[row] + 1
    before: np.ndarray[Any, np.dtype[np.int64]] = place[history.cause]
    return before


def earned(kind: str, name: str, slates: LoggedSlates, rows: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    """The mean reward of a slate with an interval that takes users, not slates, for independent."""
    reward, user = slates.reward[rows].sum(1), slates.user[rows]
    part: dict[str, Any] = {"kind": kind, "name": name, "slates": len(reward), "users": len(np.unique(user))}
    if len(reward) < LEAST_SLATES:
        return part | {"measures": {}, "intervals": {}}
    mean = float(reward.mean())
    _, number = np.unique(user, return_inverse=True)
    residual = np.bincount(number, reward - mean)
    half = DEVIATIONS * float(np.sqrt((residual**2).sum())) / len(reward)
    bounds = {"reward_per_slate": (mean - half, mean + half)} if part["users"] > 1 else {}
    return part | {"measures": {"reward_per_slate": mean}, "intervals": bounds}


def limits(facts: PolicyFacts, quality: list[dict[str, Any]]) -> Iterator[str]:
    slates = facts.taught.slates
    yield (
        "What it would earn is estimated from slates that others chose, the latest of its training, which also ended "
        "the training: the verdict of the gate, on later slates that it never saw, says more."
    )
    yield "Values are those of one slate chosen otherwise; what it does to users over weeks is not in them."
    few = [f"{part['kind']} {part['name']} ({part['slates']} slates)" for part in quality if not part["measures"]]
    if few:
        yield f"Too few slates to say what is earned by: {'; '.join(few)}."
    items, shown = len(facts.taught.items), len(shown_items(slates))
    if shown < items:
        yield f"{items - shown:,} of {items:,} items were never shown: of these it knows only title, price and picture."
    last = day(int(slates.made_at.max(initial=0)))
    yield f"Scores are no probabilities of a click. Not tested: items and users after {last}."
