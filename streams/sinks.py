"""Where the relay publishes: Kafka topics and Redis. Rows of the outboxes become messages of the contract here."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import redis
from confluent_kafka import KafkaError, KafkaException, Producer

from storage.outbox import (
    AlertRow,
    DeadLetterRow,
    ModelUpdateRow,
    PredictionRow,
    RecommendationRow,
    alerts_after,
    dead_letters_after,
    model_updates_after,
    predictions_after,
    recommendations_after,
)
from storage.redis_refusals import in_words, refusal_of
from storage.redis_views import AlertView, RedisViews, SlateView
from streams import contract
from streams.relay import Outbox, SinkUnavailable

CONFIRM_SECONDS = 30.0

ALERTS = Outbox("alerts", alerts_after, position=lambda row: row.sequence)
DEAD_LETTERS = Outbox("dead_letters", dead_letters_after, position=lambda row: row.source_offset)
MODEL_UPDATES = "model_updates"
PREDICTIONS = Outbox("predictions", predictions_after, position=lambda row: row.source_offset)
RECOMMENDATIONS = Outbox("recommendations", recommendations_after, position=lambda row: row.source_offset)


def model_updates(transactions: str) -> Outbox:
    """Who became champion: one order for all, so the owner of this topic's first partition publishes them."""
    return Outbox(
        MODEL_UPDATES,
        model_updates_after,
        position=lambda row: row.sequence,
        of=lambda claim: claim.topic == transactions and claim.partition == 0,
    )


def alert_message(row: AlertRow) -> contract.Alert:
    """The contract's message of a stored revision; a row that does not fit it is a bug and raises."""
    fields = {name: getattr(row, name) for name in contract.Alert.__struct_fields__}
    return msgspec.convert(fields, contract.Alert)


def alert_view(row: AlertRow) -> AlertView:
    """What Redis keeps of a stored revision."""
    return AlertView(row.alert_id, row.revision, row.account_id, row.score, contract.encode(alert_message(row)))


def recommendation_message(row: RecommendationRow) -> contract.Recommendation:
    """The contract's message of a stored slate."""
    items = [contract.RecommendedItem(item.item_id, item.position, item.propensity, item.score) for item in row.items]
    return contract.Recommendation(row.recommendation_id, row.user_id, row.made_at, row.policy, items, row.cause)


def slate_view(row: RecommendationRow) -> SlateView:
    """What Redis keeps of a stored slate."""
    return SlateView(row.user_id, contract.encode(recommendation_message(row)))


def dead_letter_headers(row: DeadLetterRow) -> dict[str, str]:
    """The contract's headers of a stored dead letter."""
    return {
        "source_topic": row.topic,
        "source_partition": str(row.source_partition),
        "source_offset": str(row.source_offset),
        "error_code": row.error_code,
        "error_message": row.error_message,
        "payload_bytes": str(row.payload_bytes or 0),
        "sha256": row.sha256 or "",
    }


class KafkaSink:
    """`alerts`, `recommendations`, `dead-letters`, `predictions` and `model-updates`. The producer is idempotent and
    does not linger. on_error: hears why a message was not delivered."""

    name = "kafka"

    def __init__(
        self, producer: Producer, topic_prefix: str, on_error: Callable[[KafkaError], object] = lambda error: None
    ) -> None:
        self._producer = producer
        self._prefix = topic_prefix
        self._on_error = on_error

    def publish(self, outbox: str, rows: Sequence[Any]) -> None:
        failures: list[str] = []

        def confirm(error: Any, message: Any) -> None:
            if error is not None:
                self._on_error(error)
                failures.append(f"{message.topic()}: {error.str()}")

        try:
            for row in rows:
                self._producer.produce(**self._message(row), on_delivery=confirm)
                self._producer.poll(0)
            waiting = self._producer.flush(CONFIRM_SECONDS)
        except (KafkaException, BufferError) as error:
            raise SinkUnavailable(f"Kafka refused a message: {error}") from error
        if failures or waiting:
            raise SinkUnavailable(failures[0] if failures else f"{waiting} messages unconfirmed")

    def _message(self, row: Any) -> dict[str, Any]:
        if isinstance(row, AlertRow):
            return {
                "topic": f"{self._prefix}alerts",
                "key": row.account_id.encode(),
                "value": contract.encode(alert_message(row)),
            }
        if isinstance(row, RecommendationRow):
            return {
                "topic": f"{self._prefix}recommendations",
                "key": row.user_id.encode(),
                "value": contract.encode(recommendation_message(row)),
            }
        if isinstance(row, PredictionRow):
            prediction = contract.Prediction(row.event_id, row.score, row.flagged, row.model)
            return {
                "topic": f"{self._prefix}predictions",
                "key": row.account_id.encode(),
                "value": contract.encode(prediction),
            }
        if isinstance(row, ModelUpdateRow):
            update = contract.ModelUpdate(row.name, row.version, row.promoted_at, row.why)
            return {
                "topic": f"{self._prefix}model-updates",
                "key": row.name.encode(),
                "value": contract.encode(update),
            }
        return self._dead_letter(row)

    def _dead_letter(self, row: DeadLetterRow) -> dict[str, Any]:
        return {
            "topic": f"{self._prefix}dead-letters",
            "key": row.record_key,
            "value": row.payload,
            "headers": [(name, value.encode()) for name, value in dead_letter_headers(row).items()],
        }


class RedisSink:
    """Stream, hash and risk of alerts, each revision once, and users' current slates (storage/redis_views.py)."""

    name = "redis"

    def __init__(self, views: RedisViews) -> None:
        self._views = views

    def publish(self, outbox: str, rows: Sequence[AlertRow | RecommendationRow]) -> None:
        alerts = [alert_view(row) for row in rows if isinstance(row, AlertRow)]
        # Of each user's slates only the last: the ones before it would be replaced at once.
        slates = {row.user_id: row for row in rows if isinstance(row, RecommendationRow)}
        try:
            self._views.publish_alerts(alerts)
            self._views.publish_slates([slate_view(row) for row in slates.values()])
        except redis.RedisError as error:
            raise SinkUnavailable(f"Redis: {in_words(error)}", refused=refusal_of(error)) from error
