"""A tiny shop for tests of learning: users who like one kind of item, and slates drawn at random or by a policy."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from models.engagements import Engagements, rewards
from models.item_content import Item, id_buckets, item_contents
from models.item_table import ItemTable
from models.logged_slates import LoggedSlates
from models.policy import PolicyNetwork
from models.policy_history import PolicyHistory
from models.slates import draw_slates, floored_log_weights

KINDS, ITEMS, CANDIDATES, SIZE = 4, 24, 8, 3
MINUTE = 60_000
#: How often an item is clicked when it is of the kind that the user likes, and when it is not.
LIKED, OTHER = 0.6, 0.05
CATALOGUE = [Item(f"item {row}", title=f"word{row}", category=f"kind {row % KINDS}") for row in range(ITEMS)]
CONTENT = item_contents(CATALOGUE)
BUCKETS = id_buckets([item.item_id for item in CATALOGUE])
TABLE = ItemTable(torch.from_numpy(CONTENT), torch.from_numpy(BUCKETS))


@dataclass
class Log:
    """What happened, a row an event or a slate."""

    events: list[tuple[int, str, int, str, int | None]] = field(default_factory=list)
    slates: list[
        tuple[int, int, npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int16], list[float]]
    ] = field(default_factory=list)

    def tell(self, at: int, user: int, row: int, action: str, slate: int | None) -> int:
        self.events.append((at, f"user {user}", row, action, slate))
        return len(self.events) - 1


def shop_log(users: int, visits: int, seed: int, network: PolicyNetwork | None = None) -> Log:
    """Each user begins with a click on an item that he likes, and is shown a slate at each visit, one user after the
    other at every visit. Slates are drawn at random, or as the network says with a floor of .05."""
    rng, log = np.random.default_rng(seed), Log()
    taste = rng.integers(0, KINDS, users)
    hidden = None if network is None else torch.zeros(users, network.config.hidden)
    for user in range(users):
        row = int(rng.choice(np.flatnonzero(np.arange(ITEMS) % KINDS == taste[user])))
        log.tell(user, user, row, "click", None)
        hidden = _moved(network, hidden, user, row, "click", np.nan)
    cause = np.arange(users)
    for visit in range(1, visits + 1):
        for user in range(users):
            at = visit * 10 * MINUTE + user
            candidates = rng.permutation(ITEMS)[:CANDIDATES]
            liking = np.zeros((1, CANDIDATES), np.float32)
            if network is not None and hidden is not None:
                with torch.inference_mode():
                    vectors = network.item_vectors(TABLE)
                    liking = (network.query(hidden[user][None]) @ vectors.T).numpy()[:, candidates]
            log_weights = floored_log_weights(liking, np.ones((1, CANDIDATES), np.bool_), 0.05)
            picks = draw_slates(log_weights, rng.random((1, CANDIDATES)), SIZE)
            earned: list[float] = []
            log.slates.append((user, int(cause[user]), candidates, log_weights[0], picks[0], earned))
            for place in picks[0].tolist():
                row = int(candidates[place])
                clicked = rng.random() < (LIKED if row % KINDS == taste[user] else OTHER)
                earned.append(float(clicked))
                action = "click" if clicked else "impression"
                cause[user] = log.tell(at, user, row, action, len(log.slates) - 1)
                hidden = _moved(network, hidden, user, row, action, 0.0)
    return log


def _moved(
    network: PolicyNetwork | None, hidden: torch.Tensor | None, user: int, row: int, action: str, gap: float
) -> torch.Tensor | None:
    if network is None or hidden is None:
        return None
    with torch.inference_mode():
        vector = network.item_vectors(TABLE.take(torch.tensor([row])))
        number = torch.tensor([1 if action == "click" else 0])
        hidden = hidden.clone()
        hidden[user] = network.step(hidden[user][None], vector, number, torch.tensor([torch.nan]), torch.tensor([gap]))[
            0
        ]
    return hidden


def earned_by(log: Log) -> float:
    """Reward of a slate."""
    return float(np.mean([sum(slate[5]) for slate in log.slates]))


def history_of(log: Log) -> PolicyHistory:
    order = sorted(range(len(log.events)), key=lambda row: log.events[row][0])
    place = {row: position for position, row in enumerate(order)}
    events = [log.events[row] for row in order]
    engagements = Engagements.from_columns(
        {
            "event_id": [f"event {row}" for row in order],
            "occurred_at": [event[0] for event in events],
            "user_id": [event[1] for event in events],
            "item_id": [CATALOGUE[event[2]].item_id for event in events],
            "action": [event[3] for event in events],
            "recommendation_id": [None if event[4] is None else f"slate {event[4]}" for event in events],
        }
    )
    assert rewards(engagements.action, engagements.value).max() == 1.0
    slates = log.slates
    logged = LoggedSlates(
        user=np.array([slate[0] for slate in slates], np.int64),
        made_at=np.array([log.events[slate[1]][0] for slate in slates], np.int64),
        policy=["random"] * len(slates),
        candidates=np.stack([slate[2] for slate in slates]).astype(np.int32),
        log_weights=np.stack([slate[3] for slate in slates]),
        picks=np.stack([slate[4] for slate in slates]),
        reward=np.array([slate[5] for slate in slates], np.float64),
        matured=np.ones(len(slates), np.bool_),
    )
    return PolicyHistory(
        engagements=engagements,
        item=np.array([event[2] for event in events], np.int32),
        slates=logged,
        cause=np.array([place[slate[1]] for slate in slates], np.int64),
        items=TABLE,
    )
