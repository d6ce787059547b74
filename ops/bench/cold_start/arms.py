"""Policies that see more or less of items, trained on the same history, and what new items earn with each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.catalogue import Catalogue
from models.engagements import Engagements
from models.guard_rails import SlateRules
from models.item_content import Item
from models.policy import TrainedPolicy
from models.recommending import Recommender
from models.train_policy import PolicyTrainingConfig, train_policy
from ops.bench.cold_start.visits import Visits
from ops.bench.cold_start.world import World

#: Looks of each shopper at slates before a policy is trained, and at slates of new items in their first hour.
LOOKS, FIRST_LOOKS = 8, 6


@dataclass(frozen=True, slots=True)
class Arm:
    """sees: an item as this policy knows it; encoders: it may look at pictures and read texts."""

    sees: Callable[[Item], Item]
    encoders: bool = True


ARMS: Mapping[str, Arm] = {
    "pictures and texts": Arm(lambda item: item),
    "texts": Arm(lambda item: replace(item, thumbnail=None)),
    "hashed words": Arm(lambda item: item, encoders=False),
}


@dataclass(frozen=True, slots=True)
class Met:
    """What a policy made of new items: clicks per slate in their first hour, and how it estimates its reward on the old
    ones."""

    policy: TrainedPolicy
    reward: float
    estimate: float


def collect_history(world: World) -> Visits:
    """What the service does without a policy: what is popular, with a floor and a random holdout."""
    visits = Visits(world, _recommender(world, ARMS["pictures and texts"], new=False), luck=world.config.seed)
    visits.find_something()
    for _ in range(LOOKS):
        visits.look()
    return visits


def meet_new_items(world: World, before: Visits, arm: Arm, config: PolicyTrainingConfig) -> Met:
    """Trains a policy on the history and lets it choose among new items for the same shoppers."""
    recommender = _recommender(world, arm, new=False)
    items = recommender.catalogue.table()
    if not arm.encoders:  # those of the network stay as they begin, and say nothing
        items = replace(items, parts_AM=None, picture_A=None, pixels_PX=None)
    trained = train_policy(before.history(items), config, lambda stage, share: None)
    recommender.fold(Engagements.concatenate(before.events))
    recommender.use_policy(recommender.prepare(trained.model), "recommender:1")
    recommender.catalogue.put([arm.sees(item) for item in world.on_sale(new=True)])
    visits = before.continued(recommender)
    visits.find_something(times=1)
    reward = float(np.mean([visits.look() for _ in range(FIRST_LOOKS)]))
    return Met(trained.model, reward, trained.metrics["reward_estimate"])


def _recommender(world: World, arm: Arm, *, new: bool) -> Recommender:
    catalogue = Catalogue()
    catalogue.put([arm.sees(item) for item in world.on_sale(new=new)])
    return Recommender(catalogue, SlateRules())
