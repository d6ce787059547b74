"""Stock Faust passing events on: what it does beside Headgate when one of two processes is killed.

The whole program of this contestant; `python -m ops.bench.faults.faust_stall_peer` with the options of stall_peer.py.
Faust's defaults but for its web server, the topic it would create, and where to begin.
"""

import asyncio
import json
import signal
from typing import Any

import faust
import uvloop

from ops.bench.faults.stall_peer import StallOptions, read_options


def build_app(options: StallOptions) -> faust.App:
    app = faust.App(
        options.group,
        broker=f"kafka://{options.kafka}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )
    source = app.topic(options.source, key_serializer="raw", value_serializer="raw")
    target = app.topic(options.target, key_serializer="raw", value_serializer="raw")

    async def pass_on(stream: Any) -> None:
        async for key, value in stream.items():
            event_id = json.loads(value)["event_id"]
            await target.send(key=key, value=json.dumps({"event_id": event_id}).encode())

    app.agent(source)(pass_on)
    return app


async def serve(options: StallOptions) -> None:
    app = build_app(options)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await app.start()
    await stop.wait()
    await app.stop()


if __name__ == "__main__":
    uvloop.run(serve(read_options()))
