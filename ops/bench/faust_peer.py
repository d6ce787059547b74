"""Stock Faust as it comes: an agent that takes batches of events from the stream, and Faust's own aiokafka transport.

The whole program of this contestant; `python -m ops.bench.faust_peer` with the options of peer.py.
"""

import asyncio
import signal
from collections import defaultdict
from typing import Any, NamedTuple

import faust
import uvloop

from ops.bench.peer import BATCH_RECORDS, PeerOptions, ScoringSink, read_options

#: A batch that is not full is taken after this many seconds.
WITHIN_SECONDS = 0.5


class FaustRecord(NamedTuple):
    """An event's record as decoding wants it; timestamp in milliseconds."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def build_app(options: PeerOptions, sink: ScoringSink) -> faust.App:
    app = faust.App(
        options.group,
        broker=f"kafka://{options.kafka}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )
    topic = app.topic(options.topic, key_serializer="raw", value_serializer="raw")

    async def score(stream: Any) -> None:
        async for events in stream.take_events(BATCH_RECORDS, within=WITHIN_SECONDS):
            records = defaultdict(list)
            for event in events:
                message = event.message
                timestamp = round(message.timestamp * 1000)
                records[message.partition].append(FaustRecord(message.offset, timestamp, message.key, message.value))
            sink.write(records)

    app.agent(topic)(score)
    return app


async def serve(options: PeerOptions) -> None:
    app = build_app(options, ScoringSink(options))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await app.start()
    await stop.wait()
    await app.stop()


if __name__ == "__main__":
    uvloop.run(serve(read_options()))
