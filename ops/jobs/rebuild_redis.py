"""`headgate redis rebuild`: the Redis views of alerts, written again from SQL after a loss."""

import redis

from ops.settings import Settings
from storage.database import open_database
from storage.outbox import every_latest_alert
from storage.redis_views import AlertView, RedisViews
from streams import contract
from streams.sinks import alert_message

AT_ONCE = 1000


def rebuild_redis(settings: Settings) -> int:
    """Publishes the newest alerts at their latest revision, oldest first; those that are there stay as they are."""
    client = redis.Redis.from_url(settings.redis.get_secret_value(), socket_timeout=10)
    views = RedisViews(
        client,
        prefix=settings.redis_prefix,
        ttl_seconds=settings.redis_ttl_seconds,
        stream_length=settings.alerts_stream_maxlen,
    )
    with open_database(settings.database.get_secret_value()).reading() as connection:
        rows = every_latest_alert(connection, settings.alerts_stream_maxlen)
    written = 0
    for start in range(0, len(rows), AT_ONCE):
        written += sum(
            views.publish_alerts(
                [
                    AlertView(r.alert_id, r.revision, r.account_id, r.score, contract.encode(alert_message(r)))
                    for r in rows[start : start + AT_ONCE]
                ]
            )
        )
    return written
