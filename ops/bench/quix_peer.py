"""Quix Streams: its consumer over librdkafka, and a sink of its kind that is flushed at each checkpoint.

The whole program of this contestant; `python -m ops.bench.quix_peer` with the options of peer.py.
"""

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from ops.bench.peer import BATCH_RECORDS, PeerOptions, ScoringSink, read_options


class CopySink(BatchingSink):
    """Quix calls `write` once for each partition at a checkpoint."""

    def __init__(self, sink: ScoringSink) -> None:
        super().__init__()
        self._sink = sink

    def write(self, batch: SinkBatch) -> None:
        self._sink.write({batch.partition: list(batch)})


def build_app(options: PeerOptions) -> Application:
    app = Application(
        options.kafka,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        commit_every=BATCH_RECORDS,
        auto_create_topics=False,
        loglevel="WARNING",
    )
    topic = app.topic(options.topic, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).sink(CopySink(ScoringSink(options)))
    return app


if __name__ == "__main__":
    build_app(read_options()).run()
