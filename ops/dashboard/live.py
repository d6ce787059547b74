"""Server-sent events: the status every second, alerts as they are published to Redis, what the service tells operators.

One task follows the Redis stream for all listeners, another one the operators' channel; each listener has a queue. Who
comes back with the id of the last event that he saw is first given what came since, from the stream itself. A listener
who does not read is let go, and comes back in the same way: nothing is missed.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis
import structlog

from ops.dashboard.answers import AlertSummary
from ops.dashboard.errors import ApiError
from ops.dashboard.metrics import DashboardMetrics
from ops.dashboard.sources import Sources
from ops.dashboard.status import StatusWatch
from ops.dashboard.summaries import summary_of, summary_of_message
from storage.alert_list import alerts_at
from storage.database import DatabaseRefused, DatabaseUnavailable, SchemaOutdated
from storage.redis_refusals import in_words, refusal_of

log = structlog.get_logger(__name__)

MOST_LISTENERS, MOST_OF_ONE = 200, 40
MOST_WAITING = 1_000
ENTRIES_AT_ONCE = 200
BLOCK_MILLISECONDS = 1_000
RETRY_SECONDS = 1.0
STATUS_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": still here\n\n"
_STREAM_ID = re.compile(r"\d{1,20}-\d{1,20}")

#: Id in the Redis stream, and fields.
Entry = tuple[bytes, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """id: of an alert in the stream; None for what is about the moment only."""

    name: str
    data: str
    id: str | None = None

    def encoded(self) -> bytes:
        place = "" if self.id is None else f"id: {self.id}\n"
        return f"event: {self.name}\n{place}data: {self.data}\n\n".encode()


@dataclass(eq=False, slots=True)
class Listener:
    """who: the user. behind: the place in the stream where it comes back to. seen: the place up to which it has been
    given all alerts; None while that is unknown."""

    who: str
    behind: str | None
    seen: str | None
    queue: "asyncio.Queue[LiveEvent | None]" = field(default_factory=lambda: asyncio.Queue(MOST_WAITING + 1))

    def tell(self, event: LiveEvent) -> bool:
        """False, and the end, where too much waits already."""
        if self.queue.qsize() < MOST_WAITING:
            self.queue.put_nowait(event)
            return True
        self.end()
        return False

    def end(self) -> None:
        with suppress(asyncio.QueueFull):
            self.queue.put_nowait(None)


class LiveHub:
    """Everything on the event loop but reading SQL, which has threads of its own."""

    def __init__(self, sources: Sources, status: StatusWatch, metrics: DashboardMetrics) -> None:
        self._sources = sources
        self._status = status
        self._metrics = metrics
        self._stream, self._channel = f"{sources.redis_prefix}alerts", f"{sources.redis_prefix}operator"
        self._listeners: set[Listener] = set()
        self._position: str | None = None
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._status_event: tuple[float, bytes] = (-1.0, b"")

    def start(self) -> None:
        for follow in (self._follow_alerts, self._follow_operator):
            self._tasks.append(asyncio.create_task(self._again_and_again(follow)))

    def close(self) -> None:
        """Ends all streams, so that the server can end."""
        self._closing = True
        for listener in self._listeners:
            listener.end()

    async def stop(self) -> None:
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def join(self, who: str, last_event_id: str | None) -> Listener:
        """A listener, from the alert after the one that he saw last, or from now; until `leave`. Raises ApiError where
        too many listen already."""
        if sum(listener.who == who for listener in self._listeners) >= MOST_OF_ONE:
            self._metrics.limited("streams")
            message = f"this token has {MOST_OF_ONE} event streams open; close one"
            raise ApiError(429, "too_many", message, {"Retry-After": str(round(HEARTBEAT_SECONDS))})
        if len(self._listeners) >= MOST_LISTENERS:
            self._metrics.limited("streams")
            raise ApiError(503, "unavailable", f"{MOST_LISTENERS} event streams are open; close one")
        behind = last_event_id if last_event_id and _STREAM_ID.fullmatch(last_event_id) else None
        listener = Listener(who, behind, behind or self._position)
        self._listeners.add(listener)
        self._metrics.listeners(len(self._listeners))
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self._metrics.listeners(len(self._listeners))

    async def events(self, listener: Listener) -> AsyncIterator[bytes]:
        """For one listener, until it or the console ends."""
        due = beat = time.monotonic()
        yield HEARTBEAT
        async for event in self._told(listener):
            if event is not None:
                yield event.encoded()
            if (now := time.monotonic()) >= due:
                due = now + STATUS_SECONDS
                yield self._place(listener) + self._status_now(now)
            if now - beat >= HEARTBEAT_SECONDS:
                beat = now
                yield HEARTBEAT

    async def _told(self, listener: Listener) -> AsyncIterator[LiveEvent | None]:
        """What the listener has not seen, in order; None where nothing came for a while."""
        yield None
        if listener.behind is not None:
            async for event in self._missed_since(listener.behind):
                if event is not None:
                    listener.seen = event.id
                yield event
        while not self._closing:
            try:
                event = await asyncio.wait_for(listener.queue.get(), STATUS_SECONDS)
            except TimeoutError:
                yield None
                continue
            if event is None:
                return
            if event.id is None:
                yield event
            elif listener.seen is None or _order(event.id) > _order(listener.seen):
                listener.seen = event.id
                yield event

    async def _missed_since(self, position: str) -> AsyncIterator[LiveEvent | None]:
        """The alerts after a place of the stream until now; waits while Redis is away."""
        while not self._closing:
            try:
                async with self._sources.new_async_redis() as client:
                    while True:
                        entries: Any = await client.xrange(self._stream, f"({position}", "+", count=ENTRIES_AT_ONCE)
                        if not entries:
                            return
                        for event in await asyncio.to_thread(self._alert_events, entries):
                            yield event
                        position = _text(entries[-1][0])
            except redis.RedisError:
                yield None
                await asyncio.sleep(RETRY_SECONDS)

    async def _again_and_again(self, follow: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await follow()
            except (redis.RedisError, OSError) as error:
                if refusal_of(error) is not None and isinstance(error, redis.RedisError):
                    log.warning("Redis refuses the console", problem=in_words(error))
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as error:  # a bug must not end live events for good
                log.exception("live events failed", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow_alerts(self) -> None:
        async with self._sources.new_async_redis() as client:
            if self._position is None:
                newest = await client.xrevrange(self._stream, count=1)
                self._position = _text(newest[0][0]) if newest else "0-0"
            while True:
                wanted: dict[Any, Any] = {self._stream: self._position}
                found = await client.xread(wanted, count=ENTRIES_AT_ONCE, block=BLOCK_MILLISECONDS)
                for entries in _entries(found):
                    if self._listeners:
                        for event in await asyncio.to_thread(self._alert_events, entries):
                            self._tell(event)
                    self._position = _text(entries[-1][0])

    async def _follow_operator(self) -> None:
        async with self._sources.new_async_redis() as client, client.pubsub() as channel:
            await channel.subscribe(self._channel)
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=RETRY_SECONDS)
                if message is not None:
                    self._tell(LiveEvent("operator", _operator_message(message["data"])))

    def _tell(self, event: LiveEvent) -> None:
        for listener in list(self._listeners):
            if not listener.tell(event):
                self.leave(listener)

    def _place(self, listener: Listener) -> bytes:
        """The id of a status: who comes back with it misses nothing, also where no alert came while he listened."""
        if listener.seen is None and listener.queue.empty():
            listener.seen = self._position
        return b"" if listener.seen is None else f"id: {listener.seen}\n".encode()

    def _status_now(self, now: float) -> bytes:
        """The same for all listeners within half a second."""
        made, event = self._status_event
        if now - made >= STATUS_SECONDS / 2:
            event = LiveEvent("status", self._status.status().model_dump_json()).encoded()
            self._status_event = (now, event)
        return event

    def _alert_events(self, entries: Sequence[Entry]) -> list[LiveEvent]:
        """On a thread: SQL knows more of an alert than its message; without SQL the message has to do."""
        revisions = [(_text(fields[b"alert_id"]), int(fields[b"revision"])) for _, fields in entries]
        try:
            with self._sources.database.reading() as connection:
                stored = alerts_at(connection, revisions)
        except (DatabaseRefused, DatabaseUnavailable, SchemaOutdated):
            stored = {}
        events = []
        for (place, fields), revision in zip(entries, revisions, strict=True):
            alert = stored.get(revision)
            summary = _of_message(fields[b"payload"]) if alert is None else summary_of(alert)
            if summary is not None:
                events.append(LiveEvent("alert", summary.model_dump_json(), _text(place)))
        return events


def _of_message(payload: bytes) -> AlertSummary | None:
    try:
        return summary_of_message(payload)
    except msgspec.MsgspecError as error:
        log.warning("an entry of the stream of alerts is no alert", error=str(error))
        return None


def _operator_message(data: bytes) -> str:
    """On one line, whoever wrote it."""
    try:
        return json.dumps(json.loads(data))
    except ValueError:
        return json.dumps({"message": data.decode(errors="replace")})


def _entries(found: Any) -> list[list[Entry]]:
    """Of an answer to XREAD about one stream, in either version of the protocol."""
    if isinstance(found, dict):
        return [part for parts in found.values() for part in parts if part]
    return [part for _, part in found or () if part]


def _order(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number or 0)


def _text(value: Any) -> str:
    """Of what Redis says as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
