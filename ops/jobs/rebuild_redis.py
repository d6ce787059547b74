"""`headgate redis rebuild`: the Redis views of alerts, written again from SQL after a loss."""

from ops.redis_settings import redis_views
from ops.settings import Settings
from storage.database import open_database
from storage.outbox import every_latest_alert
from streams.sinks import alert_view

AT_ONCE = 1000


def rebuild_redis(settings: Settings) -> int:
    """Publishes the newest alerts at their latest revision, oldest first; those that are there stay as they are."""
    views = redis_views(settings)
    with open_database(settings.database.get_secret_value()).reading() as connection:
        rows = every_latest_alert(connection, settings.alerts_stream_maxlen)
    return sum(
        sum(views.publish_alerts([alert_view(row) for row in rows[start : start + AT_ONCE]]))
        for start in range(0, len(rows), AT_ONCE)
    )
