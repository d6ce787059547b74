"""The Redis views as the settings say: one place for the worker and for the command that rebuilds them."""

import redis

from ops.settings import Settings
from storage.redis_views import RedisViews


def redis_views(settings: Settings) -> RedisViews:
    return RedisViews(
        redis.Redis.from_url(settings.redis.get_secret_value(), socket_timeout=10),
        prefix=settings.redis_prefix,
        ttl_seconds=settings.redis_ttl_seconds,
        stream_length=settings.alerts_stream_maxlen,
    )
