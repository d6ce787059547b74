"""What live consumers read from Redis: the stream of alerts, one hash per alert, the risk of alerted accounts, and the
current slate of each user.

One Lua script writes what concerns an alert together and only if the revision is new, so a repeated publication changes
nothing; another one a slate, only if none is there that was made later. Explicit stream ids would not do: partitions
interleave, and Redis refuses the smaller id. Every key has the prefix and a time to live; all of it can be rebuilt from
SQL.
"""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import msgspec
import redis

#: Entries and keys that are looked through at a time.
AT_ONCE = 1_000
Entries = list[tuple[bytes, dict[bytes, bytes]]]

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

#: KEYS: the user's slate. ARGV: the message, ttl seconds. Times are compared as texts of one length: a fraction of a
#: second is left out where it is zero.
REPLACE_IF_NOT_OLDER = """
local function made_at(payload)
    local read, message = pcall(cjson.decode, payload)
    local time = read and type(message) == 'table' and message.made_at
    local seconds, fraction = string.match(type(time) == 'string' and time or '', '^([^.Z]+)%.?(%d*)Z$')
    return seconds and seconds .. '.' .. fraction .. string.rep('0', 6 - #fraction)
end
local known = redis.call('GET', KEYS[1])
local before = known and made_at(known)
if before and before > made_at(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class _AccountOf(msgspec.Struct):
    account_id: str


_decode_account = msgspec.json.Decoder(_AccountOf).decode


@dataclass(frozen=True, slots=True)
class AlertView:
    """One revision; payload is the contract's alert message as JSON."""

    alert_id: str
    revision: int
    account_id: str
    score: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class SlateView:
    """A user's slate; payload is the contract's recommendation message as JSON, whose made_at decides what is newer."""

    user_id: str
    payload: bytes


class RedisViews:
    """Writes alerts and slates under `prefix`; keys live ttl_seconds after their last write, the stream holds about
    stream_length entries. Raises redis.RedisError."""

    def __init__(self, client: redis.Redis, *, prefix: str, ttl_seconds: int, stream_length: int) -> None:
        self._client = client
        self._prefix = prefix
        self._ttl = ttl_seconds
        self._stream_length = stream_length
        self._publish = client.register_script(PUBLISH_IF_NEW)
        self._replace = client.register_script(REPLACE_IF_NOT_OLDER)

    def publish_alerts(self, alerts: Sequence[AlertView]) -> list[bool]:
        """In order; true for each revision that was new."""
        if not alerts:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for alert in alerts:
                self._publish(
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

    def publish_slates(self, slates: Sequence[SlateView]) -> list[bool]:
        """In order; true for each that is the user's current one now."""
        if not slates:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for slate in slates:
                self._replace(
                    keys=[self._key(f"recs:{slate.user_id}")], args=[slate.payload, self._ttl], client=pipeline
                )
            return [bool(current) for current in pipeline.execute()]

    def forget_accounts(self, accounts: Collection[str]) -> int:
        """Removes what there is of these accounts' alerts and risks; how many entries and keys that were."""
        stream, removed, begin = self._key("alerts"), 0, "-"
        while entries := cast(Entries, self._client.xrange(stream, begin, count=AT_ONCE)):
            own = [entry for entry, fields in entries if _account_of(fields.get(b"payload")) in accounts]
            if own:
                removed += self._client.xdel(stream, *own)
            begin = f"({entries[-1][0].decode()}"
        for key in self._client.scan_iter(match=_literally(self._key("alert:")) + "*", count=AT_ONCE):
            if _account_of(cast(bytes | None, self._client.hget(key, "payload"))) in accounts:
                removed += self._client.delete(key)
        for account in accounts:
            removed += self._client.delete(self._key(f"risk:{account}"))
        return removed

    def forget_users(self, users: Collection[str]) -> int:
        """Removes these users' slates; how many there were."""
        return sum(int(self._client.delete(self._key(f"recs:{user}"))) for user in users)

    def close(self) -> None:
        """Drops the connections; the next use makes new ones."""
        self._client.close()

    def tell_operator(self, message: bytes) -> None:
        """On the channel `operator`, for whoever listens at this moment."""
        self._client.publish(self._key("operator"), message)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"


def _account_of(payload: bytes | None) -> str | None:
    """Whose alert a payload is; None where it is none of the contract's."""
    with suppress(msgspec.MsgspecError):
        return _decode_account(payload or b"").account_id
    return None


def _literally(text: str) -> str:
    """As a pattern of Redis that matches nothing else."""
    return re.sub(r"([*?\[\]\\^-])", r"\\\1", text)
