"""What this client may do in Kafka, as the broker tells it, before anything is tried.

A client that lacks a right would go on in part: a consumer waits for ever, alerts stay in SQL. So a part asks at its
start for everything that it will need.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation

from streams.kafka import (
    REQUEST_SECONDS,
    KafkaRefused,
    KafkaSettings,
    KafkaUnavailable,
    TopicMissing,
    admin_client,
    group_admin,
    refused,
)

GROUP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Needed:
    """Topics that are read, which have to exist, and those that are written; the group that is taken part in."""

    read: Sequence[str] = ()
    written: Sequence[str] = ()
    group: str | None = None


def check_rights(settings: KafkaSettings, needed: Needed) -> None:
    """Raises KafkaRefused with all that is not allowed, TopicMissing, KafkaUnavailable."""
    lacking = lacking_rights(settings, needed)
    if lacking:
        raise KafkaRefused(
            "authorization",
            f"Kafka at {settings.servers} does not allow us {', '.join(lacking)}; docs/security.md has the commands "
            "that allow it",
        )


def lacking_rights(settings: KafkaSettings, needed: Needed, *, must_exist: bool = True) -> list[str]:
    """In words; empty, too, where the broker keeps no lists of rights. must_exist: topics that are read. Raises
    TopicMissing, KafkaUnavailable."""
    admin = admin_client(settings)
    wanted = sorted(
        [(name, AclOperation.READ) for name in needed.read] + [(name, AclOperation.WRITE) for name in needed.written],
        key=lambda each: each[0],
    )
    answers = admin.describe_topics(
        TopicCollection(sorted({name for name, _ in wanted})),
        include_authorized_operations=True,
        request_timeout=REQUEST_SECONDS,
    )
    lacking = [
        f"{operation.name} on topic {name}"
        for name, operation in wanted
        if not _allowed(settings, answers[name], operation, name, must_exist=must_exist and name in needed.read)
    ]
    return lacking + ([] if needed.group is None else _lacking_of_group(settings, needed.group))


def _lacking_of_group(settings: KafkaSettings, group: str) -> list[str]:
    """A group that does not exist yet, or whose coordinator is not found at once, says nothing: the consumer hears."""
    try:
        with group_admin(settings, GROUP_SECONDS) as admin:
            admin.list_group_offsets(group)
    except KafkaRefused:
        return [f"READ on group {group}"]
    except KafkaUnavailable:
        pass
    return []


def _allowed(settings: KafkaSettings, answer: Any, operation: AclOperation, topic: str, *, must_exist: bool) -> bool:
    """Whether a description lists the operation; without a list, everything is allowed."""
    try:
        operations: Iterable[AclOperation] | None = answer.result(REQUEST_SECONDS).authorized_operations
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return False
        if code != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise refused(settings, error.args[0], f"cannot describe topic {topic}") from None
        if must_exist:
            raise TopicMissing(f"topic {topic} does not exist; run `headgate topics create`") from None
        return True
    return operations is None or operation in operations
