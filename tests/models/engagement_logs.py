"""Small logs of engagements of any shape for property tests, catalogues to go with them, and untrained policies."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.engagements import ACTIONS, Engagements
from models.item_content import Item
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy

BEGIN = 1_780_000_000_000
MINUTE = 60_000
FIELDS = ("partition", "number", "user", "item", "minute", "action", "value")
Seeds = npt.NDArray[np.uint64]


def engagements(rows: Sequence[dict[str, Any]]) -> Engagements:
    """In log order, from what matters of each; the rest is filled in. number: names the event; minute: since BEGIN."""
    return Engagements.from_columns(
        {
            "partition": [row.get("partition", 0) for row in rows],
            "event_id": [f"event-{row.get('number', place)}" for place, row in enumerate(rows)],
            "occurred_at": [BEGIN + row.get("minute", place) * MINUTE for place, row in enumerate(rows)],
            "user_id": [f"user-{row.get('user', 0)}" for row in rows],
            "item_id": [f"item-{row.get('item', 0)}" for row in rows],
            "action": [row.get("action", "click") for row in rows],
            "value": [row.get("value", np.nan) for row in rows],
        }
    )


def engagement_logs(*, most: int = 60, partitions: int = 1) -> st.SearchStrategy[Engagements]:
    """Of few users and items (some in no catalogue of `shop`), with repeated ids and times out of order."""
    row = st.tuples(
        st.integers(0, partitions - 1),
        st.integers(0, 40),
        st.integers(0, 3),
        st.integers(0, 11),
        st.integers(-1_000, 30_000),
        st.sampled_from(ACTIONS),
        st.sampled_from([np.nan, 0.0, 12.5, -3.0, 1e12]),
    )
    rows = st.lists(row, max_size=most)
    return rows.map(lambda drawn: engagements([dict(zip(FIELDS, one, strict=True)) for one in drawn]))


def many_engagements(count: int, *, users: int, items: int, seed: int = 0, first: int = 0) -> Engagements:
    """At random; first: the number of the first one."""
    draw = np.random.default_rng(seed)
    return engagements(
        [
            {"number": first + place, "user": who, "item": what, "minute": first + place, "action": ACTIONS[action]}
            for place, (who, what, action) in enumerate(
                zip(
                    draw.integers(0, users, count).tolist(),
                    draw.integers(0, items, count).tolist(),
                    draw.integers(0, len(ACTIONS), count).tolist(),
                    strict=True,
                )
            )
        ]
    )


def items(count: int, *, categories: int = 0) -> list[Item]:
    """item-0, item-1 and so on, in turn of the given number of categories, or of none."""
    return [
        Item(
            f"item-{number}",
            title=f"thing number{number} of {number % 7}",
            category=f"category-{number % categories}" if categories else None,
            price=float(number),
        )
        for number in range(count)
    ]


def shop(count: int, *, categories: int = 0) -> Catalogue:
    catalogue = Catalogue(1)
    catalogue.put(items(count, categories=categories))
    return catalogue


def untrained_policy(hidden: int = 8, *, seed: int = 3, spread: float = 0.3) -> TrainedPolicy:
    """Random weights, the same in each call with the same seed, that answer differently to each user."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PolicyNetwork(PolicyConfig(hidden=hidden, vector=6))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * spread)
    return TrainedPolicy(network.eval(), {"seed": seed})


def seeds(start: int = 0) -> Callable[[npt.NDArray[np.int64]], Seeds]:
    """Of batch rows, as from their places in a log."""
    return lambda rows: (rows + start).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
