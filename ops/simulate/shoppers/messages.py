"""Items, engagements and late rewards as messages of the contract: keys and JSON bytes, ready to produce."""

from collections.abc import Iterator, Sequence

import msgspec

from models.engagements import ACTIONS
from ops.simulate.shoppers.catalogue import Catalogue
from ops.simulate.shoppers.engagements import ItemStates, LateRewards, SimulatedEngagements, chosen
from streams import contract

#: Who says so.
SOURCE = "app"


class EngagementMessage(contract.Engagement, frozen=True, omit_defaults=True, gc=False):
    """An engagement without the fields that are not there."""


class ItemMessage(contract.Item, frozen=True, omit_defaults=True, gc=False):
    """An item without the fields that are not there."""


class RewardMessage(contract.Feedback, frozen=True, omit_defaults=True, gc=False):
    """Feedback without the fields that are not there."""


_encode = msgspec.json.Encoder().encode


def item_messages(catalogue: Catalogue, states: ItemStates) -> Iterator[tuple[str, bytes]]:
    """Key and value of each item that is new or changed, whole."""
    categories = catalogue.categories
    for item, available in zip(states.item.tolist(), states.available.tolist(), strict=True):
        message = ItemMessage(
            item_id=catalogue.item_ids[item],
            title=catalogue.titles[item],
            text=catalogue.texts[item],
            category=categories[item],
            price=float(catalogue.price[item]),
            available=available,
        )
        yield message.item_id, _encode(message)


def engagement_messages(engagements: SimulatedEngagements) -> Iterator[tuple[str, bytes]]:
    """Key and value of each; times are epoch milliseconds."""
    doings = engagements.doings
    rows = zip(
        engagements.event_ids(),
        doings.occurred_at.tolist(),
        chosen(engagements.user_ids, doings.user),
        chosen(engagements.item_ids, doings.item),
        chosen(ACTIONS, doings.action),
        [None if value != value else value for value in doings.value.tolist()],
        doings.recommendation_id.tolist(),
        strict=True,
    )
    for row in rows:
        yield row[2], _encode(EngagementMessage(*row))


def reward_messages(
    rewards: LateRewards, id_prefix: str, user_ids: Sequence[str], item_ids: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Key and value of each; feedback_id follows from what is rewarded, so that a repeat is recognisable."""
    rows = zip(
        rewards.number.tolist(),
        rewards.given_at.tolist(),
        chosen(user_ids, rewards.user),
        chosen(item_ids, rewards.item),
        rewards.value.tolist(),
        rewards.recommendation_id.tolist(),
        strict=True,
    )
    for number, given_at, user_id, item_id, value, recommendation_id in rows:
        message = RewardMessage(
            feedback_id=f"reward-{id_prefix}{number}",
            given_at=given_at,
            kind="reward",
            recommendation_id=recommendation_id,
            item_id=item_id,
            value=value,
            source=SOURCE,
        )
        yield user_id, _encode(message)
