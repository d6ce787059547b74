"""`headgate worker` with an impatient watchdog, and one of its parts that stops working after a few records.

A program of its own: `python -m tests.integration.hanging_worker PART`; settings as ever.
"""

import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from ops import worker
from ops.hanging import build_watchdog
from ops.terminal import load_settings
from streams.detection import DetectionProcessor
from streams.transport import Consumer

PATIENCE, LOOK = 6.0, 0.5


def stuck_thread() -> None:
    """The compute thread of the transactions waits for ever once it has records."""
    process = DetectionProcessor.process

    def planted(self: DetectionProcessor, chunks: Any, now: float) -> Any:
        if chunks:
            threading.Event().wait()
        return process(self, chunks, now)

    DetectionProcessor.process = planted  # type: ignore[method-assign]


def quiet_consumer() -> None:
    """The consumer finds nothing any more once it has found something."""
    getmany, found = Consumer.getmany, []

    async def planted(self: Consumer, timeout: float) -> AsyncIterator[Any]:
        if found:
            await self.sleep(0.1)
            return
        async for tp, message in getmany(self, timeout):
            if "transactions" in tp.topic:
                found.append(tp)
            yield tp, message

    Consumer.getmany = planted  # type: ignore[method-assign]


PARTS: Mapping[str, Callable[[], None]] = {
    "stuck-thread": stuck_thread,
    "quiet-consumer": quiet_consumer,
    "nothing": lambda: None,
}


def main() -> None:
    PARTS[sys.argv[1]]()
    worker.LOOK_SECONDS = LOOK  # type: ignore[attr-defined]
    worker.build_watchdog = lambda *parts: build_watchdog(*parts, patience=PATIENCE)  # type: ignore[attr-defined]
    worker.run_worker(load_settings())


if __name__ == "__main__":
    main()
