"""Stock Faust passing events on: what it does beside Headgate when one of two processes is killed.

The whole program of this contestant; `python -m ops.bench.faults.faust_stall_peer` with the options of stall_peer.py.
"""

import json
from typing import Any

import faust
import uvloop

from ops.bench.faults.stall_peer import StallOptions, read_options
from ops.bench.stock_faust import serve, stock_app


def build_app(options: StallOptions) -> faust.App:
    app = stock_app(options.kafka, options.group)
    source = app.topic(options.source, key_serializer="raw", value_serializer="raw")
    target = app.topic(options.target, key_serializer="raw", value_serializer="raw")

    async def pass_on(stream: Any) -> None:
        async for key, value in stream.items():
            event_id = json.loads(value)["event_id"]
            await target.send(key=key, value=json.dumps({"event_id": event_id}).encode())

    app.agent(source)(pass_on)
    return app


if __name__ == "__main__":
    uvloop.run(serve(build_app(read_options())))
