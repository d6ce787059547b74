"""Stock Faust as it comes: an agent that takes batches of events from the stream, and Faust's own aiokafka transport.

The whole program of this contestant; `python -m ops.bench.faust_peer` with the options of peer.py.
"""

from collections import defaultdict
from typing import Any

import faust
import uvloop

from ops.bench.peer import BATCH_RECORDS, PeerOptions, ScoringSink, read_options
from ops.bench.stock_faust import serve, stock_app
from streams.reading import FetchedRecord

#: A batch that is not full is taken after this many seconds.
WITHIN_SECONDS = 0.5


def build_app(options: PeerOptions, sink: ScoringSink) -> faust.App:
    app = stock_app(options.kafka, options.group)
    topic = app.topic(options.topic, key_serializer="raw", value_serializer="raw")

    async def score(stream: Any) -> None:
        async for events in stream.take_events(BATCH_RECORDS, within=WITHIN_SECONDS):
            records = defaultdict(list)
            for event in events:
                message = event.message
                timestamp = round(message.timestamp * 1000)
                records[message.partition].append(FetchedRecord(message.offset, timestamp, message.key, message.value))
            sink.write(records)

    app.agent(topic)(score)
    return app


if __name__ == "__main__":
    options = read_options()
    uvloop.run(serve(build_app(options, ScoringSink(options))))
