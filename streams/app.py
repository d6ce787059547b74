"""The Faust app: the topics that this worker takes part in, assignment and revocation; nothing else.

Faust brings the consumer group, rebalancing, supervision and Kafka's committed offsets. Records never pass through it:
they, state and SQL are the flow's (flow.py).
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faust
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streams.claiming import ClaimSuperseded
from streams.flow import Flow
from streams.kafka import KafkaSettings
from streams.kafka_security import KafkaSecurity, PasswordLogin, ssl_context
from streams.kafka_tokens import AsyncTokenProvider, tokens_of

#: A worker hears with a heartbeat that another one is gone; until then the orphaned partitions wait.
HEARTBEAT_SECONDS = 0.5
#: How soon a worker hears that a topic has got more partitions.
METADATA_MAX_AGE_MS = 15_000


@dataclass(frozen=True, slots=True)
class AppSettings:
    """group: the consumer group; worker: unique per worker, its static membership. Times in seconds."""

    kafka: KafkaSettings
    group: str
    worker: str
    session_timeout: float = 6.0


class FlowApp(faust.App):
    """A Faust app that its transport asks for the flow."""

    flow: Flow


def build_app(settings: AppSettings, flow: Flow) -> FlowApp:
    app = FlowApp(
        settings.group,
        broker=[f"headgate://{server.strip()}" for server in settings.kafka.servers.split(",")],
        broker_credentials=kafka_credentials(settings.kafka.security),
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


def kafka_credentials(security: KafkaSecurity) -> CredentialsT | None:
    """By Faust's names; its transport and its producer take them from there. Raises as ssl_context."""
    context = None if security.tls is None else ssl_context(security.tls)
    if isinstance(security.login, PasswordLogin):
        login = security.login
        return SASLCredentials(
            username=login.user, password=login.password, ssl_context=context, mechanism=login.mechanism
        )
    if security.login is not None:
        return OAuthCredentials(oauth_cb=AsyncTokenProvider(tokens_of(security.login)), ssl_context=context)
    return None if context is None else SSLCredentials(context)


def _subscribe(app: FlowApp, topic: str) -> None:
    """Faust joins the group for the topics that have an agent; a pipeline reads them."""
    channel = app.topic(topic, key_serializer="raw", value_serializer="raw")

    async def take_part(stream: Any) -> None:
        async for _ in stream.noack().events():
            raise AssertionError("records are the pipelines' to read")

    app.agent(channel, name=f"take-part-{topic}")(take_part)
