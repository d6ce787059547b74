"""`headgate worker` with an impatient watchdog, and one of its parts that stops working after a few records.

A program of its own: `python -m tests.integration.hanging_worker PART`; settings as ever.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ops import worker
from ops.hanging import build_watchdog
from ops.terminal import load_settings
from streams.batch import Chunk
from streams.detection import DetectionProcessor
from streams.reading import TopicReader

PATIENCE, LOOK = 12.0, 0.5


def stuck_thread() -> None:
    """The compute thread of the transactions waits for ever once it has records."""
    process = DetectionProcessor.process

    def planted(self: DetectionProcessor, chunks: Any, now: float) -> Any:
        if chunks:
            threading.Event().wait()
        return process(self, chunks, now)

    DetectionProcessor.process = planted  # type: ignore[method-assign]


def quiet_consumer() -> None:
    """The reader of the transactions finds nothing any more once it has found something."""
    take, found = TopicReader.take, list[Chunk]()

    def planted(self: TopicReader, most: int, timeout: float) -> list[Chunk]:
        if "transactions" not in self._topic:
            return take(self, most, timeout)
        if found:
            threading.Event().wait(timeout)
            return []
        found.extend(taken := take(self, most, timeout))
        return taken

    TopicReader.take = planted  # type: ignore[method-assign]


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
