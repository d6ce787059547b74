"""Shoppers' messages are the contract's, in whole."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from ops.simulate.shoppers.assortment import live_catalogue
from ops.simulate.shoppers.messages import engagement_messages, item_messages, reward_messages
from ops.simulate.shoppers.traffic import Slate, Traffic, TrafficBatch, TrafficConfig
from streams import contract

START = 1_790_000_000_000
CATALOGUE = live_catalogue(100, 0, "1", START, pace=2_880.0)


def one_slate(user_ids: Sequence[str]) -> list[Slate | None]:
    return [Slate("slate-1", "random", CATALOGUE.item_ids[:8])] * len(user_ids)


@pytest.fixture(scope="module")
def batch() -> TrafficBatch:
    config = TrafficConfig(start=START, users=1_000, rate=100.0)
    return Traffic(config, CATALOGUE, one_slate).until(START + 100_000)


def test_an_item_decodes_to_the_contracts_struct(batch: TrafficBatch) -> None:
    items = batch.items.item.tolist()
    messages = list(item_messages(CATALOGUE, batch.items))

    assert len(messages) == len(items) > 100
    for (key, value), item, available in zip(messages, items, batch.items.available.tolist(), strict=True):
        decoded = msgspec.json.decode(value, type=contract.Item)
        assert key == decoded.item_id == CATALOGUE.item_ids[item]
        assert (decoded.title, decoded.text) == (CATALOGUE.titles[item], CATALOGUE.texts[item])
        assert (decoded.category, decoded.price) == (CATALOGUE.categories[item], CATALOGUE.price[item])
        assert decoded.available == available


def test_an_engagement_decodes_to_the_contracts_struct(batch: TrafficBatch) -> None:
    columns = batch.engagements.columns()
    columns["value"] = [None if np.isnan(value) else value for value in columns["value"]]
    rows = list(zip(*(list(column) for column in columns.values()), strict=True))
    messages = list(engagement_messages(batch.engagements))

    assert len(messages) == len(rows) > 10_000
    for (key, value), row in zip(messages, rows, strict=True):
        decoded = msgspec.json.decode(value, type=contract.Engagement)
        assert msgspec.structs.astuple(decoded) == row
        assert key == decoded.user_id


def test_what_an_engagement_does_not_have_is_left_out(batch: TrafficBatch) -> None:
    fields = [msgspec.json.decode(value) for _, value in engagement_messages(batch.engagements)]

    assert {"value" in each for each in fields if each["action"] in ("dwell", "purchase")} == {True}
    assert {"value" in each for each in fields if each["action"] not in ("dwell", "purchase")} == {False}
    assert {each.get("recommendation_id") for each in fields} == {"slate-1", None}
    assert None not in {each.get("recommendation_id", "") for each in fields}


def test_a_late_reward_decodes_to_the_contracts_struct(batch: TrafficBatch) -> None:
    engagements, rewards = batch.engagements, batch.rewards
    messages = list(reward_messages(rewards, engagements.id_prefix, engagements.user_ids, engagements.item_ids))
    decoded = [msgspec.json.decode(value, type=contract.Feedback) for _, value in messages]

    assert len(decoded) == len(rewards) > 5
    assert len({each.feedback_id for each in decoded}) == len(decoded)
    for key, reward, user, item in zip(
        [key for key, _ in messages], decoded, rewards.user.tolist(), rewards.item.tolist(), strict=True
    ):
        assert key == engagements.user_ids[user]
        assert (reward.kind, reward.value, reward.source) == ("reward", 5.0, "app")
        assert (reward.item_id, reward.recommendation_id) == (engagements.item_ids[item], "slate-1")
    assert [each.given_at for each in decoded] == rewards.given_at.tolist()
