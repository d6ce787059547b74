"""`headgate redis rebuild`: the Redis views of alerts and slates, written again from SQL after a loss."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

import redis

from ops.redis_settings import redis_views
from ops.settings import Settings
from storage.database import open_database
from storage.outbox import current_slates, every_latest_alert
from storage.redis_refusals import in_words
from streams.sinks import alert_view, slate_view

AT_ONCE = 1000
View = TypeVar("View")


class NotRebuilt(Exception):
    """Redis is away, or refuses; what was written until then is there."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many were written; what was there already is not among them."""

    alerts: int
    slates: int


def rebuild_redis(settings: Settings, now: datetime) -> Rebuilt:
    """Publishes the newest alerts at their latest revision, oldest first, and the newest slate of each user who was
    given one within the time to live. Alerts that are there stay as they are, and so do slates that are newer. Raises
    NotRebuilt, DatabaseUnavailable."""
    since = now - timedelta(seconds=settings.redis_ttl_seconds)
    database = open_database(settings.database.get_secret_value())
    with closing(redis_views(settings)) as views, database.reading() as connection:
        alerts = map(alert_view, every_latest_alert(connection, settings.alerts_stream_maxlen))
        slates = map(slate_view, current_slates(connection, since))
        try:
            return Rebuilt(_published(alerts, views.publish_alerts), _published(slates, views.publish_slates))
        except redis.RedisError as error:
            raise NotRebuilt(f"Redis does not take the views: {in_words(error)}; run the command again then") from error


def _published(views: Iterable[View], publish: Callable[[Sequence[View]], list[bool]]) -> int:
    return sum(sum(publish(some)) for some in _batches(views))


def _batches(views: Iterable[View]) -> Iterator[list[View]]:
    waiting = iter(views)
    while some := list(islice(waiting, AT_ONCE)):
        yield some
