"""Faust as it comes, for the contestants built on it: defaults but for its web server, topics and where it begins."""

import asyncio
import signal

import faust


def stock_app(kafka: str, group: str) -> faust.App:
    """kafka: bootstrap servers."""
    return faust.App(
        group,
        broker=f"kafka://{kafka}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
    )


async def serve(app: faust.App) -> None:
    """Until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await app.start()
    await stop.wait()
    await app.stop()
