"""The Faust app: one agent a topic, assignment and revocation; nothing else.

Faust brings the consumer group, rebalancing and supervision. Records, state and SQL are the flow's (flow.py).
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faust

from streams.claiming import ClaimSuperseded
from streams.flow import Flow

#: A worker hears with a heartbeat that another one is gone; until then the orphaned partitions wait.
HEARTBEAT_SECONDS = 0.5
#: How soon a worker hears that a topic has got more partitions.
METADATA_MAX_AGE_MS = 15_000


@dataclass(frozen=True, slots=True)
class AppSettings:
    """group: the consumer group; worker: unique per worker, its static membership. Times in seconds."""

    servers: str
    group: str
    worker: str
    session_timeout: float = 6.0
    max_poll_records: int = 4096
    max_fetch_bytes: int = 4 * 1_048_576


class FlowApp(faust.App):
    """A Faust app that its transport asks for the flow."""

    flow: Flow


def build_app(settings: AppSettings, flow: Flow) -> FlowApp:
    app = FlowApp(
        settings.group,
        broker=[f"headgate://{server.strip()}" for server in settings.servers.split(",")],
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_client_id=f"headgate-{settings.worker}",
        consumer_group_instance_id=settings.worker,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=min(HEARTBEAT_SECONDS, settings.session_timeout / 4),
        broker_max_poll_records=settings.max_poll_records,
        broker_commit_interval=5.0,
        consumer_max_fetch_size=settings.max_fetch_bytes,
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        consumer_auto_offset_reset="earliest",
    )
    app.flow = flow
    for topic in flow.topics:
        _add_agent(app, topic)

    @app.on_partitions_revoked.connect(weak=False)
    async def release(_app: Any, revoked: Any, **_: Any) -> None:
        del revoked
        await flow.release()

    @app.on_rebalance_complete.connect(weak=False)
    async def own_nothing(_app: Any, **_: Any) -> None:
        """Faust seeks, and so has what was assigned claimed, only where something was assigned."""
        if not app.consumer.assignment():
            with suppress(ClaimSuperseded):  # the next rebalance began
                await flow.claim({}, app.consumer_generation_id)

    return app


def _add_agent(app: FlowApp, topic: str) -> None:
    channel = app.topic(topic, key_serializer="raw", value_serializer="raw")

    async def deliver(stream: Any) -> None:
        async for event in stream.noack().events():
            await app.flow.deliver(event.message.value)

    app.agent(channel, name=f"deliver-{topic}")(deliver)
