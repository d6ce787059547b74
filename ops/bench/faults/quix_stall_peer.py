"""Quix Streams passing events on: what it does beside Headgate when one of two processes is killed.

The whole program of this contestant; `python -m ops.bench.faults.quix_stall_peer` with the options of stall_peer.py.
Quix's defaults but for where to begin; --guarantee is its own `processing_guarantee`.
"""

from typing import Any

from quixstreams import Application

from ops.bench.faults.stall_peer import StallOptions, read_options


def event_id_alone(value: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": value["event_id"]}


def build_app(options: StallOptions) -> Application:
    app = Application(
        options.kafka,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        processing_guarantee=options.guarantee,
        loglevel="WARNING",
    )
    source = app.topic(options.source, key_deserializer="bytes", value_deserializer="json")
    target = app.topic(options.target, key_serializer="bytes", value_serializer="json")
    app.dataframe(source).apply(event_id_alone).to_topic(target)
    return app


if __name__ == "__main__":
    build_app(read_options()).run()
