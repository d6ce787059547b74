"""The Faust app: the topics that this worker takes part in, assignment and revocation; nothing else.

Faust brings the consumer group, rebalancing, supervision and Kafka's committed offsets. Records never pass through it:
they, state and SQL are the flow's (flow.py).
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
        broker_commit_interval=5.0,
        consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
        consumer_auto_offset_reset="earliest",
    )
    app.flow = flow
    for topic in flow.topics:
        _subscribe(app, topic)

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


def _subscribe(app: FlowApp, topic: str) -> None:
    """Faust joins the group for the topics that have an agent; a pipeline reads them."""
    channel = app.topic(topic, key_serializer="raw", value_serializer="raw")

    async def take_part(stream: Any) -> None:
        async for _ in stream.noack().events():
            raise AssertionError("records are the pipelines' to read")

    app.agent(channel, name=f"take-part-{topic}")(take_part)
