"""How many slates a second one process decides on one thread, and what a catalogue of a million items costs.

Users' engagements go through the code that runs live: rings, the network's state, retrieval, guard rails, the draw. No
Kafka, SQL or Redis takes part. The policy is untrained: weights cost the same whatever their values. Each engagement is
a click, and so asks for a slate.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.catalogue import Catalogue
from models.engagements import Engagements
from models.guard_rails import SlateRules
from models.item_content import Item
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.recommending import Recommender

Progress = Callable[[str, float], None]
#: Items, and users that share a batch. One batch size for a shop's catalogue, several for a large one.
SMALL, SMALL_BATCH = 1_000, 2_048
LARGE, LARGE_BATCHES = 1_000_000, (1, 64, 256)
USERS = 20_000
#: Seconds for each figure, at least one batch; the users' first two engagements are before that.
MEASURED = 4.0
ITEMS_AT_ONCE = 20_000
BEGIN = 1_780_000_000_000


def speed_benchmark(seed: int, progress: Progress) -> dict[str, Any]:
    """decisions_per_second: by catalogue size and users in a batch; build_seconds: of the large catalogue and its
    vectors; bytes_per_item: of the catalogue's arrays and the policy's vectors; bytes_per_user."""
    with _one_thread():
        policy = _untrained(seed)
        small = _recommender(SMALL, policy, seed, progress)
        pace = {str(SMALL): {str(SMALL_BATCH): _decisions_per_second(small, SMALL, SMALL_BATCH, seed, progress)}}
        started = time.perf_counter()
        large = _recommender(LARGE, policy, seed, progress)
        built = time.perf_counter() - started
        pace[str(LARGE)] = {
            str(batch): _decisions_per_second(large, LARGE, batch, seed, progress) for batch in LARGE_BATCHES
        }
    return {
        "decisions_per_second": pace,
        "build_seconds": built,
        "bytes_per_item": large.catalogue.bytes_per_item + 4 * policy.network.config.vector,
        "bytes_per_user": large.state_bytes_per_user,
    }


def _recommender(count: int, policy: TrainedPolicy, seed: int, progress: Progress) -> Recommender:
    catalogue, draw = Catalogue(count), np.random.default_rng(seed)
    words = [f"word{number}" for number in range(2_000)]
    for start in range(0, count, ITEMS_AT_ONCE):
        numbers = range(start, min(start + ITEMS_AT_ONCE, count))
        chosen = draw.integers(0, len(words), (len(numbers), 5)).tolist()
        catalogue.put(
            [
                Item(f"item-{number}", " ".join(words[word] for word in own), None, f"category-{number % 50}", 9.5)
                for number, own in zip(numbers, chosen, strict=True)
            ]
        )
        progress(f"{count:,} items", numbers.stop / count)
    recommender = Recommender(catalogue, SlateRules(), capacity=USERS)
    recommender.use_policy(recommender.prepare(policy), "recommender:1")
    return recommender


def _decisions_per_second(recommender: Recommender, items: int, batch: int, seed: int, progress: Progress) -> float:
    """Of users with a past, so that the policy decides for all but the holdout."""
    draw, offset, decided, spent = np.random.default_rng([seed, batch]), 0, 0, 0.0
    recommender.drop_partition(0)
    for _ in range(2):
        recommender.fold(_clicks(np.arange(USERS), items, offset, draw))
        offset += USERS
    while not decided or spent < MEASURED:
        events = _clicks(draw.choice(USERS, batch, replace=False), items, offset, draw)
        offset += batch
        started = time.perf_counter()
        answer = recommender.respond(events, _seeds(offset))
        spent += time.perf_counter() - started
        decided += 0 if answer.slates is None else len(answer.slates)
        progress(f"{items:,} items, batches of {batch:,}", min(1.0, spent / MEASURED))
    return decided / spent


def _clicks(users: npt.NDArray[np.int64], items: int, offset: int, draw: np.random.Generator) -> Engagements:
    """One click of each user, at the log's place `offset`."""
    places = range(offset, offset + len(users))
    return Engagements.from_columns(
        {
            "offset": places,
            "event_id": [f"event-{place}" for place in places],
            "occurred_at": BEGIN + np.arange(offset, offset + len(users)),
            "user_id": [f"user-{user}" for user in users.tolist()],
            "item_id": [f"item-{item}" for item in draw.integers(0, items, len(users)).tolist()],
            "action": ["click"] * len(users),
        }
    )


def _seeds(offset: int) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint64]]:
    return lambda rows: (rows + offset).astype(np.uint64)


def _untrained(seed: int) -> TrainedPolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TrainedPolicy(PolicyNetwork(PolicyConfig()).eval())


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
