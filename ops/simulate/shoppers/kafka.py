"""Simulated shoppers into Kafka: items, engagements and late rewards, keyed as the contract says.

Items go first, so that what is engaged with is mostly known; order between topics is not promised by Kafka.
"""

from dataclasses import dataclass

from ops.simulate.kafka import TopicOutput
from ops.simulate.shoppers.catalogue import Catalogue
from ops.simulate.shoppers.messages import engagement_messages, item_messages, reward_messages
from ops.simulate.shoppers.traffic import TrafficBatch
from streams.kafka import KafkaSettings

TOPICS = ("items", "engagements", "feedback")


@dataclass(frozen=True, slots=True)
class Sent:
    """Messages that were written or queued."""

    items: int = 0
    engagements: int = 0
    rewards: int = 0

    def plus(self, other: "Sent") -> "Sent":
        return Sent(self.items + other.items, self.engagements + other.engagements, self.rewards + other.rewards)


class ShopOutput(TopicOutput):
    """Raises and refuses as TopicOutput."""

    def __init__(self, settings: KafkaSettings, *, topic_prefix: str = "", linger_ms: int = 5) -> None:
        super().__init__(settings, TOPICS, topic_prefix=topic_prefix, linger_ms=linger_ms)

    def send(self, catalogue: Catalogue, batch: TrafficBatch) -> Sent:
        """Queues all of it, as fast as the broker takes it."""
        engagements = batch.engagements
        rewards = reward_messages(batch.rewards, engagements.id_prefix, engagements.user_ids, engagements.item_ids)
        return Sent(
            items=self.produce("items", item_messages(catalogue, batch.items)),
            engagements=self.produce("engagements", engagement_messages(engagements)),
            rewards=self.produce("feedback", rewards),
        )
