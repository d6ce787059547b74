"""What live consumers read from Redis: the stream of alerts, one hash per alert, the risk of alerted accounts.

One Lua script writes them together and only if the revision is new, so a repeated publication changes nothing.
Explicit stream ids would not do: partitions interleave, and Redis refuses the smaller id. Every key has the prefix
and a time to live; all of it can be rebuilt from SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import redis

#: KEYS: hash, stream, risk. ARGV: alert_id, revision, payload, score, ttl seconds, stream length, channel.
PUBLISH_IF_NEW = """
local known = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
if known >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'alert_id', ARGV[1], 'revision', ARGV[2], 'payload', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', 'alert_id', ARGV[1], 'revision', ARGV[2], 'payload', ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
redis.call('PUBLISH', ARGV[7], ARGV[1])
return 1
"""


@dataclass(frozen=True, slots=True)
class AlertView:
    """One revision; payload is the contract's alert message as JSON."""

    alert_id: str
    revision: int
    account_id: str
    score: float
    payload: bytes


class RedisViews:
    """Writes alerts under `prefix`; keys live ttl_seconds after their last write, the stream holds about
    stream_length entries. Raises redis.RedisError."""

    def __init__(self, client: redis.Redis, *, prefix: str, ttl_seconds: int, stream_length: int) -> None:
        self._client = client
        self._prefix = prefix
        self._ttl = ttl_seconds
        self._stream_length = stream_length
        self._script = client.register_script(PUBLISH_IF_NEW)

    def publish_alerts(self, alerts: Sequence[AlertView]) -> list[bool]:
        """In order; true for each revision that was new."""
        if not alerts:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for alert in alerts:
                self._script(
                    keys=[
                        self._key(f"alert:{alert.alert_id}"),
                        self._key("alerts"),
                        self._key(f"risk:{alert.account_id}"),
                    ],
                    args=[
                        alert.alert_id,
                        alert.revision,
                        alert.payload,
                        repr(alert.score),
                        self._ttl,
                        self._stream_length,
                        self._key("alerts"),
                    ],
                    client=pipeline,
                )
            return [bool(new) for new in pipeline.execute()]

    def tell_operator(self, message: bytes) -> None:
        """On the channel `operator`, for whoever listens at this moment."""
        self._client.publish(self._key("operator"), message)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"
